"""What the exchange formats load: nothing heavy by their names, and only what a call needs."""

from tests.test_architecture import loaded_by

HEAVY = {"onnx", "onnxruntime", "torch", "sklearn", "pyarrow", "scipy", "numba"}


def test_public_names_load_nothing_heavy() -> None:
    code = "import mlp\nmlp.export_onnx, mlp.to_torch, mlp.from_torch, mlp.to_sklearn"
    assert not loaded_by(code) & HEAVY


def test_reading_a_state_dict_needs_no_pytorch() -> None:
    code = (
        "import mlp\n"
        "mlp.from_torch({'0.weight': [[1.0, 2.0]]}, ['relu'], device='numpy').predict([[1, 2]])"
    )
    assert not loaded_by(code) & HEAVY
