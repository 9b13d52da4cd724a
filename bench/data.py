"""The rows, labels and initial weights of a case: made once, the same for every peer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench.cases import Case

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SEED = 20
LATENT = 16  # numbers that a made row varies in, as pictures vary in fewer than their pixels


@dataclass(frozen=True)
class Problem:
    """What a peer is given.

    Attributes:
        X: rows (N, I) float32.
        y: labels (N,) int64.
        weights: initial W (I, O) float32 of each layer.
        biases: initial b (O,) float32 of each layer.
    """

    X: Array
    y: Array
    weights: list[Array]
    biases: list[Array]

    def head(self, rows: int) -> Problem:
        """The same network on the first rows alone."""
        return Problem(self.X[:rows], self.y[:rows], self.weights, self.biases)

    def save(self, path: Path) -> None:
        layers = {f"W{i}": W for i, W in enumerate(self.weights)}
        layers |= {f"b{i}": b for i, b in enumerate(self.biases)}
        np.savez(path, X=self.X, y=self.y, allow_pickle=False, **layers)

    @classmethod
    def load(cls, path: Path) -> Problem:
        with np.load(path, allow_pickle=False) as file:
            count = sum(name.startswith("W") for name in file.files)
            weights = [file[f"W{i}"] for i in range(count)]
            return cls(file["X"], file["y"], weights, [file[f"b{i}"] for i in range(count)])


def make_problem(case: Case) -> Problem:
    rng = np.random.default_rng(SEED)
    weights, biases = initial_parameters(case.widths, rng)
    X, y = _digits(case.rows) if case.data == "digits" else _taught(case, rng)
    return Problem(*_every_class_first(X, y), weights, biases)


def _every_class_first(X: Array, y: Array) -> tuple[Array, Array]:
    """Swaps a row of each class to the front: the first batch alone then has all of them."""
    for place, label in enumerate(np.unique(y)):
        found = place + int(np.argmax(y[place:] == label))
        for array in (X, y):
            array[[place, found]] = array[[found, place]]
    return X, y


def initial_parameters(
    widths: tuple[int, ...], rng: np.random.Generator
) -> tuple[list[Array], list[Array]]:
    """He's normal weights below a ReLU, Glorot's in the last layer, and biases of 0."""
    weights = []
    for layer, (i, o) in enumerate(pairwise(widths)):
        variance = 2 / (i + o) if layer == len(widths) - 2 else 2 / i
        W = rng.standard_normal((i, o), dtype=np.float32)
        weights.append(W * np.float32(np.sqrt(variance)))
    return weights, [np.zeros(o, np.float32) for o in widths[1:]]


def _digits(rows: int) -> tuple[Array, Array]:
    """The first of scikit-learn's handwritten digits, pixels in [0, 1]."""
    from mlp.data.sources import load_data

    data = load_data("digits")
    assert data.y is not None
    X = np.asarray(data.X[:rows], np.float32) / np.float32(16)
    return X, np.asarray(data.y[:rows]).astype(np.int64)


def _taught(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """Rows of a few latent numbers, mixed, with noise; labels by a random network of those."""
    inputs, outputs = case.widths[0], case.widths[-1]
    latent = rng.standard_normal((case.rows, LATENT), dtype=np.float32)
    mixing = rng.standard_normal((LATENT, inputs), dtype=np.float32) / np.float32(LATENT**0.5)
    X = latent @ mixing
    X += np.float32(0.5) * rng.standard_normal(X.shape, dtype=np.float32)
    hidden = np.tanh(latent @ rng.standard_normal((LATENT, 32), dtype=np.float32))
    scores = hidden @ rng.standard_normal((32, outputs), dtype=np.float32)
    if case.binary:
        return X, (scores[:, 0] > np.median(scores)).astype(np.int64)
    return X, scores.argmax(axis=1).astype(np.int64)
