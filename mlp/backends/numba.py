"""The processor's backend: the operations of the contract as calls of compiled kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from numba.core.errors import NumbaError

from mlp.backends.blas import fitting_threads
from mlp.backends.numpy import HostMemory
from mlp.backends.protocol import SEED, STEP, Array, Dropout, Steps
from mlp.errors import InvalidInput, InvalidSetting
from mlp.random import dropout_threshold
from mlp_kernels.cpu import dense, losses, optimizers
from mlp_kernels.cpu.activations import ACTIVATIONS

F = TypeVar("F", bound=Callable[..., None])

# Threshold, scale, layer, seed and step of a layer without dropout.
NO_DROPOUT = (0, 1.0, 0, 0, 0)


def _explained(operation: F) -> F:
    """The operation, with what a kernel raises over types, shapes and names made an MLPError."""

    @functools.wraps(operation)
    def call(*arguments: Any, **named: Any) -> None:
        try:
            operation(*arguments, **named)
        except KeyError as error:
            message = f"{operation.__name__}: the cpu backend has no {error}"
            raise InvalidSetting(message) from error
        except (TypeError, ValueError, IndexError, NumbaError) as error:
            raise InvalidInput(f"{operation.__name__}: {error}") from error

    return cast(F, call)


def _dropout_numbers(dropout: Dropout) -> tuple[int, float, int, int, int]:
    """What the kernels take of a dropout: threshold, scale, layer, seed, step."""
    seed, step = int(dropout.counters[SEED]), int(dropout.counters[STEP])
    return dropout_threshold(dropout.rate), 1 / (1 - dropout.rate), dropout.layer, seed, step


class NumbaBackend(HostMemory):
    """See `mlp.backends.protocol.Backend` for what each operation does."""

    name = device = "cpu"

    @_explained
    def gather_rows(self, X: Array, index: Array, out: Array) -> None:
        dense.gather_rows(X, index, out)

    # --- layer ----------------------------------------------------------------------------------

    @_explained
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
        kept = a if saved is None else saved
        numbers = NO_DROPOUT if dropout is None else _dropout_numbers(dropout)
        dense.linear_forward(x, W, b, ACTIVATIONS[activation], a, kept, kept is not a, *numbers)

    @_explained
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
        numbers = NO_DROPOUT if dropout is None else _dropout_numbers(dropout)
        dense.linear_delta(delta, W, saved, ACTIVATIONS[activation], out, db_prev, *numbers)

    @_explained
    def linear_grads(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        dense.linear_grads(x, delta, dW)
        if db is not None:
            dense.column_sums(delta, db)

    @_explained
    def activation_delta(self, gradient: Array, saved: Array, activation: str, out: Array) -> None:
        dense.activation_delta(gradient, saved, ACTIVATIONS[activation], out)

    # --- loss -----------------------------------------------------------------------------------

    @_explained
    def loss(
        self,
        form: str,
        output: Array,
        target: Array,
        weight: Array | None,
        parameter: float,
        delta: Array,
        totals: Array,
    ) -> None:
        code = losses.FORMS[form]
        kernel = losses.class_loss if code < losses.FIRST_OF_VALUES else losses.values_loss
        kernel(code, output, target, weight, parameter, delta, totals)

    # --- update ---------------------------------------------------------------------------------

    @_explained
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
        optimizers.sgd(
            parameters, gradients, velocity, scalars, counters,
            momentum, dampening, weight_decay, nesterov,
        )  # fmt: skip

    @_explained
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
        optimizers.rmsprop(
            parameters, gradients, square, mean, velocity, scalars,
            alpha, eps, weight_decay, momentum,
        )  # fmt: skip

    @_explained
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
        optimizers.adagrad(
            parameters, gradients, total, scalars, counters, lr_decay, weight_decay, eps
        )

    @_explained
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
    ) -> None:
        optimizers.adam(
            parameters, gradients, m, v, v_max, scalars, counters,
            beta1, beta2, eps, weight_decay, decoupled,
        )  # fmt: skip

    @_explained
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
        optimizers.lion(parameters, gradients, m, scalars, beta1, beta2, weight_decay)

    @_explained
    def penalty(self, weights: Array, gradients: Array, l1: float, l2: float) -> None:
        optimizers.penalty(weights, gradients, l1, l2)

    @_explained
    def decay(self, weights: Array, scalars: Array, weight_decay: float) -> None:
        optimizers.decay(weights, scalars, weight_decay)

    @_explained
    def clip_norm(self, gradients: Array, max_norm: float, scalars: Array) -> None:
        optimizers.clip_norm(gradients, max_norm, scalars)

    # --- control --------------------------------------------------------------------------------

    @_explained
    def begin_step(
        self,
        counters: Array,
        rates: Array,
        scalars: Array,
        order: Array,
        index: Array,
        batch_size: int,
    ) -> None:
        optimizers.begin_step(counters, rates, scalars, order, index, batch_size)

    @contextmanager
    def capture(self, steps: Steps) -> Iterator[Callable[[int, int], None]]:
        import scipy.linalg.cython_blas  # noqa: F401 - Numba's BLAS, to be loaded to be limited

        with fitting_threads(steps):
            yield steps.run
