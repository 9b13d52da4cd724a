"""The baseline on a GPU: the loop that one writes first, each operation a CuPy call of its own.

What NumPy code becomes when `numpy` is replaced by `cupy`; no fusion, no graphs, nothing of this
project. Tests run it on NumPy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.cases import Case
from bench.data import Array, Problem

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def array_module(case: Case, device: str) -> Any:
    """CuPy, told how products of float32 are made, which it reads when it is first used."""
    if device == "cpu":
        return np
    os.environ["CUPY_TF32"] = str(int(case.precision == "tf32"))
    return importlib.import_module("cupy")


class Network:
    """Layers with ReLU between them; a sigmoid or a softmax at the end."""

    def __init__(self, case: Case, problem: Problem, xp: Any) -> None:
        self.xp, self.binary = xp, case.binary
        self.set_parameters(problem)

    def set_parameters(self, problem: Problem) -> None:
        self.weights = [self.xp.array(W) for W in problem.weights]
        self.biases = [self.xp.array(b) for b in problem.biases]

    def forward(self, x: Any) -> list[Any]:
        """The input and each layer's output, the last of them probabilities (B, O)."""
        xp, outputs = self.xp, [x]
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            outputs.append(xp.maximum(outputs[-1] @ W + b, 0))
        z = outputs[-1] @ self.weights[-1] + self.biases[-1]
        if self.binary:
            outputs.append(1 / (1 + xp.exp(-z)))
        else:
            e = xp.exp(z - z.max(axis=1, keepdims=True))
            outputs.append(e / e.sum(axis=1, keepdims=True))
        return outputs

    def backward(self, outputs: list[Any], delta: Any) -> list[Any]:
        """Gradients of all weights, then of all biases, from delta (B, O) at the last layer."""
        dWs: list[Any] = []
        dbs: list[Any] = []
        for i in reversed(range(len(self.weights))):
            dWs.insert(0, outputs[i].T @ delta)
            dbs.insert(0, delta.sum(axis=0))
            if i:
                delta = (delta @ self.weights[i].T) * (outputs[i] > 0)
        return dWs + dbs


class Training:
    """Rows stay on the device; a step gathers its batch."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.problem = case, problem
        self.xp = array_module(case, device)
        self.X, self.y = self.xp.asarray(problem.X), self.xp.asarray(problem.y)
        self.network = Network(case, problem, self.xp)
        self.random = self.xp.random.RandomState(0)
        self.reset()

    def reset(self) -> None:
        self.network.set_parameters(self.problem)
        self.m = [self.xp.zeros_like(p) for p in self._all_parameters()]
        self.v = [self.xp.zeros_like(p) for p in self._all_parameters()]
        self.t = 0

    def _all_parameters(self) -> list[Any]:
        return self.network.weights + self.network.biases

    def run(self, epochs: int) -> float:
        rows, batch = len(self.X), self.case.batch
        for _ in range(epochs):
            order = self.random.permutation(rows)
            losses = [self.step(order[start : start + batch]) for start in range(0, rows, batch)]
        return float(sum(losses) / len(losses))  # waits for the device

    def step(self, index: Any) -> Any:
        xp, x, y = self.xp, self.X[index], self.y[index]
        outputs = self.network.forward(x)
        p, tiny = outputs[-1], np.float32(1e-30)
        if self.case.binary:
            target = y[:, None].astype(np.float32)
            of_label = xp.where(target > 0, p, 1 - p)
        else:
            rows = xp.arange(len(y))
            target = xp.zeros_like(p)
            target[rows, y] = 1
            of_label = p[rows, y]
        loss = -xp.log(xp.maximum(of_label, tiny)).mean()
        self.update(self.network.backward(outputs, (p - target) / np.float32(len(y))))
        return loss

    def update(self, gradients: list[Any]) -> None:
        """Adam."""
        self.t += 1
        rate = self.case.learning_rate / (1 - BETA1**self.t)
        correction = (1 - BETA2**self.t) ** 0.5
        for p, g, m, v in zip(self._all_parameters(), gradients, self.m, self.v, strict=True):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * g * g
            p -= rate * m / (self.xp.sqrt(v) / correction + EPS)

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return [_host(W) for W in self.network.weights], [_host(b) for b in self.network.biases]


class Prediction:
    """The forward pass; the answer is copied to the host, which waits for it."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        xp = array_module(case, device)
        self.network, X = Network(case, problem, xp), xp.asarray(problem.X)
        self.calls = [X[i : i + case.batch] for i in range(0, len(X), case.batch)]

    def run(self) -> None:
        for rows in self.calls:
            self.answer = _host(self.network.forward(rows)[-1])

    def probabilities(self) -> Array:
        return self.answer


def _host(array: Any) -> Array:
    """A NumPy array of it."""
    host: Array = array.get() if hasattr(array, "get") else array
    return host
