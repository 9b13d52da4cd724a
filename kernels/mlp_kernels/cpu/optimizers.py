"""Optimizer updates, penalties and the gradient norm: one pass each over the flat buffers (P,).

`scalars` (3,) holds the learning rate, the gradient scale, and 1 where the update is to be skipped,
`counters` (4,) the step at [1]; t is the number of an update. What depends on no element is
computed once, in float64, and then rounded to the buffers' dtype. Loops run over views that begin
where they do: of an index that may be negative the compiler makes no vector code. A state array
that a variant does without is empty, and its branch is chosen once, not per element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import literal_unroll, types
from numba.extending import overload

from mlp_kernels.cpu.compiler import Doubles, Floats, Integers, doubles, floats, int64s, kernel
from mlp_kernels.cpu.losses import LOSS_SUM, WEIGHT_SUM, sign
from mlp_kernels.cpu.philox import shuffle

SEED, STEP, BATCH = range(3)
LEARNING_RATE, GRADIENT_SCALE, SKIP = range(3)

# Elements of the flat buffers that are summed at a time, by one thread.
SUM_BLOCK = 4096


class Sgd(NamedTuple):
    """`g += weight_decay p; v = momentum v + (1 - dampening) g; p -= lr v`.

    With nesterov, p -= lr (g + momentum v). Without a velocity, p -= lr g.
    """

    velocity: Floats
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool


class Rmsprop(NamedTuple):
    """`s = alpha s + (1 - alpha) g^2; p -= lr g / (sqrt(s) + eps)`.

    With a mean, sqrt(s - mean^2). With a velocity, v = momentum v + the quotient; p -= lr v.
    """

    square: Floats
    mean: Floats
    velocity: Floats
    alpha: float
    eps: float
    weight_decay: float
    momentum: float


class Adagrad(NamedTuple):
    """`s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`."""

    total: Floats
    lr_decay: float
    weight_decay: float
    eps: float


class Adam(NamedTuple):
    """`m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps)`.

    m' = m / (1 - b1^t), v' = v / (1 - b2^t). The decay is added to g, or if decoupled taken from p.
    With eps_hat, eps / sqrt(1 - b2^t) stands for eps: it is beside sqrt(v) then.
    """

    m: Floats
    v: Floats
    v_max: Floats
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    eps_hat: bool


class Lion(NamedTuple):
    """`u = sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g; p -= lr (u + weight_decay p)`."""

    m: Floats
    beta1: float
    beta2: float
    weight_decay: float


Rule: TypeAlias = Sgd | Rmsprop | Adagrad | Adam | Lion


@kernel()
def sgd(
    rule: Sgd, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    T = p.dtype.type
    velocity, momentum, dampening, weight_decay, nesterov = rule
    p, gradients = p[first:last], gradients[first:last]
    velocity = velocity[first:last]
    lr, scale, decay = T(rate), T(gradient_scale), T(weight_decay)
    keep = T(0.0 if t == 1 else momentum)  # the first velocity is the gradient, not dampened
    take = T(1.0 if t == 1 else 1 - dampening)
    # The step is direct g + along v.
    direct, along = (T(1), T(momentum)) if nesterov else (T(0), T(1))
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        if velocity.size == 0:
            p[i] -= lr * g
        else:
            v = keep * velocity[i] + take * g
            velocity[i] = v
            p[i] -= lr * (direct * g + along * v)


@kernel()
def rmsprop(
    rule: Rmsprop, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    T = p.dtype.type
    square, mean, velocity, alpha, eps, weight_decay, momentum = rule
    p, gradients = p[first:last], gradients[first:last]
    square, mean, velocity = square[first:last], mean[first:last], velocity[first:last]
    lr, scale, decay = T(rate), T(gradient_scale), T(weight_decay)
    keep, take, floor, inertia = T(alpha), T(1 - alpha), T(eps), T(momentum)
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        s = keep * square[i] + take * g * g
        square[i] = s
        if mean.size > 0:
            m = keep * mean[i] + take * g
            mean[i] = m
            # Rounding can leave E[g^2] - E[g]^2 just below 0, whose root would be NaN.
            s -= m * m
            s = T(0) if s < T(0) else s
        step = g / (math.sqrt(s) + floor)
        if velocity.size > 0:
            step += inertia * velocity[i]
            velocity[i] = step
        p[i] -= lr * step


@kernel()
def adagrad(
    rule: Adagrad, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    T = p.dtype.type
    total, lr_decay, weight_decay, eps = rule
    p, gradients = p[first:last], gradients[first:last]
    total = total[first:last]
    lr = T(rate / (1 + (t - 1) * lr_decay))
    scale, decay, floor = T(gradient_scale), T(weight_decay), T(eps)
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        s = total[i] + g * g
        total[i] = s
        p[i] -= lr * g / (math.sqrt(s) + floor)


@kernel()
def adam(
    rule: Adam, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    T = p.dtype.type
    m, v, v_max, beta1, beta2, eps, weight_decay, decoupled, eps_hat = rule
    p, gradients = p[first:last], gradients[first:last]
    m, v, v_max = m[first:last], v[first:last], v_max[first:last]
    scale = T(gradient_scale)
    lr = T(rate / (1 - beta1 ** float(t)))
    of_root = 1 / math.sqrt(1 - beta2 ** float(t))
    root_scale, floor = T(of_root), T(eps * of_root if eps_hat else eps)
    decay = T(0.0 if decoupled else weight_decay)
    shrink = T(1 - rate * weight_decay if decoupled else 1.0)
    keep1, take1, keep2, take2 = T(beta1), T(1 - beta1), T(beta2), T(1 - beta2)
    if v_max.size > 0:
        for i in range(p.size):
            g = gradients[i] * scale + decay * p[i]
            m[i] = keep1 * m[i] + take1 * g
            v[i] = keep2 * v[i] + take2 * g * g
            v_max[i] = v[i] if not v[i] <= v_max[i] else v_max[i]
            p[i] = shrink * p[i] - lr * m[i] / (math.sqrt(v_max[i]) * root_scale + floor)
        return
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        mean = keep1 * m[i] + take1 * g
        square = keep2 * v[i] + take2 * g * g
        m[i], v[i] = mean, square
        p[i] = shrink * p[i] - lr * mean / (math.sqrt(square) * root_scale + floor)


@kernel()
def lion(
    rule: Lion, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    T = p.dtype.type
    m, beta1, beta2, weight_decay = rule
    p, gradients = p[first:last], gradients[first:last]
    m = m[first:last]
    lr, scale, decay = T(rate), T(gradient_scale), T(weight_decay)
    keep1, take1, keep2, take2 = T(beta1), T(1 - beta1), T(beta2), T(1 - beta2)
    for i in range(p.size):
        g = gradients[i] * scale
        direction = sign(keep1 * m[i] + take1 * g)
        m[i] = keep2 * m[i] + take2 * g
        p[i] -= lr * (direction + decay * p[i])


UPDATES: dict[type, Any] = {
    Sgd: sgd, Rmsprop: rmsprop, Adagrad: adagrad, Adam: adam, Lion: lion,
}  # fmt: skip


def apply(
    rule: Rule, p: Floats, gradients: Floats, first: int, last: int,
    rate: float, gradient_scale: float, t: int,
) -> None:  # fmt: skip
    """In a kernel: elements first, ..., last - 1 of the update that the type of `rule` names."""
    raise NotImplementedError


@overload(apply)
def _apply(
    rule: Any, p: Any, gradients: Any, first: Any, last: Any, rate: Any, gradient_scale: Any, t: Any
) -> Callable[..., None]:
    update = UPDATES[rule.instance_class]

    def call(
        rule: Any, p: Any, gradients: Any, first: Any, last: Any,
        rate: Any, gradient_scale: Any, t: Any,
    ) -> None:  # fmt: skip
        update(rule, p, gradients, first, last, rate, gradient_scale, t)

    return call


def check_buffers(rule: Rule, p: Floats, gradients: Floats) -> None:
    """In a kernel: refuse buffers that are not all flat, of one size and of one dtype."""
    raise NotImplementedError


@overload(check_buffers)
def _check_buffers(rule: Any, p: Any, gradients: Any) -> Callable[..., None]:
    # Types are compared while this compiles; sizes, which only the call knows, below.
    given = [kind for kind in rule.types if isinstance(kind, types.Array)]
    for array in (gradients, *given):
        if array != p or array.ndim != 1:
            raise TypeError(f"flat buffers of one dtype are needed, not {p} and {array}")

    def check(rule: Any, p: Any, gradients: Any) -> None:
        if gradients.size != p.size:
            raise ValueError("flat buffers must be of one size")
        for field in literal_unroll(rule):
            if size_of(field, p.size) not in (0, p.size):
                raise ValueError("flat buffers must be of one size")

    return check


def size_of(field: Any, otherwise: int) -> int:
    """In a kernel: the size of an array; `otherwise` for what is none."""
    raise NotImplementedError


@overload(size_of)
def _size_of(field: Any, otherwise: Any) -> Callable[..., int]:
    is_array = isinstance(field, types.Array)

    def answer(field: Any, otherwise: Any) -> int:
        size: int = field.size if is_array else otherwise
        return size

    return answer


@kernel()
def update(rule: Rule, p: Floats, gradients: Floats, scalars: Doubles, t: int) -> None:
    """Update t (from 1) of a rule on the flat buffers (P,), unless it is to be skipped."""
    floats(p, gradients)
    doubles(scalars)
    check_buffers(rule, p, gradients)
    rate, gradient_scale = scalars[LEARNING_RATE], scalars[GRADIENT_SCALE]
    if scalars[SKIP] == 0:
        apply(rule, p, gradients, 0, p.size, rate, gradient_scale, t)


@kernel()
def same_size(p: Floats, q: Floats) -> None:
    if q.size != p.size:
        raise ValueError("flat buffers must be of one size")


@kernel()
def penalize(
    weights: Floats, gradients: Floats, first: int, last: int, l1: float, l2: float
) -> None:
    T = weights.dtype.type
    one, two = T(l1), T(l2)
    weights, gradients = weights[first:last], gradients[first:last]
    for i in range(weights.size):
        gradients[i] += one * sign(weights[i]) + two * weights[i]


@kernel()
def shrink(weights: Floats, first: int, last: int, rate: float, weight_decay: float) -> None:
    factor = weights.dtype.type(1 - rate * weight_decay)
    weights = weights[first:last]
    for i in range(weights.size):
        weights[i] *= factor


@kernel()
def penalty(weights: Floats, gradients: Floats, l1: float, l2: float) -> None:
    """`gradients += l1 sign(weights) + l2 weights`."""
    floats(weights, gradients)
    same_size(weights, gradients)
    penalize(weights, gradients, 0, weights.size, l1, l2)


@kernel(fastmath={"reassoc"})  # as of sum_of_squares
def penalty_of(weights: Floats, first: int, last: int, l1: float, l2: float) -> float:
    """`l1 sum|w| + l2/2 sum w^2` of some weights."""
    absolute, squares = 0.0, 0.0
    for w32 in weights[first:last]:
        w = np.float64(w32)
        absolute += abs(w)
        squares += w * w
    return l1 * absolute + l2 / 2 * squares


@kernel()
def penalty_of_step(
    weights: Floats, gradients: Floats, l1: float, l2: float,
    scales: Doubles, values: Doubles, counters: Integers,
) -> None:  # fmt: skip
    """`gradients += scales[k] (l1 sign(weights) + l2 weights)`, of the step k = counters[BATCH].

    values[k] receives l1 sum|weights| + l2/2 sum weights^2.
    """
    floats(weights, gradients)
    doubles(scales, values)
    int64s(counters)
    same_size(weights, gradients)
    k = counters[BATCH]
    if not 0 <= k < min(scales.size, values.size):
        raise IndexError("the epoch has no such batch")
    total = 0.0
    for first in range(0, weights.size, SUM_BLOCK):
        total += penalty_of(weights, first, min(first + SUM_BLOCK, weights.size), l1, l2)
    values[k] = total
    penalize(weights, gradients, 0, weights.size, l1 * scales[k], l2 * scales[k])


@kernel()
def decay(weights: Floats, scalars: Doubles, weight_decay: float) -> None:
    """`weights *= 1 - learning rate * weight_decay`, unless the update is to be skipped."""
    floats(weights)
    doubles(scalars)
    if scalars[SKIP] == 0:
        shrink(weights, 0, weights.size, scalars[LEARNING_RATE], weight_decay)


@kernel(fastmath={"reassoc"})  # lets the sum run in vector lanes; NaN and infinity stay
def sum_of_squares(gradients: Floats, first: int, last: int) -> float:
    total = 0.0
    for g32 in gradients[first:last]:
        g = np.float64(g32)
        total += g * g
    return total


@kernel()
def clipping_scale(norm_squared: float, max_norm: float) -> float:
    """min(1, max_norm / (norm + 1e-6))."""
    scale = max_norm / (math.sqrt(norm_squared) + 1e-6)
    return scale if scale < 1 else 1.0


@kernel()
def clip_norm(gradients: Floats, max_norm: float, scalars: Doubles) -> None:
    """scalars[GRADIENT_SCALE] = min(1, max_norm / (||gradients|| + 1e-6))."""
    floats(gradients)
    doubles(scalars)
    squares = sum_of_squares(gradients, 0, gradients.size)
    scalars[GRADIENT_SCALE] = clipping_scale(squares, max_norm)


@kernel()
def new_epoch(
    counters: Integers, totals: Doubles, order: Integers, rates: Doubles,
    epoch: int, new_rates: Doubles, room: Integers,
) -> None:  # fmt: skip
    """`begin_epoch`, unchecked."""
    counters[BATCH] = -1
    totals[LOSS_SUM], totals[WEIGHT_SUM] = 0.0, 0.0
    for i in range(rates.size):  # as a slice it would take a second to compile
        rates[i] = new_rates[i]
    shuffle(counters[SEED], epoch, order, room)


@kernel()
def begin_epoch(
    counters: Integers,
    totals: Doubles,
    order: Integers,
    rates: Doubles,
    epoch: int,
    new_rates: Doubles,
    room: Integers,
) -> None:
    """counters[BATCH] = -1, totals = 0, rates = new_rates, and order (N,) as `philox.shuffle`."""
    int64s(counters, order, room)
    doubles(totals, rates, new_rates)
    if new_rates.size != rates.size:
        raise ValueError("an epoch needs a rate for each of its steps")
    new_epoch(counters, totals, order, rates, epoch, new_rates, room)


@kernel()
def begin_step(
    counters: Integers,
    rates: Doubles,
    scalars: Doubles,
    order: Integers,
    index: Integers,
    batch_size: int,
) -> None:
    """counters[BATCH] += 1, counters[STEP] += 1, scalars = [rates[counters[BATCH]], 1, 0].

    index (B,) receives order[batch_size * counters[BATCH] mod its size] and the B - 1 that follow.
    """
    int64s(counters, order, index)
    doubles(rates, scalars)
    counters[BATCH] += 1
    counters[STEP] += 1
    if not 0 <= counters[BATCH] < rates.size:
        raise IndexError("the epoch has no such batch")
    scalars[LEARNING_RATE] = rates[counters[BATCH]]
    scalars[GRADIENT_SCALE], scalars[SKIP] = 1.0, 0.0
    first = counters[BATCH] * batch_size % order.size
    if first + index.size > order.size:
        raise IndexError("the epoch has no such batch")
    for i in range(index.size):
        index[i] = order[first + i]
