"""The reference backend: every operation as its formula, in NumPy, written to be read first.

What it computes in float64 is the truth that all other backends are tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mlp import random
from mlp.activations import activation_backward, get_activation
from mlp.backends.blas import fitting_threads
from mlp.backends.host import HostMemory
from mlp.backends.protocol import (
    BATCH,
    GRADIENT_SCALE,
    LEARNING_RATE,
    LOSS_SCALE,
    LOSS_SUM,
    SEED,
    SKIP,
    SKIPPED,
    STEP,
    WEIGHT_SUM,
    Array,
    Backend,
    Dropout,
    HostArray,
    PenaltySteps,
    Run,
    Steps,
)
from mlp.backends.rounding import ROUNDED
from mlp.losses import FORMS


class NumpyBackend(HostMemory):
    """See `mlp.backends.protocol.Backend` for what each operation does.

    Args:
        products: "tf32", "bfloat16" or "float16" rounds the operands of matrix products to that;
            None for as they are.
    """

    name = device = "numpy"
    threads = 1

    def __init__(self, products: str | None = None) -> None:
        self._operand = _as_it_is if products is None else ROUNDED[products]

    def gather_rows(self, X: Array, index: Array, out: Array) -> None:
        out[...] = X[index]

    # --- layer ----------------------------------------------------------------------------------

    def linear_forward(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: str,
        a: Array,
        saved: Array | None,
        dropout: Dropout | None = None,
    ) -> None:
        g = get_activation(activation)
        z = self._operand(x) @ self._operand(W) + b
        output = g.forward(z)
        if saved is not None:
            saved[...] = z if g.saves == "z" else output
        a[...] = output if dropout is None else output * dropout_factor(dropout, output)

    def linear_delta(
        self,
        delta: Array,
        W: Array,
        saved: Array,
        activation: str,
        out: Array,
        db_prev: Array,
        dropout: Dropout | None = None,
    ) -> None:
        gradient = self._operand(delta) @ self._operand(W).T
        if dropout is not None:
            gradient *= dropout_factor(dropout, gradient)
        out[...] = activation_backward(activation, gradient, saved)
        db_prev[...] = out.sum(axis=0)

    def linear_grads(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        dW[...] = self._operand(x).T @ self._operand(delta)
        if db is not None:
            db[...] = delta.sum(axis=0)

    def activation_delta(self, gradient: Array, saved: Array, activation: str, out: Array) -> None:
        out[...] = activation_backward(activation, gradient, saved)

    # --- loss -----------------------------------------------------------------------------------

    def loss(
        self,
        form: str,
        output: Array,
        target: Array,
        weight: Array | None,
        parameter: float,
        delta: Array,
        totals: Array,
        scaling: Array | None = None,
    ) -> None:
        value, gradient = FORMS[form](output, target, parameter)
        w = np.ones_like(value) if weight is None else weight
        total = w.sum(dtype=np.float64)
        share = w / total if total > 0 else np.zeros_like(w)
        if scaling is not None:
            share = share * scaling[LOSS_SCALE]
        delta[...] = gradient * share[:, None]
        totals[LOSS_SUM] += np.dot(w.astype(np.float64), value.astype(np.float64))
        totals[WEIGHT_SUM] += total

    # --- update ---------------------------------------------------------------------------------

    def sgd(
        self,
        parameters: Array,
        gradients: Array,
        velocity: Array | None,
        scalars: Array,
        counters: Array,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None:
        if scalars[SKIP] == 1:
            return
        g = _decayed_gradient(parameters, gradients, scalars, weight_decay)
        step = g
        if velocity is not None:
            first = _t(counters) == 1  # PyTorch's first velocity is the gradient, not dampened
            velocity[...] = g if first else momentum * velocity + (1 - dampening) * g
            step = g + momentum * velocity if nesterov else velocity
        parameters -= float(scalars[LEARNING_RATE]) * step

    def rmsprop(
        self,
        parameters: Array,
        gradients: Array,
        square: Array,
        mean: Array | None,
        velocity: Array | None,
        scalars: Array,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
    ) -> None:
        if scalars[SKIP] == 1:
            return
        lr = float(scalars[LEARNING_RATE])
        g = _decayed_gradient(parameters, gradients, scalars, weight_decay)
        square[...] = alpha * square + (1 - alpha) * g * g
        variance = square
        if mean is not None:
            mean[...] = alpha * mean + (1 - alpha) * g
            # Rounding can leave E[g^2] - E[g]^2 just below 0, whose root would be NaN.
            variance = np.maximum(square - mean * mean, 0)
        step = g / (np.sqrt(variance) + eps)
        if velocity is not None:
            velocity[...] = momentum * velocity + step
            step = velocity
        parameters -= lr * step

    def adagrad(
        self,
        parameters: Array,
        gradients: Array,
        total: Array,
        scalars: Array,
        counters: Array,
        lr_decay: float,
        weight_decay: float,
        eps: float,
    ) -> None:
        if scalars[SKIP] == 1:
            return
        g = _decayed_gradient(parameters, gradients, scalars, weight_decay)
        lr = float(scalars[LEARNING_RATE]) / (1 + (_t(counters) - 1) * lr_decay)
        total += g * g
        parameters -= lr * g / (np.sqrt(total) + eps)

    def adam(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        v: Array,
        v_max: Array | None,
        scalars: Array,
        counters: Array,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
        eps_hat: bool = False,
    ) -> None:
        if scalars[SKIP] == 1:
            return
        lr, t = float(scalars[LEARNING_RATE]), _t(counters)
        if decoupled:
            parameters *= 1 - lr * weight_decay
            g = _decayed_gradient(parameters, gradients, scalars, 0.0)
        else:
            g = _decayed_gradient(parameters, gradients, scalars, weight_decay)
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        second = v
        if v_max is not None:
            np.maximum(v_max, v, out=v_max)
            second = v_max
        m_scale, v_scale = 1 - beta1**t, float(np.sqrt(1 - beta2**t))
        if eps_hat:  # eps beside the root of v, not of v'
            eps = eps / v_scale
        parameters -= lr / m_scale * m / (np.sqrt(second) / v_scale + eps)

    def lion(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        scalars: Array,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> None:
        if scalars[SKIP] == 1:
            return
        g = _decayed_gradient(parameters, gradients, scalars, 0.0)
        direction = np.sign(beta1 * m + (1 - beta1) * g)
        m[...] = beta2 * m + (1 - beta2) * g
        parameters -= float(scalars[LEARNING_RATE]) * (direction + weight_decay * parameters)

    def penalty(
        self,
        weights: Array,
        gradients: Array,
        l1: float,
        l2: float,
        steps: PenaltySteps | None = None,
    ) -> None:
        factor = 1.0
        if steps is not None:
            k = int(steps.counters[BATCH])
            factor = float(steps.scales[k])
            w = weights.astype(np.float64)
            steps.values[k] = l1 * np.abs(w).sum() + l2 / 2 * np.square(w).sum()
        gradients += l1 * factor * np.sign(weights) + l2 * factor * weights

    def decay(self, weights: Array, scalars: Array, weight_decay: float) -> None:
        if scalars[SKIP] == 0:
            weights *= 1 - float(scalars[LEARNING_RATE]) * weight_decay

    def clip_norm(self, gradients: Array, max_norm: float, scalars: Array) -> None:
        norm = np.linalg.norm(gradients.astype(np.float64))
        scalars[GRADIENT_SCALE] = min(1.0, max_norm / (norm + 1e-6))

    # --- control --------------------------------------------------------------------------------

    def begin_epoch(
        self,
        counters: Array,
        totals: Array,
        order: Array,
        rates: Array,
        epoch: int,
        new_rates: HostArray,
    ) -> None:
        counters[BATCH] = -1
        totals[...] = 0
        rates[...] = new_rates
        order[...] = random.permutation(int(counters[SEED]), epoch, len(order))

    def begin_step(
        self,
        counters: Array,
        rates: Array,
        scalars: Array,
        order: Array,
        index: Array,
        batch_size: int,
    ) -> None:
        counters[BATCH] += 1
        counters[STEP] += 1
        scalars[LEARNING_RATE] = rates[counters[BATCH]]
        scalars[GRADIENT_SCALE], scalars[SKIP] = 1.0, 0.0
        first = counters[BATCH] * batch_size % len(order)
        index[...] = order[first : first + len(index)]

    def predictor(
        self, layers: Sequence[Any], flat: Array, repeated: bool = False
    ) -> Callable[[Array, Array], None]:
        def predict(x: Array, out: Array) -> None:
            a = x
            for layer in layers:
                z = self._operand(a) @ self._operand(layer.W) + layer.b
                a = get_activation(layer.activation).forward(z)
            out[...] = a

        return predict

    @contextmanager
    def capture(self, steps: Steps) -> Iterator[Run]:
        with fitting_threads(steps):
            yield StepByStep(self, steps)


class StepByStep:
    """The steps themselves, one after another."""

    def __init__(self, backend: Backend, steps: Steps) -> None:
        self._backend, self._steps = backend, steps

    def __call__(self, start: int, stop: int) -> None:
        # A diverging run is reported once, by its loss, not by a warning per operation.
        with np.errstate(over="ignore", invalid="ignore"):
            self._steps.run(start, stop)

    def epochs(self, first: int, rates: HostArray, sums: HostArray) -> None:
        for i, of_epoch in enumerate(rates):
            self._steps.begin_epoch(first + i, of_epoch)
            self(0, len(of_epoch))
            sums[i] = self._backend.to_host(self._steps.totals)


def _as_it_is(x: HostArray) -> HostArray:
    return x


def dropout_factor(dropout: Dropout, like: HostArray) -> HostArray:
    """Mask / (1 - rate), of `like`'s shape (B, O) and dtype."""
    seed, step = int(dropout.counters[SEED]), int(dropout.counters[STEP])
    shape = (like.shape[0], like.shape[1])
    mask = random.dropout_mask(seed, step, dropout.layer, shape, dropout.rate)
    result: HostArray = mask.astype(like.dtype) * like.dtype.type(1 / (1 - dropout.rate))
    return result


def _t(counters: Array) -> int:
    """The number of this update, from 1: skipped ones do not count."""
    return int(counters[STEP] - counters[SKIPPED])


def _decayed_gradient(
    parameters: Array, gradients: Array, scalars: Array, weight_decay: float
) -> Any:
    """The gradient as the update sees it: clipped, and with the classic L2 decay added."""
    g = gradients * float(scalars[GRADIENT_SCALE])
    return g + weight_decay * parameters if weight_decay else g
