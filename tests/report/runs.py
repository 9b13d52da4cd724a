"""Small trained networks of every kind that a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mlp
from mlp.report import write_report
from tests.report.reading import Node, read


@dataclass
class Run:
    """A trainer that has trained, and what `write_report` takes beside it."""

    trainer: mlp.Trainer
    X: Any
    y: Any
    validation: tuple[Any, ...] | None
    callbacks: list[Any]

    def report(self, path: Path, **settings: Any) -> Node:
        """The page, read back."""
        write_report(
            path, self.trainer, self.X, self.y, self.validation,
            callbacks=self.callbacks, **settings,
        )  # fmt: skip
        return read(path.read_text(encoding="utf-8"))


def rows(count: int, seed: int, inputs: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, inputs))


def labels(X: np.ndarray, classes: int) -> np.ndarray:
    """Labels that depend on the rows, with some noise: not all can be told."""
    noise = np.random.default_rng(len(X)).standard_normal(len(X))
    return np.digitize(X[:, 0] + 0.3 * noise, np.linspace(-1, 1, classes - 1))


def values(X: np.ndarray, outputs: int) -> np.ndarray:
    noise = np.random.default_rng(len(X)).standard_normal((len(X), outputs))
    return 50 + 10 * (X[:, :1] + np.arange(outputs) * X[:, 1:2]) + noise


def train(
    X: np.ndarray, y: Any, outputs: int, activation: str, loss: str, validation: Any = None,
    epochs: int = 3, norms: bool = True, **attributes: Any,
) -> Run:  # fmt: skip
    layers = [mlp.Dense(5, "tanh"), mlp.Dense(outputs, activation)]
    net = mlp.Network(X.shape[1], layers, device="numpy", seed=1)
    for name, value in attributes.items():
        setattr(net, name, value)
    trainer = mlp.Trainer(net, loss, mlp.Adam(0.03), batch_size=16)
    hooks: list[Any] = [mlp.BestWeights()]
    if norms:
        hooks.append(mlp.NormsLog(X, y))
    trainer.fit(X, y, epochs, validation=validation, callbacks=hooks)
    return Run(trainer, X, y, validation, hooks)


def three_classes(**settings: Any) -> Run:
    X, Xv = rows(90, 0), rows(40, 1)
    return train(
        X, labels(X, 3), 3, "softmax", "cross_entropy", (Xv, labels(Xv, 3)), **settings
    )  # fmt: skip


def two_outputs(**settings: Any) -> Run:
    X, Xv = rows(90, 0), rows(40, 1)
    y = values(X, 2)
    scaler = mlp.Standardizer.fit(y)
    return train(X, y, 2, "identity", "mse", (Xv, values(Xv, 2)), target_scaler=scaler, **settings)
