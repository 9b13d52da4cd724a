"""This project, by its public names: `Trainer.fit` and `Network.forward`.

On a GPU the rows are CuPy arrays, which `fit` and `forward` use where they are; answers are NumPy
arrays on the host, as everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import mlp
from bench.cases import Case
from bench.data import Array, Problem


def build(case: Case, problem: Problem, device: str) -> mlp.Network:
    last = mlp.Dense(case.widths[-1], "sigmoid" if case.binary else "softmax")
    layers = [*(mlp.Dense(units, "relu") for units in case.widths[1:-1]), last]
    network = mlp.Network(case.widths[0], layers, device=device, precision=case.precision)
    network.set_parameters(problem.weights, problem.biases)
    return network


def placed(array: Array, device: str) -> Any:
    """The array itself, or a copy of it on the GPU."""
    if device == "cpu":
        return array
    copy = importlib.import_module("cupy").empty(array.shape, array.dtype)
    copy.set(array)
    return copy


class Marks:
    """Two events in the network's stream: see `bench.peers.protocol.Timer`."""

    def __init__(self, network: mlp.Network) -> None:
        self.on: Any = network.backend.on  # type: ignore[attr-defined] # of the GPU's backend
        self.first, self.last = self.on.event(timed=True), self.on.event(timed=True)

    def start(self) -> None:
        self.on.record(self.first)

    def stop(self) -> float:
        self.on.record(self.last)
        return float(self.on.seconds_between(self.first, self.last))


class Training:
    """`Trainer.fit`, with its checks of the rows, its history and its finite-loss guard."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.problem = case, problem
        self.X, self.y = placed(problem.X, device), placed(problem.y, device)
        self.network = build(case, problem, device)
        self.timer = None if device == "cpu" else Marks(self.network)
        self.reset()

    def reset(self) -> None:
        self.network.set_parameters(self.problem.weights, self.problem.biases)
        optimizer = mlp.Adam(lr=self.case.learning_rate)
        self.trainer = mlp.Trainer(self.network, self.case.loss, optimizer, self.case.batch)

    def run(self, epochs: int) -> float:
        return self.trainer.fit(self.X, self.y, epochs)["loss"][-1]

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return self.network.weights, self.network.biases


class Prediction:
    """`Network.forward`, rows where the network is, and NumPy probabilities out."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.network = build(case, problem, device)
        X = placed(problem.X, device)
        self.calls = [X[i : i + case.batch] for i in range(0, len(problem.X), case.batch)]

    def run(self) -> None:
        for rows in self.calls:
            self.answer = self.network.forward(rows)

    def probabilities(self) -> Array:
        return self.answer
