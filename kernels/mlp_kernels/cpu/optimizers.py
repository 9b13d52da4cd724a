"""Optimizer updates, penalties and the gradient norm: one pass each over the flat buffers (P,).

`scalars` (2,) holds the learning rate and the gradient scale, `counters` (3,) the step t at [1].
What depends on no element is computed once, in float64, and then rounded to the buffers' dtype.
An optional state array is None where the variant does without it; the compiler drops its branch.
"""

from __future__ import annotations

import math

import numpy as np

from mlp_kernels.cpu.compiler import Doubles, Floats, Integers, doubles, floats, int64s, kernel
from mlp_kernels.cpu.losses import sign

STEP, BATCH = 1, 2
LEARNING_RATE, GRADIENT_SCALE = 0, 1


@kernel()
def same_size(p: Floats, q: Floats | None) -> None:
    if q is not None and q.size != p.size:
        raise ValueError("flat buffers must be of one size")


@kernel()
def sgd(
    p: Floats,
    gradients: Floats,
    velocity: Floats | None,
    scalars: Doubles,
    counters: Integers,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """`g += weight_decay p; v = momentum v + (1 - dampening) g; p -= lr v`.

    With nesterov, p -= lr (g + momentum v). Without a velocity, p -= lr g.
    """
    floats(p, gradients, velocity)
    doubles(scalars)
    same_size(p, gradients)
    same_size(p, velocity)
    T = p.dtype.type
    lr, scale, decay = T(scalars[LEARNING_RATE]), T(scalars[GRADIENT_SCALE]), T(weight_decay)
    first = counters[STEP] == 1  # the first velocity is the gradient, not dampened
    keep = T(0.0 if first else momentum)
    take = T(1.0 if first else 1 - dampening)
    # The step is direct g + along v.
    direct, along = (T(1), T(momentum)) if nesterov else (T(0), T(1))
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        if velocity is None:
            p[i] -= lr * g
        else:
            v = keep * velocity[i] + take * g
            velocity[i] = v
            p[i] -= lr * (direct * g + along * v)


@kernel()
def rmsprop(
    p: Floats,
    gradients: Floats,
    square: Floats,
    mean: Floats | None,
    velocity: Floats | None,
    scalars: Doubles,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None:
    """`s = alpha s + (1 - alpha) g^2; p -= lr g / (sqrt(s) + eps)`.

    With a mean, sqrt(s - mean^2). With a velocity, v = momentum v + the quotient; p -= lr v.
    """
    floats(p, gradients, square, mean, velocity)
    doubles(scalars)
    same_size(p, gradients)
    same_size(p, square)
    same_size(p, mean)
    same_size(p, velocity)
    T = p.dtype.type
    lr, scale, decay = T(scalars[LEARNING_RATE]), T(scalars[GRADIENT_SCALE]), T(weight_decay)
    keep, take, floor, inertia = T(alpha), T(1 - alpha), T(eps), T(momentum)
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        s = keep * square[i] + take * g * g
        square[i] = s
        if mean is not None:
            m = keep * mean[i] + take * g
            mean[i] = m
            # Rounding can leave E[g^2] - E[g]^2 just below 0, whose root would be NaN.
            s -= m * m
            s = T(0) if s < T(0) else s
        step = g / (math.sqrt(s) + floor)
        if velocity is not None:
            step += inertia * velocity[i]
            velocity[i] = step
        p[i] -= lr * step


@kernel()
def adagrad(
    p: Floats,
    gradients: Floats,
    total: Floats,
    scalars: Doubles,
    counters: Integers,
    lr_decay: float,
    weight_decay: float,
    eps: float,
) -> None:
    """`s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`."""
    floats(p, gradients, total)
    doubles(scalars)
    same_size(p, gradients)
    same_size(p, total)
    T = p.dtype.type
    lr = T(scalars[LEARNING_RATE] / (1 + (counters[STEP] - 1) * lr_decay))
    scale, decay, floor = T(scalars[GRADIENT_SCALE]), T(weight_decay), T(eps)
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        s = total[i] + g * g
        total[i] = s
        p[i] -= lr * g / (math.sqrt(s) + floor)


@kernel()
def adam(
    p: Floats,
    gradients: Floats,
    m: Floats,
    v: Floats,
    v_max: Floats | None,
    scalars: Doubles,
    counters: Integers,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """`m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps)`.

    m' = m / (1 - b1^t), v' = v / (1 - b2^t). The decay is added to g, or if decoupled taken from p.
    """
    floats(p, gradients, m, v, v_max)
    doubles(scalars)
    same_size(p, gradients)
    same_size(p, m)
    same_size(p, v)
    same_size(p, v_max)
    T = p.dtype.type
    t = float(counters[STEP])
    scale = T(scalars[GRADIENT_SCALE])
    rate = T(scalars[LEARNING_RATE] / (1 - beta1**t))
    root_scale = T(1 / math.sqrt(1 - beta2**t))
    decay = T(0.0 if decoupled else weight_decay)
    shrink = T(1 - scalars[LEARNING_RATE] * weight_decay if decoupled else 1.0)
    keep1, take1, keep2, take2 = T(beta1), T(1 - beta1), T(beta2), T(1 - beta2)
    floor = T(eps)
    for i in range(p.size):
        g = gradients[i] * scale + decay * p[i]
        first = keep1 * m[i] + take1 * g
        second = keep2 * v[i] + take2 * g * g
        m[i], v[i] = first, second
        if v_max is not None:
            second = second if not second <= v_max[i] else v_max[i]
            v_max[i] = second
        p[i] = shrink * p[i] - rate * first / (math.sqrt(second) * root_scale + floor)


@kernel()
def lion(
    p: Floats,
    gradients: Floats,
    m: Floats,
    scalars: Doubles,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> None:
    """`u = sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g; p -= lr (u + weight_decay p)`."""
    floats(p, gradients, m)
    doubles(scalars)
    same_size(p, gradients)
    same_size(p, m)
    T = p.dtype.type
    lr, scale, decay = T(scalars[LEARNING_RATE]), T(scalars[GRADIENT_SCALE]), T(weight_decay)
    keep1, take1, keep2, take2 = T(beta1), T(1 - beta1), T(beta2), T(1 - beta2)
    for i in range(p.size):
        g = gradients[i] * scale
        direction = sign(keep1 * m[i] + take1 * g)
        m[i] = keep2 * m[i] + take2 * g
        p[i] -= lr * (direction + decay * p[i])


@kernel()
def penalty(weights: Floats, gradients: Floats, l1: float, l2: float) -> None:
    """`gradients += l1 sign(weights) + l2 weights`."""
    floats(weights, gradients)
    same_size(weights, gradients)
    T = weights.dtype.type
    first, second = T(l1), T(l2)
    for i in range(weights.size):
        gradients[i] += first * sign(weights[i]) + second * weights[i]


@kernel()
def decay(weights: Floats, scalars: Doubles, weight_decay: float) -> None:
    """`weights *= 1 - learning rate * weight_decay`."""
    floats(weights)
    doubles(scalars)
    shrink = weights.dtype.type(1 - scalars[LEARNING_RATE] * weight_decay)
    for i in range(weights.size):
        weights[i] *= shrink


@kernel(fastmath={"reassoc"})  # lets the sum run in vector lanes; NaN and infinity stay
def sum_of_squares(gradients: Floats) -> float:
    total = 0.0
    for i in range(gradients.size):
        g = np.float64(gradients[i])
        total += g * g
    return total


@kernel()
def clip_norm(gradients: Floats, max_norm: float, scalars: Doubles) -> None:
    """scalars[GRADIENT_SCALE] = min(1, max_norm / (||gradients|| + 1e-6))."""
    floats(gradients)
    doubles(scalars)
    scale = max_norm / (math.sqrt(sum_of_squares(gradients)) + 1e-6)
    scalars[GRADIENT_SCALE] = scale if scale < 1 else 1.0


@kernel()
def begin_step(
    counters: Integers,
    rates: Doubles,
    scalars: Doubles,
    order: Integers,
    index: Integers,
    batch_size: int,
) -> None:
    """counters[BATCH] += 1, counters[STEP] += 1, scalars = [rates[counters[BATCH]], 1].

    index (B,) receives order[batch_size * counters[BATCH]] and the B - 1 that follow.
    """
    int64s(counters, order, index)
    doubles(rates, scalars)
    counters[BATCH] += 1
    counters[STEP] += 1
    if not 0 <= counters[BATCH] < rates.size:
        raise IndexError("the epoch has no such batch")
    scalars[LEARNING_RATE] = rates[counters[BATCH]]
    scalars[GRADIENT_SCALE] = 1.0
    first = counters[BATCH] * batch_size
    if first + index.size > order.size:
        raise IndexError("the epoch has no such batch")
    for i in range(index.size):
        index[i] = order[first + i]
