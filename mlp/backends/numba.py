"""The processor's backend: the operations of the contract as calls of compiled kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import numpy as np
from numba.core.errors import NumbaError

from mlp.backends.host import HostMemory, aligned_empty
from mlp.backends.numba_capture import CompiledSteps
from mlp.backends.numba_predict import Predictor
from mlp.backends.protocol import (
    LOSS_SCALE,
    SEED,
    SKIPPED,
    STEP,
    Array,
    Dropout,
    HostArray,
    PenaltySteps,
    Run,
)
from mlp.backends.threads import thread_limit
from mlp.errors import BackendUnavailable, InvalidInput, InvalidSetting
from mlp.random import dropout_threshold
from mlp_kernels.cpu import dense, losses, optimizers
from mlp_kernels.cpu.activations import ACTIVATIONS
from mlp_kernels.cpu.pairs import pairs_type
from mlp_kernels.cpu.product import SCRATCH_BYTES
from mlp_kernels.cpu.units import Units, layer_units, loss_unit

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
        except (AttributeError, TypeError, ValueError, IndexError, NumbaError) as error:
            raise InvalidInput(f"{operation.__name__}: {error}") from error

    return cast(F, call)


def _dropout_numbers(dropout: Dropout) -> tuple[int, float, int, int, int]:
    """What the kernels take of a dropout: threshold, scale, layer, seed, step."""
    seed, step = int(dropout.counters[SEED]), int(dropout.counters[STEP])
    return dropout_threshold(dropout.rate), 1 / (1 - dropout.rate), dropout.layer, seed, step


def _float(array: Array) -> np.dtype[Any]:
    """The dtype of an array; raises TypeError where no kernel has it."""
    dtype: np.dtype[Any] = np.dtype(array.dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"a float32 or float64 array is needed, not {dtype}")
    return dtype


def _pairs_type() -> np.dtype[Any]:
    """The type of packed pairs of bfloat16; raises BackendUnavailable."""
    try:
        return pairs_type()
    except RuntimeError as error:
        raise BackendUnavailable(
            "precision 'bfloat16' needs a processor with AVX512-BF16 or AMX-BF16: this one has "
            f"{error}; use precision 'float32'"
        ) from error


def _t(counters: Array) -> int:
    """The number of this update, from 1: skipped ones do not count."""
    return int(counters[STEP]) - int(counters[SKIPPED])


def _or_empty(state: Array | None, like: Array) -> Array:
    return like[:0] if state is None else state


class NumbaBackend(HostMemory):
    """See `mlp.backends.protocol.Backend` for what each operation does.

    Args:
        products: "bfloat16" for products of operands rounded to that; None for as they are.
        threads: the most threads that captured steps and `predict` use; see `thread_limit`.

    Raises:
        BackendUnavailable: the processor has no instructions for such products that can be used.

    Single operations run on the thread that calls them, holding the interpreter's lock.
    """

    name = device = "cpu"

    def __init__(self, products: str | None = None, threads: int | None = None) -> None:
        self.threads = thread_limit(threads)
        self._pairs = _pairs_type() if products == "bfloat16" else None
        self._rooms: dict[tuple[str, np.dtype[Any]], Array] = {}

    def _room(self, name: str, size: int, dtype: np.dtype[Any]) -> Array:
        """An array of at least this size for intermediate results, kept for the next time."""
        room = self._rooms.get((name, dtype))
        if room is None or room.size < size:
            room = self._rooms[name, dtype] = aligned_empty((size,), dtype)
        return room

    def _units(self, like: Array, dropout: Dropout | None = None) -> Units:
        return layer_units(_float(like), self._packed(like), dropout is not None)

    def _packed(self, like: Array) -> np.dtype[Any]:
        """The type of packed operands."""
        return _float(like) if self._pairs is None else self._pairs

    def _scratch(self, like: Array) -> Array:
        """Room for the packed operands of a product."""
        dtype = self._packed(like)
        return self._room("operands", SCRATCH_BYTES // dtype.itemsize, dtype)

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
        dense.linear_forward(
            x,
            W,
            b,
            ACTIVATIONS[activation],
            a,
            kept,
            kept is not a,
            *numbers,
            self._units(a, dropout),
            self._scratch(a),
        )

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
        dense.linear_delta(
            delta, W, saved, ACTIVATIONS[activation], out, db_prev, *numbers,
            self._units(out, dropout), self._scratch(out),
        )  # fmt: skip

    @_explained
    def linear_grads(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        dense.linear_grads(x, delta, dW, self._units(dW), self._scratch(dW))
        if db is not None:
            dense.column_sums(delta, db)

    @_explained
    def activation_delta(self, gradient: Array, saved: Array, activation: str, out: Array) -> None:
        dense.activation_delta(gradient, saved, ACTIVATIONS[activation], out, self._units(out))

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
        scaling: Array | None = None,
    ) -> None:
        losses.loss(
            losses.FORMS[form], output, target, weight, parameter, delta, totals,
            self._room("losses", output.size + losses.ROOM * len(output), output.dtype),
            self._room("values", len(output), np.dtype(np.float64)),
            loss_unit(_float(output), target.ndim == 1),
        )  # fmt: skip
        if scaling is not None:
            delta *= delta.dtype.type(scaling[LOSS_SCALE])  # of one dtype: no buffer is made

    # --- update ---------------------------------------------------------------------------------

    def _update(
        self, rule: optimizers.Rule, parameters: Array, gradients: Array, scalars: Array, t: int
    ) -> None:
        optimizers.update(rule, parameters, gradients, scalars, t)

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
        rule = optimizers.Sgd(
            _or_empty(velocity, parameters), momentum, dampening, weight_decay, nesterov
        )
        self._update(rule, parameters, gradients, scalars, _t(counters))

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
        rule = optimizers.Rmsprop(
            square, _or_empty(mean, square), _or_empty(velocity, square),
            alpha, eps, weight_decay, momentum,
        )  # fmt: skip
        self._update(rule, parameters, gradients, scalars, 0)

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
        rule = optimizers.Adagrad(total, lr_decay, weight_decay, eps)
        self._update(rule, parameters, gradients, scalars, _t(counters))

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
        eps_hat: bool = False,
    ) -> None:
        rule = optimizers.Adam(
            m, v, _or_empty(v_max, v), beta1, beta2, eps, weight_decay, decoupled, eps_hat
        )
        self._update(rule, parameters, gradients, scalars, _t(counters))

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
        rule = optimizers.Lion(m, beta1, beta2, weight_decay)
        self._update(rule, parameters, gradients, scalars, 0)

    @_explained
    def penalty(
        self,
        weights: Array,
        gradients: Array,
        l1: float,
        l2: float,
        steps: PenaltySteps | None = None,
    ) -> None:
        if steps is None:
            optimizers.penalty(weights, gradients, l1, l2)
            return
        optimizers.penalty_of_step(
            weights, gradients, l1, l2, steps.scales, steps.values, steps.counters
        )

    @_explained
    def decay(self, weights: Array, scalars: Array, weight_decay: float) -> None:
        optimizers.decay(weights, scalars, weight_decay)

    @_explained
    def clip_norm(self, gradients: Array, max_norm: float, scalars: Array) -> None:
        optimizers.clip_norm(gradients, max_norm, scalars)

    # --- control --------------------------------------------------------------------------------

    @_explained
    def begin_epoch(
        self,
        counters: Array,
        totals: Array,
        order: Array,
        rates: Array,
        epoch: int,
        new_rates: HostArray,
    ) -> None:
        room = self._room("keys", 3 * order.size + 4, np.dtype(np.int64))
        optimizers.begin_epoch(counters, totals, order, rates, epoch, new_rates, room)

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

    def predictor(
        self, layers: Sequence[Any], flat: Array, repeated: bool = False
    ) -> Callable[[Array, Array], None]:
        return Predictor(layers, flat, self.threads, self._packed(flat))

    def capture(self, steps: Any) -> AbstractContextManager[Run]:
        packed = self._packed(steps.flat.parameters)
        return nullcontext(CompiledSteps(steps, self._rule(steps), self.threads, packed))

    def _rule(self, steps: Any) -> optimizers.Rule:
        """The update that the steps' optimizer asks of a backend."""
        reader = _RuleReader()
        steps.optimizer.update(reader, steps.flat, steps.state)
        return reader.rule


class _RuleReader(NumbaBackend):
    """Notes which update it is asked for, and does not do it."""

    rule: optimizers.Rule

    def _update(self, rule: optimizers.Rule, *_: Any) -> None:
        self.rule = rule
