"""PyTorch's state_dicts without PyTorch: read, written, and refused with one sentence.

What PyTorch makes of the files is in tests/parity/test_torch_sequential.py.
"""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import mlp
from mlp.errors import InvalidInput, InvalidSetting, MLPError, ModelFileError
from mlp.gradcheck import float64_copy
from tests import problems
from tests.interop.made import HIDDEN, OUTPUTS, answering, deep, network, raw_rows

rng = np.random.default_rng(0)


def state_dict(*widths: int, dtype=np.float32) -> dict[str, np.ndarray]:
    """As nn.Sequential(Linear, activation, Linear, ...) has it."""
    made = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        made[f"{2 * i}.weight"] = rng.standard_normal((outputs, inputs)).astype(dtype)
        made[f"{2 * i}.bias"] = rng.standard_normal(outputs).astype(dtype)
    return made


@pytest.mark.parametrize("activation", HIDDEN)
def test_the_names_count_the_modules(activation: str, tmp_path: Path) -> None:
    net = deep(activation, 2)  # with dropout behind each hidden layer
    line = mlp.to_torch(net, tmp_path / "a.safetensors")
    modules = re.findall(r"nn\.(\w+)\(", line)[1:]
    step = 2 if activation == "identity" else 3
    assert [i for i, name in enumerate(modules) if name == "Linear"] == [0, step, 2 * step]
    assert modules.count("Dropout") == 2
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    for i, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        assert np.array_equal(tensors.pop(f"{i * step}.weight"), W.T)
        assert np.array_equal(tensors.pop(f"{i * step}.bias"), b)
    assert not tensors


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_there_and_back(kind: str, precision: str, tmp_path: Path) -> None:
    net, X = answering(kind, precision), raw_rows(30)
    line = mlp.to_torch(net, tmp_path / "a.safetensors")
    assert line.startswith("nn.Sequential(nn.BatchNorm1d(4, eps=0.0, affine=False")
    assert ("dtype=torch.float64" in line) == (precision == "float64")
    back = mlp.from_torch(tmp_path / "a.safetensors", device="numpy")
    assert (back.spec, back.classes, back.loss, back.dtype) == (
        net.spec, net.classes, net.loss, net.dtype,
    )  # fmt: skip
    found, truth = back.predict(X), net.predict(X)
    if truth.dtype.kind != "f" or net.classes is not None:
        assert found.tolist() == truth.tolist()
    else:
        assert problems.difference(found, truth) < {"float32": 2e-6, "float64": 1e-13}[precision]


def test_a_mean_that_float32_rounds_is_made_good(tmp_path: Path) -> None:
    """100000.3 becomes 100000.296875, 0.4 % of the spread: the first bias takes that off again."""
    net = network([(5, "tanh"), (2, "identity")], "float32", inputs=1)
    net.preprocessing = mlp.Standardizer(np.array([100000.3]), np.array([0.7]))
    mlp.to_torch(net, tmp_path / "a.safetensors")
    back = mlp.from_torch(tmp_path / "a.safetensors", device="numpy", precision="float64")
    X = np.array([[99999.5], [100000.0], [100001.25]])
    assert problems.difference(back.forward(X), float64_copy(net).forward(X)) < 1e-6


def test_a_foreign_state_dict(tmp_path: Path) -> None:
    given = state_dict(4, 7, 3)
    safetensors.numpy.save_file(given, tmp_path / "foreign.safetensors")
    X = problems.rows(10, 4)
    hidden = np.maximum(X @ given["0.weight"].T + given["0.bias"], 0)
    truth = hidden @ given["2.weight"].T + given["2.bias"]
    for source in (tmp_path / "foreign.safetensors", str(tmp_path / "foreign.safetensors"), given):
        net = mlp.from_torch(source, ["relu", "identity"], device="numpy", precision="float64")
        assert problems.difference(net.forward(X), truth) < 1e-14
    assert mlp.from_torch(given, ["relu", "identity"], device="numpy").precision == "float32"
    double = state_dict(4, 3, dtype=np.float64)
    assert mlp.from_torch(double, ["relu"], device="numpy").precision == "float64"


def test_other_names_other_orders_and_missing_biases() -> None:
    given = {
        # Text would sort 10 before 2.
        "net.fc10.weight": np.full((1, 2), 2.0),
        "net.fc2.weight": np.ones((2, 3)),
        "net.fc2.bias": np.array([10.0, 20.0]),
    }
    net = mlp.from_torch(given, ["identity", "identity"], device="numpy")
    assert net.forward([[1.0, 2.0, 3.0]]).tolist() == [[2 * (6 + 10) + 2 * (6 + 20)]]
    assert net.biases[1].tolist() == [0]
    inner = {"blocks.0.linear.weight": np.ones((1, 3))}
    assert mlp.from_torch(inner, ["relu"], device="numpy").spec.widths == (3, 1)


def changed(**new) -> dict[str, np.ndarray]:
    given = state_dict(4, 7, 3) | {name.replace("_", "."): value for name, value in new.items()}
    return {name: value for name, value in given.items() if value is not None}


REFUSED = [
    ({"0_weight": np.ones((8, 3, 5, 5))}, "shape (8, 3, 5, 5), as of a convolution, not a dense"),
    ({"0_weight": np.ones((8, 3, 5))}, "as of a convolution"),
    ({"1_weight": np.ones(7)}, "'1.weight' has shape (7,), as of a normalisation or a PReLU"),
    ({"1_running.mean": np.ones(7)}, "'1.running.mean' is not the weight or bias of a numbered"),
    ({"2_weight": np.ones((3, 8))}, "'2.weight' takes 8 inputs, but '0.weight' before it gives 7"),
    ({"2_bias": np.ones(4)}, "'2.bias' has shape (4,), but '2.weight' has 3 outputs"),
    ({"0_weight": None}, "there is '0.bias', but no '0.weight'"),
    ({"out_weight": np.ones((3, 3))}, "'out.weight' is not the weight or bias of a numbered layer"),
    ({"fc4_weight": np.ones((3, 3))}, "several families (N, fcN), so their order is not known"),
    ({"0_weight": np.array(["a"])}, "'0.weight' is no array of numbers"),
    ({"0_weight": [[1.0], [1.0, 2.0]]}, "'0.weight' is no array of numbers"),
    ({"0_weight": np.ones((7, 0))}, "not a dense layer's (O, I)"),
    ({"0_weight": np.full((7, 4), np.nan)}, "not finite"),
    ({"state_dict": {"0.weight": np.ones((7, 4))}}, "is a mapping itself: pass that"),
]


@pytest.mark.parametrize(("new", "sentence"), REFUSED)
def test_what_is_no_multi_layer_perceptron(new: dict, sentence: str) -> None:
    given = changed(**new) | ({"state_dict": new["state_dict"]} if "state_dict" in new else {})
    with pytest.raises(InvalidInput, match=re.escape(sentence)) as caught:
        mlp.from_torch(given, ["relu", "identity"], device="numpy")
    assert "\n" not in str(caught.value)


def test_batch_normalisation_is_refused_unless_it_standardises() -> None:
    given = {"0.running_mean": np.array([1.0, 2.0]), "0.running_var": np.array([4.0, 0.25])}
    given |= {"0.num_batches_tracked": np.array(7), "1.weight": np.ones((1, 2))}
    with pytest.raises(InvalidInput, match=r"'0.running_mean' belongs to batch .* standardized=T"):
        mlp.from_torch(given, ["identity"])
    net = mlp.from_torch(given, ["identity"], standardized=True, device="numpy")
    assert net.forward([[5.0, 1.0]]).tolist() == [[(5 - 1) / 2 + (1 - 2) / 0.5]]
    for name, value in (
        ("0.running_var", np.array([4.0, -1.0])),
        ("0.running_var", np.ones(3)),
        ("0.running_mean", np.array([np.nan, 1.0])),
    ):
        with pytest.raises(InvalidInput, match="the standardisation is"):
            mlp.from_torch(given | {name: value}, ["identity"], standardized=True)


def test_activations_have_to_be_said() -> None:
    given = state_dict(4, 7, 3)
    for activations in (None, "relu", ["relu"], ["relu", "relu", "relu"]):
        with pytest.raises(InvalidSetting, match=r"2 layers \(4 -> 7 -> 3\) and says no activ"):
            mlp.from_torch(given, activations)
    with pytest.raises(InvalidSetting, match="did you mean 'relu'"):
        mlp.from_torch(given, ["rleu", "identity"])
    with pytest.raises(InvalidInput, match="is empty"):
        mlp.from_torch({}, ["relu"])


def test_files_that_are_no_state_dict(tmp_path: Path) -> None:
    net = deep("relu", 1)
    net.save(tmp_path / "ours.safetensors")
    mlp.to_torch(net, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "a.onnx").write_bytes(b"")
    for name, sentence in (
        ("ours.safetensors", "a model file of mlp, not a state_dict: read it by mlp.load"),
        ("half.safetensors", "not a readable safetensors file"),
        ("folder.safetensors", "is a folder"),
        ("none.safetensors", "there is no such file"),
        ("a.onnx", "a .safetensors, .pt or .pth file was expected"),
    ):
        with pytest.raises(ModelFileError, match=re.escape(sentence)) as caught:
            mlp.from_torch(tmp_path / name, ["relu", "identity"])
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("network"),
        lambda about: about.pop("standardized"),
        lambda about: about.update(precision="float23"),
        lambda about: about.update(loss={"name": "nonsense"}),
        lambda about: about.update(classes=["a"]),
        lambda about: about["network"]["layers"].pop(),
        lambda about: about["network"]["layers"][0].update(units=8),
        lambda about: about["network"]["layers"][0].update(activation=3),
    ],
)
def test_a_damaged_description(change, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    mlp.to_torch(answering("classes"), path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["fused_mlp_torch"])
    change(about)
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(tensors, path, metadata={"fused_mlp_torch": json.dumps(about)})
    with pytest.raises(MLPError) as caught:
        mlp.from_torch(path, device="numpy")
    assert "\n" not in str(caught.value)


def test_bfloat16_tensors(tmp_path: Path) -> None:
    """With ml_dtypes, which NumPy needs for them, they are read; without it a sentence says so."""
    header = {"0.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x80\x3f\x00\xc0")  # 1, -2
    script = (
        f"import sys; sys.path[:0] = {sys.path}; sys.modules['ml_dtypes'] = None\n"
        "from mlp.interop.torch import from_torch\n"
        f"try: from_torch({str(path)!r}, ['identity'], device='numpy')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("ModelFileError")
    assert "save them in float32" in run.stdout
    pytest.importorskip("ml_dtypes")
    net = mlp.from_torch(path, ["identity"], device="numpy")
    assert net.weights[0].tolist() == [[1.0], [-2.0]]


def test_a_pt_file_without_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(
        InvalidSetting, match=r"a.pt: reading a .pt file needs torch, .*pip install"
    ):
        mlp.from_torch(tmp_path / "a.pt", ["relu"])


def test_what_pytorch_cannot_take(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InvalidSetting, match=r"name it .safetensors"):
        mlp.to_torch(answering("classes"), tmp_path / "a.pt")
    behind = answering("values of softplus")
    behind.target_scaler = mlp.Standardizer(np.zeros(2), np.ones(2))
    with pytest.raises(InvalidSetting, match="target scaler behind the output activation 'softpl"):
        mlp.to_torch(behind, path)
    for mean, scale in ((1.0, 1e-30), (1e39, 1e30)):
        net = network([(3, "identity")], "float32", inputs=1)
        net.preprocessing = mlp.Standardizer(np.array([mean]), np.array([scale]))
        with pytest.raises(InvalidInput, match=r"feature 0 has a mean of .* export the model in"):
            mlp.to_torch(net, path)
    assert not path.exists()
