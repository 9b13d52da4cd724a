"""The loss of trained weights, by one NumPy function for every peer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.data import Array, Problem

ROWS = 2048  # enough to tell losses apart, few enough to cost less than an epoch
SMALLEST = 1e-30  # of a probability, so that its logarithm is finite


def probabilities(X: Array, weights: Sequence[Array], biases: Sequence[Array]) -> Array:
    """Outputs (N, O) of a ReLU network on rows X (N, I): a sigmoid of one, a softmax of more."""
    a = X
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        a = np.maximum(a @ W + b, 0)
    z: Array = (a @ weights[-1] + biases[-1]).astype(np.float64)
    if z.shape[1] == 1:
        p: Array = 0.5 * (1 + np.tanh(z / 2))
    else:
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
    return p


def mean_loss(p: Array, y: Array) -> float:
    """Cross-entropy of probabilities (N, O) and labels (N,); one output is that of label 1."""
    two = np.hstack([1 - p, p]) if p.shape[1] == 1 else p
    of_label = two[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.maximum(of_label, SMALLEST)).mean())


def training_loss(problem: Problem, weights: Sequence[Array], biases: Sequence[Array]) -> float:
    """Loss of trained weights on the first rows of the training data."""
    return mean_loss(probabilities(problem.X[:ROWS], weights, biases), problem.y[:ROWS])
