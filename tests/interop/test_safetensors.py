"""Model files in the hands of others: the official loader, without this package."""

import numpy as np
import safetensors.numpy
from safetensors import safe_open

import mlp
from tests import problems
from tests.interop.made import answering, deep, raw_rows


def test_the_official_loader_reads_names_and_weights(tmp_path) -> None:
    net = deep("silu", 2, "float32")
    net.save(tmp_path / "model.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert sorted(tensors) == [f"layers.{i}.{k}" for i in range(3) for k in ("bias", "weight")]
    for i, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        assert tensors[f"layers.{i}.weight"].tobytes() == W.tobytes()
        assert tensors[f"layers.{i}.weight"].shape == (net.spec.widths[i], net.spec.widths[i + 1])
        assert tensors[f"layers.{i}.bias"].tobytes() == b.tobytes()


def test_a_prediction_by_hand(tmp_path) -> None:
    """What docs/interop.md says of the file is enough to predict with NumPy alone."""
    net, X = answering("named classes"), raw_rows(20)
    net.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        at = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    x = (X - at["preprocessing.mean"]) / at["preprocessing.scale"]
    a = np.tanh(x @ at["layers.0.weight"] + at["layers.0.bias"])
    z = np.exp(a @ at["layers.1.weight"] + at["layers.1.bias"])
    probabilities = z / z.sum(axis=1, keepdims=True)
    assert problems.difference(net.forward(X), probabilities) < 1e-14


def test_the_scaler_of_values_is_there_too(tmp_path) -> None:
    net = answering("values")
    net.save(tmp_path / "model.safetensors")
    at = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    X = raw_rows(9)
    by_hand = net.forward(X) * at["target.scale"] + at["target.mean"]
    assert (
        problems.difference(mlp.load(tmp_path / "model.safetensors", "numpy").predict(X), by_hand)
        < 1e-14
    )
