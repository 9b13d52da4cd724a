"""JAX with optax: an epoch is one jitted `lax.scan`, its buffers donated, its rows on the device.

On a CPU the order of the rows comes from NumPy: `jax.random.permutation` sorts, which took as long
as all the rest of an epoch of a small network. On a GPU the order is made there.
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

BLOCK_ROWS = 8000  # on a CPU, the fastest of 1000, 8000, 50000 and 1e6 on 64-128-64-10

# precision -> how a GPU multiplies float32, and the type of what products read
PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "highest"}
OPERANDS = {"float32": jnp.float32, "tf32": jnp.float32, "bfloat16": jnp.bfloat16}


def choose_products(case: Case, device: str) -> None:
    if device != "cpu":
        jax.config.update("jax_default_matmul_precision", PRODUCTS[case.precision])


def on_device(problem: Problem) -> list[tuple[Any, Any]]:
    """(W, b) of each layer, in buffers of their own, since training donates them."""
    return [
        (jnp.array(W, copy=True), jnp.array(b, copy=True))
        for W, b in zip(problem.weights, problem.biases, strict=True)
    ]


def logits(layers: list[tuple[Any, Any]], x: Any, dtype: Any = jnp.float32) -> Any:
    """Layers compute in `dtype`; the last one's results are float32."""
    x = x.astype(dtype)
    for W, b in layers[:-1]:
        x = jax.nn.relu(x @ W.astype(dtype) + b.astype(dtype))
    W, b = layers[-1]
    return jnp.matmul(x, W.astype(dtype), preferred_element_type=jnp.float32) + b


class Training:
    """Parameters and optimizer state go round in the scan's carry; each step gathers its rows."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        choose_products(case, device)
        self.case, self.problem, self.device = case, problem, device
        self.X = jnp.asarray(problem.X)
        label = problem.y.astype(np.float32)[:, None] if case.binary else problem.y
        self.y = jnp.asarray(label)
        self.optimizer = optax.adam(case.learning_rate)
        self.rng, self.key = np.random.default_rng(0), jax.random.key(0)
        self.shuffle = jax.jit(self._shuffle)
        self.epoch = jax.jit(self._epoch, donate_argnums=(0, 1))
        self.reset()

    def reset(self) -> None:
        self.layers = on_device(self.problem)
        self.state = self.optimizer.init(self.layers)

    def run(self, epochs: int) -> float:
        for _ in range(epochs):
            self.layers, self.state, loss = self.epoch(
                self.layers, self.state, self.X, self.y, self._order()
            )
        return float(jax.block_until_ready((loss, self.layers))[0])

    def _order(self) -> Any:
        """Row numbers, a line per batch."""
        if self.device == "cpu":
            order = self.rng.permutation(len(self.X)).astype(np.int32)
            return order.reshape(-1, self.case.batch)
        self.key, on_device = self.shuffle(self.key)
        return on_device

    def _shuffle(self, key: Any) -> tuple[Any, Any]:
        key, of_epoch = jax.random.split(key)
        order = jax.random.permutation(of_epoch, jnp.arange(len(self.X), dtype=jnp.int32))
        return key, order.reshape(-1, self.case.batch)

    def _epoch(self, layers: Any, state: Any, X: Any, y: Any, order: Any) -> tuple[Any, Any, Any]:
        def step(carry: Any, index: Any) -> tuple[Any, Any]:
            layers, state = carry
            loss, gradients = jax.value_and_grad(self._loss)(layers, X[index], y[index])
            updates, state = self.optimizer.update(gradients, state, layers)
            return (optax.apply_updates(layers, updates), state), loss

        (layers, state), losses = jax.lax.scan(step, (layers, state), order)
        return layers, state, losses.mean()

    def _loss(self, layers: Any, x: Any, target: Any) -> Any:
        z = logits(layers, x, OPERANDS[self.case.precision])
        if self.case.binary:
            return optax.sigmoid_binary_cross_entropy(z, target).mean()
        return optax.softmax_cross_entropy_with_integer_labels(z, target).mean()

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return [np.asarray(W) for W, _ in self.layers], [np.asarray(b) for _, b in self.layers]


class Prediction:
    """One jitted function; on a CPU many rows go through it block by block, in `lax.map`."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        choose_products(case, device)
        self.layers, self.device = on_device(problem), device
        self.calls = [
            jnp.asarray(problem.X[i : i + case.batch]) for i in range(0, len(problem.X), case.batch)
        ]
        block = BLOCK_ROWS if device == "cpu" else case.batch
        self.predict = jax.jit(partial(_probabilities, case, block))

    def run(self) -> None:
        for rows in self.calls:
            answer = self.predict(self.layers, rows)
            # A copy to the host waits for the device.
            self.answer = answer.block_until_ready() if self.device == "cpu" else np.asarray(answer)

    def probabilities(self) -> Array:
        return np.asarray(self.answer)


def _probabilities(case: Case, block: int, layers: list[tuple[Any, Any]], rows: Any) -> Any:
    def forward(x: Any) -> Any:
        z = logits(layers, x, OPERANDS[case.precision])
        return jax.nn.sigmoid(z) if case.binary else jax.nn.softmax(z)

    if len(rows) <= block:
        return forward(rows)
    return jax.lax.map(forward, rows, batch_size=block)
