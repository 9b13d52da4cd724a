"""Launches on the flat buffers (P,): gradients.cu, update.cu, decay.cu.

A rule is an optimizer's settings and state, with the fields of the rule of the same name in
`mlp_kernels.cpu.optimizers`; a state array that a variant does without is None.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import BLOCK, blocks_for, check_dtype, check_shape, number_type

# Blocks that sum squares: the last of them adds up what all have left.
MOST_PARTS = 1024
MOST_SETTINGS = 6


class Sgd(NamedTuple):
    """See `mlp_kernels.cpu.optimizers.Sgd`, and so for the others."""

    velocity: Any | None
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool


class Rmsprop(NamedTuple):
    square: Any
    mean: Any | None
    velocity: Any | None
    alpha: float
    eps: float
    weight_decay: float
    momentum: float


class Adagrad(NamedTuple):
    total: Any
    lr_decay: float
    weight_decay: float
    eps: float


class Adam(NamedTuple):
    m: Any
    v: Any
    v_max: Any | None
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    eps_hat: bool = False


class Lion(NamedTuple):
    m: Any
    beta1: float
    beta2: float
    weight_decay: float


Rule: TypeAlias = Sgd | Rmsprop | Adagrad | Adam | Lion

# How many of a rule's first fields are state arrays.
STATES: dict[type, int] = {Sgd: 1, Rmsprop: 3, Adagrad: 1, Adam: 3, Lion: 1}


def prepare(
    gradients: Any,
    weights: Any,
    scalars: Any | None,
    counters: Any | None,
    room: Room,
    *,
    scaling: Any | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    max_norm: float | None = None,
    penalty_scales: Any | None = None,
    penalty_values: Any | None = None,
) -> Launch:
    """What stands between the backward pass and the update, in one pass over gradients (P,).

    With scaling (2,), gradients *= 1 / scaling[LOSS_SCALE], and scalars[SKIP], counters[SKIPPED]
    and scaling as `Backend.unscale` says. With l1 or l2, gradients += l1 sign(w) + l2 w of weights,
    the first of the parameters; with penalty_scales and penalty_values, both (batches,), the sum is
    times penalty_scales[k], and penalty_values[k] is l1 sum|w| + l2/2 sum w^2, of the step
    k = counters[BATCH]. With max_norm, scalars[GRADIENT_SCALE] is min(1, max_norm / (norm + 1e-6)),
    of the gradients after both. A penalty by itself needs neither scalars nor, without these
    arrays, counters, and a norm no counters.
    """
    _check_flat(gradients, gradients=gradients)
    _check_small(scalars, counters)
    if weights.ndim != 1 or weights.size > gradients.size:
        raise ValueError("weights must be the first of the parameters that gradients belong to")
    check_dtype("weights", weights, gradients.dtype)
    if scalars is None and not (scaling is None and max_norm is None):
        raise ValueError("loss scaling and a norm need scalars")
    of_steps = [array for array in (penalty_scales, penalty_values) if array is not None]
    if counters is None and (scaling is not None or of_steps):
        raise ValueError("loss scaling and penalties of steps need counters")
    if len(of_steps) == 1:
        raise ValueError("penalties of steps are both factors and values")
    for array in of_steps:
        check_shape("penalty_scales and penalty_values", array, of_steps[0].size)
        check_dtype("penalty_scales and penalty_values", array, np.float64)
    if scaling is not None:
        check_shape("scaling", scaling, 2)
        check_dtype("scaling", scaling, np.float64)
    penalty = (2 if of_steps else 1) if l1 or l2 else 0
    kernel = Kernel.of(
        "gradients.cu", "prepare_gradients", NUMBER=number_type(gradients.dtype),
        UNSCALE=int(scaling is not None), PENALTY=penalty,
        CLIP=int(max_norm is not None),
    )  # fmt: skip
    blocks = blocks_for(gradients.size, 4 * BLOCK, MOST_PARTS)
    return Launch(
        kernel, (blocks, 1, 1), (BLOCK, 1, 1),
        (gradients, weights, np.int64(gradients.size), np.int64(weights.size), np.float64(l1),
         np.float64(l2), np.float64(max_norm or 0.0), scaling, scalars, counters, penalty_scales,
         penalty_values, room.numbers(3 * blocks, np.float64), room.tickets(3)),
    )  # fmt: skip


def update(
    rule: Rule,
    parameters: Any,
    gradients: Any,
    scalars: Any,
    counters: Any | None,
    *,
    copies: Any | None = None,
    weights_end: int = 0,
    weight_decay: float = 0.0,
) -> Launch:
    """One step of a rule on parameters (P,), unless scalars[SKIP] is 1.

    Before it, the first weights_end parameters shrink by 1 - learning rate * weight_decay. copies
    (P,), of a 16-bit type, receive the new parameters.
    """
    count = STATES[type(rule)]
    states = [*rule[:count], None, None][:3]
    given = {f"state {i}": state for i, state in enumerate(states) if state is not None}
    _check_flat(parameters, parameters=parameters, gradients=gradients, **given)
    _check_small(scalars, counters)
    macros: dict[str, str | int] = {
        "NUMBER": number_type(parameters.dtype), "RULE": type(rule).__name__,
        "KEPT": sum(1 << i for i, state in enumerate(states) if state is not None),
        "DECAY": int(bool(weight_decay)),
    }  # fmt: skip
    if copies is not None:
        check_shape("copies", copies, parameters.size)
        macros["COPY"] = number_type(copies.dtype)
    if not 0 <= weights_end <= parameters.size:
        raise ValueError(f"weights_end must be in 0..{parameters.size}, not {weights_end}")
    settings = [np.float64(setting) for setting in rule[count:]]
    settings += [np.float64(0)] * (MOST_SETTINGS - len(settings))
    return Launch(
        Kernel.of("update.cu", "update", **macros),
        (blocks_for(parameters.size, 4 * BLOCK), 1, 1), (BLOCK, 1, 1),
        (parameters, gradients, *states, copies, np.int64(parameters.size), np.int64(weights_end),
         np.float64(weight_decay), scalars, counters, *settings),
    )  # fmt: skip


def decay(weights: Any, scalars: Any, weight_decay: float) -> Launch:
    """Weights *= 1 - learning rate * weight_decay, unless scalars[SKIP] is 1."""
    _check_flat(weights, weights=weights)
    check_shape("scalars", scalars, 3)
    check_dtype("scalars", scalars, np.float64)
    return Launch(
        Kernel.of("decay.cu", "decay", NUMBER=number_type(weights.dtype)),
        (blocks_for(weights.size, 4 * BLOCK), 1, 1), (BLOCK, 1, 1),
        (weights, np.int64(weights.size), np.float64(weight_decay), scalars),
    )  # fmt: skip


def _check_flat(like: Any, **buffers: Any) -> None:
    """Flat buffers of one size and of one dtype, float32 or float64."""
    for name, buffer in buffers.items():
        check_shape(name, buffer, like.size)
        check_dtype(name, buffer, like.dtype)
    check_dtype(next(iter(buffers)), like, np.float32, np.float64)


def _check_small(scalars: Any | None, counters: Any | None) -> None:
    if scalars is not None:
        check_shape("scalars", scalars, 3)
        check_dtype("scalars", scalars, np.float64)
    if counters is not None:
        check_shape("counters", counters, 4)
        check_dtype("counters", counters, np.int64)
