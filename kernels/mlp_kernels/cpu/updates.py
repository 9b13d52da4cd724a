"""Optimizer updates as units of compilation, so that steps are compiled once for all optimizers.

What `units` says holds here, too: a unit is called by its address, with addresses of arrays.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types
from numba.np.numpy_support import from_dtype

from mlp_kernels.cpu.compiler import Doubles, Floats, address_of
from mlp_kernels.cpu.optimizers import (
    Adagrad,
    Adam,
    Lion,
    Rmsprop,
    Rule,
    Sgd,
    adagrad,
    adam,
    lion,
    rmsprop,
    sgd,
)

MOST_STATES, MOST_SETTINGS = 3, 6


class Update(NamedTuple):
    """A rule in a form that is of one type for all rules.

    Attributes:
        unit: address of its update.
        kept: a bit for each of its state arrays that is there.
        state0, state1, state2: these arrays (P,), in the rule's order, or empty.
        settings: (MOST_SETTINGS,) float64, its numbers, in its order.
    """

    unit: int
    kept: int
    state0: Floats
    state1: Floats
    state2: Floats
    settings: Doubles


def update_of(rule: Rule, like: Floats) -> Update:
    """The update of a rule on parameters (P,) as `like`."""
    fields: tuple[Any, ...] = tuple(rule)
    states = [field for field in fields if isinstance(field, np.ndarray)]
    numbers = [float(field) for field in fields[len(states) :]]
    kept = sum(1 << i for i, state in enumerate(states) if state.size > 0)
    settings = np.zeros(MOST_SETTINGS)
    settings[: len(numbers)] = numbers
    a, b, c = states + [like[:0]] * (MOST_STATES - len(states))
    kind: Any = type(rule)
    return Update(_unit(kind, like.dtype), kept, a, b, c, settings)


@functools.cache
def _unit(rule: type, dtype: np.dtype[Any]) -> int:
    n, x = types.int64, types.float64
    array, numbers = types.CPointer(from_dtype(dtype)), types.CPointer(x)
    states = (array,) * MOST_STATES
    return address_of(UNITS[rule], array, array, *states, numbers, n, n, n, n, x, x, n)


def _sgd(
    p: Any, gradients: Any, velocity: Any, _1: Any, _2: Any, settings: Any, size: int, kept: int,
    first: int, last: int, rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    s = carray(settings, MOST_SETTINGS)
    rule = Sgd(carray(velocity, size * (kept & 1)), s[0], s[1], s[2], s[3] != 0)
    sgd(rule, carray(p, size), carray(gradients, size), first, last, rate, gradient_scale, t)


def _rmsprop(
    p: Any, gradients: Any, square: Any, mean: Any, velocity: Any, settings: Any, size: int,
    kept: int, first: int, last: int, rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    s = carray(settings, MOST_SETTINGS)
    rule = Rmsprop(
        carray(square, size), carray(mean, size * (kept >> 1 & 1)),
        carray(velocity, size * (kept >> 2 & 1)), s[0], s[1], s[2], s[3],
    )  # fmt: skip
    rmsprop(rule, carray(p, size), carray(gradients, size), first, last, rate, gradient_scale, t)


def _adagrad(
    p: Any, gradients: Any, total: Any, _1: Any, _2: Any, settings: Any, size: int, kept: int,
    first: int, last: int, rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    s = carray(settings, MOST_SETTINGS)
    rule = Adagrad(carray(total, size), s[0], s[1], s[2])
    adagrad(rule, carray(p, size), carray(gradients, size), first, last, rate, gradient_scale, t)


def _adam(
    p: Any, gradients: Any, m: Any, v: Any, v_max: Any, settings: Any, size: int, kept: int,
    first: int, last: int, rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    s = carray(settings, MOST_SETTINGS)
    rule = Adam(
        carray(m, size), carray(v, size), carray(v_max, size * (kept >> 2 & 1)),
        s[0], s[1], s[2], s[3], s[4] != 0, s[5] != 0,
    )  # fmt: skip
    adam(rule, carray(p, size), carray(gradients, size), first, last, rate, gradient_scale, t)


def _lion(
    p: Any, gradients: Any, m: Any, _1: Any, _2: Any, settings: Any, size: int, kept: int,
    first: int, last: int, rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    s = carray(settings, MOST_SETTINGS)
    rule = Lion(carray(m, size), s[0], s[1], s[2])
    lion(rule, carray(p, size), carray(gradients, size), first, last, rate, gradient_scale, t)


UNITS: dict[type, Any] = {
    Sgd: _sgd, Rmsprop: _rmsprop, Adagrad: _adagrad, Adam: _adam, Lion: _lion,
}  # fmt: skip
