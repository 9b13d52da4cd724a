"""Training in bfloat16 products: its loss curves stay within what another seed would change."""

from __future__ import annotations

import numpy as np
import pytest

import mlp
from mlp.backends import available_precisions
from mlp.data.sources import load_data

SEEDS = range(5)
EPOCHS = 12

pytestmark = pytest.mark.skipif(
    "bfloat16" not in available_precisions("cpu"), reason="this processor has no bfloat16 products"
)


def digits():
    data = load_data("digits")
    X = (data.X - data.X.mean(axis=0)) / np.maximum(data.X.std(axis=0), 1e-3)
    return X, data.y, [64, 32], "softmax", 10, "cross_entropy"


def teacher_and_student():
    """Values that a fixed random network gives, for another of its kind to learn."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 20))
    teacher = mlp.Network(20, [mlp.Dense(32, "tanh"), mlp.Dense(1)], device="numpy", seed=99)
    return X, teacher.forward(X) + 0.05 * rng.standard_normal((2000, 1)), [64], "identity", 1, "mse"


def curves(problem, precision: str) -> np.ndarray:
    """Losses (seeds, epochs)."""
    X, y, hidden, activation, outputs, loss = problem
    found = []
    for seed in SEEDS:
        layers = [*(mlp.Dense(width, "relu") for width in hidden), mlp.Dense(outputs, activation)]
        network = mlp.Network(X.shape[1], layers, device="cpu", precision=precision, seed=seed)
        trainer = mlp.Trainer(network, loss, mlp.Adam(1e-3), 32, seed=seed)
        found.append(trainer.fit(X, y, EPOCHS)["loss"])
    return np.array(found)


@pytest.mark.parametrize("task", [digits, teacher_and_student])
def test_the_precision_changes_less_than_the_seed(task):
    problem = task()
    single, half = curves(problem, "float32"), curves(problem, "bfloat16")
    assert not np.array_equal(single, half)
    between_seeds = single.max(axis=0) - single.min(axis=0)
    assert (np.abs(half - single) < between_seeds).all()
    assert (np.abs((half - single).mean(axis=0)) < single.std(axis=0)).all()
