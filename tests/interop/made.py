"""Random networks of every activation and of every kind of output, for all exchange formats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import mlp
from mlp.activations import ACTIVATIONS
from mlp.backends import get_backend
from tests import problems

HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]
INPUTS = 4

# What a network may answer with: (outputs, activation, loss, classes).
OUTPUTS = {
    "classes": (3, "softmax", "cross_entropy", None),
    "named classes": (3, "softmax", "cross_entropy", ("zebra", "ape", "dög")),
    "numbered classes": (3, "softmax", "cross_entropy", (7, 3, 5)),
    "classes of fractions": (3, "softmax", "cross_entropy", (0.5, 1.5, -1.0)),
    "two classes": (1, "sigmoid", "binary_cross_entropy", ("yes", "no")),
    "two booleans": (1, "sigmoid", "binary_cross_entropy", (False, True)),
    "two numbers": (1, "sigmoid", "binary_cross_entropy", None),
    "softmax of two": (2, "softmax", "cross_entropy", ("b", "a")),
    "several labels": (3, "sigmoid", "binary_cross_entropy", None),
    "never trained": (3, "sigmoid", None, None),
    "cross entropy of sigmoids": (3, "sigmoid", "cross_entropy", None),
    "counts": (2, "identity", "poisson", None),
    "counts beside a scaler": (2, "identity", "poisson", None),
    "one value": (1, "identity", "mse", None),
    "values": (3, "identity", "huber", None),
    "absolute values": (2, "identity", "mae", None),
    "half squares": (2, "identity", "half_squared_error", None),
    "values of sigmoids": (2, "sigmoid", "mse", None),
    "values of softplus": (2, "softplus", "mse", None),
    "values of a softmax by mse": (3, "softmax", "mse", None),
}


def network(
    layers: Sequence[tuple[int, str] | mlp.Dense],
    precision: str = "float64",
    seed: int = 0,
    inputs: int = INPUTS,
) -> mlp.Network:
    """Random weights and biases; the last ones large enough that outputs differ between rows."""
    return problems.network(inputs, layers, get_backend("numpy"), precision, seed)


def deep(activation: str, depth: int, precision: str = "float64") -> mlp.Network:
    """`depth` hidden layers of one activation, and one output of each sign of a linear layer."""
    widths = [7, 5, 9, 6][:depth]
    layers = [mlp.Dense(units, activation, dropout=0.1) for units in widths]
    return network([*layers, (3, "identity")], precision, seed=depth)


def answering(kind: str, precision: str = "float64", *, standardized: bool = True) -> mlp.Network:
    """A network with one of OUTPUTS; values are scaled back by a target scaler."""
    outputs, activation, loss, classes = OUTPUTS[kind]
    made = network([(6, "tanh"), (outputs, activation)], precision)
    made.loss, made.classes = loss, classes
    if standardized:
        made.preprocessing = mlp.Standardizer.fit(raw_rows(40))
    if activation == "identity" and kind != "counts":
        made.target_scaler = mlp.Standardizer.fit(
            100 + 5 * np.random.default_rng(3).standard_normal((20, outputs))
        )
    return made


def raw_rows(count: int, seed: int = 5) -> np.ndarray:
    """Rows whose columns have means far from 0, exact in float32."""
    drawn = problems.rows(count, INPUTS, seed)
    raw = drawn * [1.0, 10.0, 0.1, 3.0] + [0.0, 2000.0, -5.0, 40.0]
    return raw.astype(np.float32).astype(np.float64)
