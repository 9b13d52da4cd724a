"""Training by the GPU backend's own code, its kernels run on the host, its CuPy a stand-in."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

import mlp
from tests.tolerances import SAME_RUN_LOSS

pytestmark = pytest.mark.usefixtures("cupy")
PRECISIONS = ["float64", "float32", "tf32", "bfloat16", "float16"]


def digits(rows: int = 1797):
    X, y = load_digits(return_X_y=True)
    return (X[:rows] / 16).astype(np.float32), y[:rows]


def classifier(device: str, precision: str = "float32", dropout: float = 0.1) -> mlp.Network:
    layers = [mlp.Dense(128, "relu", dropout=dropout), mlp.Dense(10, "softmax")]
    return mlp.Network(64, layers, device=device, precision=precision, seed=0)


def trained(device: str, precision: str, epochs: int, rows: int = 1797):
    """(network, losses of the epochs)."""
    net = classifier(device, precision)
    X, y = digits(rows)
    trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(3e-3), batch_size=128, seed=1)
    return net, trainer.fit(X, y, epochs)["loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_digits_are_learnt(precision):
    """A whole run: shuffles, dropout, graphs, a ragged last batch, and prediction."""
    net, losses = trained("cuda", precision, 4)
    _, expected = trained("cpu", "float32", 4)
    np.testing.assert_allclose(losses, expected, rtol=SAME_RUN_LOSS[precision])
    X, y = digits()
    assert (net.predict(X) == y).mean() > 0.93


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_repeated_run_gives_the_same_bits(precision):
    first, losses = trained("cuda", precision, 2, rows=300)
    again, same = trained("cuda", precision, 2, rows=300)
    assert losses == same
    for a, b in zip(first.weights + first.biases, again.weights + again.biases, strict=True):
        np.testing.assert_array_equal(a, b)
