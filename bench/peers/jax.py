"""JAX with optax: an epoch is one jitted `lax.scan`, its buffers donated, its rows on the device.

The order of the rows comes from NumPy: `jax.random.permutation` sorts, which on a CPU took as long
as all the rest of an epoch of a small network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.cases import Case
from bench.data import Array, Problem

BLOCK_ROWS = 8000  # the fastest of 1000, 8000, 50000 and 1e6 on 64-128-64-10


def on_device(problem: Problem) -> list[tuple[Any, Any]]:
    """(W, b) of each layer, in buffers of their own, since training donates them."""
    return [
        (jnp.array(W, copy=True), jnp.array(b, copy=True))
        for W, b in zip(problem.weights, problem.biases, strict=True)
    ]


def logits(layers: list[tuple[Any, Any]], x: Any) -> Any:
    for W, b in layers[:-1]:
        x = jax.nn.relu(x @ W + b)
    W, b = layers[-1]
    return x @ W + b


class Training:
    """Parameters and optimizer state go round in the scan's carry; each step gathers its rows."""

    def __init__(self, case: Case, problem: Problem, threads: int) -> None:
        self.case, self.problem = case, problem
        self.X = jnp.asarray(problem.X)
        label = problem.y.astype(np.float32)[:, None] if case.binary else problem.y
        self.y = jnp.asarray(label)
        self.optimizer = optax.adam(case.learning_rate)
        self.rng = np.random.default_rng(0)
        self.epoch = jax.jit(self._epoch, donate_argnums=(0, 1))
        self.reset()

    def reset(self) -> None:
        self.layers = on_device(self.problem)
        self.state = self.optimizer.init(self.layers)

    def run(self, epochs: int) -> float:
        rows, batch = self.X.shape[0], self.case.batch
        for _ in range(epochs):
            order = self.rng.permutation(rows).astype(np.int32).reshape(-1, batch)
            self.layers, self.state, loss = self.epoch(
                self.layers, self.state, self.X, self.y, order
            )
        return float(jax.block_until_ready((loss, self.layers))[0])

    def _epoch(self, layers: Any, state: Any, X: Any, y: Any, order: Any) -> tuple[Any, Any, Any]:
        def step(carry: Any, index: Any) -> tuple[Any, Any]:
            layers, state = carry
            loss, gradients = jax.value_and_grad(self._loss)(layers, X[index], y[index])
            updates, state = self.optimizer.update(gradients, state, layers)
            return (optax.apply_updates(layers, updates), state), loss

        (layers, state), losses = jax.lax.scan(step, (layers, state), order)
        return layers, state, losses.mean()

    def _loss(self, layers: Any, x: Any, target: Any) -> Any:
        z = logits(layers, x)
        if self.case.binary:
            return optax.sigmoid_binary_cross_entropy(z, target).mean()
        return optax.softmax_cross_entropy_with_integer_labels(z, target).mean()

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return [np.asarray(W) for W, _ in self.layers], [np.asarray(b) for _, b in self.layers]


class Prediction:
    """One jitted function; many rows go through it block by block, in `lax.map`."""

    def __init__(self, case: Case, problem: Problem, threads: int) -> None:
        self.layers = on_device(problem)
        self.calls = [
            jnp.asarray(problem.X[i : i + case.batch]) for i in range(0, len(problem.X), case.batch)
        ]
        self.predict = jax.jit(partial(_probabilities, case.binary))

    def run(self) -> None:
        for rows in self.calls:
            self.answer = self.predict(self.layers, rows).block_until_ready()

    def probabilities(self) -> Array:
        return np.asarray(self.answer)


def _probabilities(binary: bool, layers: list[tuple[Any, Any]], rows: Any) -> Any:
    def forward(x: Any) -> Any:
        z = logits(layers, x)
        return jax.nn.sigmoid(z) if binary else jax.nn.softmax(z)

    if len(rows) <= BLOCK_ROWS:
        return forward(rows)
    return jax.lax.map(forward, rows, batch_size=BLOCK_ROWS)
