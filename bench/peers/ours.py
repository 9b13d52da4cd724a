"""This project, by its public names: `Trainer.fit` and `Network.forward` on the device "cpu"."""

from __future__ import annotations

from collections.abc import Sequence

import mlp
from bench.cases import Case
from bench.data import Array, Problem

# Names of mlp are loaded when first used, and the kernels with the first network: loaded here, they
# count as imports, as the other libraries' do.
mlp.Trainer(mlp.Network(1, [mlp.Dense(1)], device="cpu"), "mse")


def build(case: Case, problem: Problem) -> mlp.Network:
    last = mlp.Dense(case.widths[-1], "sigmoid" if case.binary else "softmax")
    layers = [*(mlp.Dense(units, "relu") for units in case.widths[1:-1]), last]
    network = mlp.Network(case.widths[0], layers, device="cpu", precision=case.precision)
    network.set_parameters(problem.weights, problem.biases)
    return network


class Training:
    """`Trainer.fit`, with its checks of the rows, its history and its finite-loss guard."""

    def __init__(self, case: Case, problem: Problem, threads: int) -> None:
        self.case, self.problem = case, problem
        self.network = build(case, problem)
        self.reset()

    def reset(self) -> None:
        self.network.set_parameters(self.problem.weights, self.problem.biases)
        optimizer = mlp.Adam(lr=self.case.learning_rate)
        self.trainer = mlp.Trainer(self.network, self.case.loss, optimizer, self.case.batch)

    def run(self, epochs: int) -> float:
        return self.trainer.fit(self.problem.X, self.problem.y, epochs)["loss"][-1]

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return self.network.weights, self.network.biases


class Prediction:
    """`Network.forward`, NumPy rows in and NumPy probabilities out."""

    def __init__(self, case: Case, problem: Problem, threads: int) -> None:
        self.network = build(case, problem)
        self.calls = [problem.X[i : i + case.batch] for i in range(0, len(problem.X), case.batch)]

    def run(self) -> None:
        for rows in self.calls:
            self.answer = self.network.forward(rows)

    def probabilities(self) -> Array:
        return self.answer
