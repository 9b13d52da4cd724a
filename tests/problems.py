"""Small problems that several tests train on, and how far apart two arrays are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import mlp
from mlp.backends.protocol import Backend
from mlp.losses import Loss, get_loss


def rows(count: int, inputs: int, seed: int = 0) -> np.ndarray:
    """Standard normal rows (count, inputs)."""
    return np.random.default_rng(seed).standard_normal((count, inputs))


def target(kind: str, count: int, outputs: int, seed: int = 1) -> np.ndarray:
    """Targets of a kind: "labels", "one_hot", "soft" rows, "unit", "yes_no", "counts", "values"."""
    rng = np.random.default_rng(seed)
    if kind == "labels":
        return rng.integers(0, outputs, count)
    if kind == "one_hot":
        return np.eye(outputs)[rng.integers(0, outputs, count)]
    if kind == "soft":
        drawn = rng.random((count, outputs)) + 0.05
        return drawn / drawn.sum(axis=1, keepdims=True)
    if kind == "unit":
        return rng.random((count, outputs))
    if kind == "yes_no":
        return rng.integers(0, 2, (count, outputs)).astype(float)
    if kind == "counts":
        return rng.poisson(2.0, (count, outputs)).astype(float)
    return rng.standard_normal((count, outputs))


def kind_of(loss: str | Loss) -> str:
    """A kind of target that the loss takes."""
    return {"classes": "labels"}.get(get_loss(loss).targets, get_loss(loss).targets)


def network(
    inputs: int,
    layers: Sequence[tuple[int, str] | mlp.Dense],
    backend: Backend,
    precision: str = "float64",
    seed: int = 0,
) -> mlp.Network:
    """A network of (units, activation) layers whose biases are not 0, so that each one counts."""
    stack = [layer if isinstance(layer, mlp.Dense) else mlp.Dense(*layer) for layer in layers]
    net = mlp.Network(inputs, stack, device=backend.name, precision=precision, seed=seed)
    rng = np.random.default_rng(seed + 100)
    net.set_parameters(net.weights, [0.3 * rng.standard_normal(b.shape) for b in net.biases])
    return net


def parameters(net: mlp.Network) -> list[np.ndarray]:
    """Host copies of all weights, then all biases."""
    return [*net.weights, *net.biases]


def difference(actual: Any, expected: Any) -> float:
    """Largest difference, as a share of the largest expected number (of 1 where all are 0)."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    return float(np.abs(actual - expected).max() / (np.abs(expected).max() or 1.0))


def assert_all_close(actual: Sequence[Any], expected: Sequence[Any], bound: float) -> None:
    """Each pair of arrays differs by less than `bound`, see `difference`."""
    found = [difference(a, e) for a, e in zip(actual, expected, strict=True)]
    assert max(found) < bound, f"largest differences: {found}"
