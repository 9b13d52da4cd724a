"""Losses: the value of a batch and its gradient, in one pass over the rows.

A row has outputs (O,), sample weight w_i, and share_i = w_i / sum(w); its gradient is written
multiplied by share_i. Values are summed in float64. Class targets are labels (B,) int64 or rows of
probabilities (B, O); other targets are (B, O).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlp_kernels.cpu.activations import sigmoid
from mlp_kernels.cpu.compiler import Doubles, Floats, doubles, floats, int64s, kernel

SOFTMAX_CROSS_ENTROPY, CROSS_ENTROPY = range(2)
SIGMOID_CROSS_ENTROPY, BINARY_CROSS_ENTROPY, HALF_SQUARED_ERROR = range(2, 5)
MSE, MAE, HUBER, POISSON = range(5, 9)
FIRST_OF_VALUES = SIGMOID_CROSS_ENTROPY

FORMS = {
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "cross_entropy": CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "half_squared_error": HALF_SQUARED_ERROR,
    "mse": MSE,
    "mae": MAE,
    "huber": HUBER,
    "poisson": POISSON,
}

LOG_FLOOR = -100.0
DIVISOR_FLOOR = 1e-12
LOSS_SUM, WEIGHT_SUM = 0, 1


@kernel()
def floored_log(a: Any) -> Any:
    T = type(a)
    value = math.log(a)
    return T(LOG_FLOOR) if value < T(LOG_FLOOR) else value


@kernel()
def floored_divisor(a: Any) -> Any:
    T = type(a)
    return T(DIVISOR_FLOOR) if a < T(DIVISOR_FLOOR) else a


@kernel()
def sign(e: Any) -> Any:
    T = type(e)
    return T(1) if e > T(0) else (T(-1) if e < T(0) else e)  # 0 and NaN stay what they are


@kernel()
def class_probability(target: Any, i: int, k: int, like: Any) -> Any:
    """y_ik of the type of `like`: the compiler keeps one branch, by the target's dimensions."""
    T = type(like)
    if target.ndim == 1:
        return T(1) if target[i] == k else T(0)
    else:  # noqa: RET505 - the branches differ in type, so neither may follow the other
        return target[i, k]


@kernel()
def softmax_cross_entropy_row(
    i: int, z: Floats, target: Any, smoothing: float, share: float, delta: Floats
) -> float:
    """L = -sum_k t_k log p_k, p = softmax(z), t = (1 - s) y + s / O; delta = p sum(t) - t."""
    T = z.dtype.type
    on, off, factor = T(1 - smoothing), T(smoothing / z.shape[1]), T(share)
    top = z[i, 0]
    for k in range(1, z.shape[1]):
        top = max(top, z[i, k])
    total = T(0)
    for k in range(z.shape[1]):
        delta[i, k] = math.exp(z[i, k] - top)
        total += delta[i, k]
    log_total = math.log(total)
    value, mass = 0.0, T(0)
    for k in range(z.shape[1]):
        t = class_probability(target, i, k, total) * on + off
        value -= t * (z[i, k] - top - log_total)
        mass += t
    for k in range(z.shape[1]):
        t = class_probability(target, i, k, total) * on + off
        delta[i, k] = factor * (delta[i, k] / total * mass - t)
    return value


@kernel()
def cross_entropy_row(
    i: int, a: Floats, target: Any, smoothing: float, share: float, delta: Floats
) -> float:
    """L = -sum_k t_k log a_k, t = (1 - s) y + s / O; delta = -t / a."""
    T = a.dtype.type
    on, off, factor = T(1 - smoothing), T(smoothing / a.shape[1]), T(share)
    value = 0.0
    for k in range(a.shape[1]):
        t = class_probability(target, i, k, a[i, k]) * on + off
        value -= t * floored_log(a[i, k])
        delta[i, k] = factor * (-t / floored_divisor(a[i, k]))
    return value


@kernel()
def total_weight(weight: Floats | None, rows: int) -> float:
    """sum(w), or the number of rows where all weights are 1."""
    if weight is None:
        return float(rows)
    total = 0.0
    for i in range(weight.size):
        total += weight[i]
    return total


@kernel()
def row_weight(weight: Floats | None, i: int) -> float:
    if weight is None:
        return 1.0
    return np.float64(weight[i])


@kernel()
def row_share(weight: Floats | None, i: int, total: float) -> float:
    """w_i / sum(w), or 0 where no row has weight."""
    return row_weight(weight, i) / total if total > 0 else 0.0


@kernel()
def class_loss(
    code: int,
    output: Floats,
    target: Any,
    weight: Floats | None,
    smoothing: float,
    delta: Floats,
    totals: Doubles,
) -> None:
    """The forms whose targets are classes; see the top of the file."""
    floats(output, weight, delta)
    doubles(totals)
    rows, outputs = output.shape
    if delta.shape != output.shape or len(target) != rows:
        raise ValueError("delta must be (B, O) and the target (B, O) or (B,)")
    if target.ndim == 1:
        int64s(target)
    else:
        floats(output, target)
        if target.shape[1] != outputs:
            raise ValueError("the target must be (B, O) or (B,)")
    if weight is not None and weight.size != rows:
        raise ValueError("weight must be (B,)")
    total = total_weight(weight, rows)
    value = 0.0
    for i in range(rows):
        if target.ndim == 1 and not 0 <= target[i] < outputs:
            raise ValueError("a class label is outside 0, ..., O - 1")
        share = row_share(weight, i, total)
        if code == SOFTMAX_CROSS_ENTROPY:
            row_value = softmax_cross_entropy_row(i, output, target, smoothing, share, delta)
        else:
            row_value = cross_entropy_row(i, output, target, smoothing, share, delta)
        value += row_weight(weight, i) * row_value
    totals[LOSS_SUM] += value
    totals[WEIGHT_SUM] += total


@kernel()
def values_loss(
    code: int,
    output: Floats,
    y: Floats,
    weight: Floats | None,
    parameter: float,
    delta: Floats,
    totals: Doubles,
) -> None:
    """The forms that are a mean over the outputs, L_i = mean_k L_ik; targets y (B, O)."""
    floats(output, y, weight, delta)
    doubles(totals)
    rows, outputs = output.shape
    if delta.shape != output.shape or y.shape != output.shape:
        raise ValueError("delta and the target must be (B, O)")
    if weight is not None and weight.size != rows:
        raise ValueError("weight must be (B,)")
    T = output.dtype.type
    limit = T(parameter)
    total = total_weight(weight, rows)
    value = 0.0
    if code == SIGMOID_CROSS_ENTROPY:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                z = output[i, k]
                loss = (z if z > T(0) else T(0)) - z * y[i, k] + math.log1p(math.exp(-abs(z)))
                value += w * loss
                delta[i, k] = factor * (sigmoid(z) - y[i, k])
    elif code == BINARY_CROSS_ENTROPY:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                a, t = output[i, k], y[i, k]
                value -= w * (t * floored_log(a) + (T(1) - t) * floored_log(T(1) - a))
                delta[i, k] = factor * ((a - t) / floored_divisor(a * (T(1) - a)))
    elif code == HALF_SQUARED_ERROR:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                e = output[i, k] - y[i, k]
                value += w * (T(0.5) * e * e)
                delta[i, k] = factor * e
    elif code == MSE:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                e = output[i, k] - y[i, k]
                value += w * (e * e)
                delta[i, k] = factor * (e + e)
    elif code == MAE:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                e = output[i, k] - y[i, k]
                value += w * abs(e)
                delta[i, k] = factor * sign(e)
    elif code == HUBER:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                e = output[i, k] - y[i, k]
                size = abs(e)
                value += w * (T(0.5) * e * e if size <= limit else limit * (size - T(0.5) * limit))
                delta[i, k] = factor * (limit if e > limit else (-limit if e < -limit else e))
    elif code == POISSON:
        for i in range(rows):
            w, factor = row_weight(weight, i), T(row_share(weight, i, total) / outputs)
            for k in range(outputs):
                a, t = output[i, k], y[i, k]
                rate = math.exp(a)
                value += w * (rate - t * a)
                delta[i, k] = factor * (rate - t)
    totals[LOSS_SUM] += value / outputs
    totals[WEIGHT_SUM] += total
