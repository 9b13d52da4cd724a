"""Losses: the value of each row, and the gradient of the batch's mean.

A row has outputs (O,), sample weight w_i, and share_i = w_i / sum(w); its gradient is written
multiplied by share_i. Class targets are labels (B,) int64 or rows of probabilities (B, O); other
targets are (B, O). Rows lie end to end, so each loop that can be is one over a flat array, however
short a row is. Values are summed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cpu.activations import exponentials, largest, sigmoid, softplus
from mlp_kernels.cpu.call import call
from mlp_kernels.cpu.compiler import (
    Doubles,
    Floats,
    Integers,
    doubles,
    floats,
    int64s,
    kernel,
)
from mlp_kernels.cpu.elementary import exp, log

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
# Outputs up to which a row is turned round, and rows that are turned at a time.
SHORT_ROW, TURNED_ROWS = 32, 64
ROOM = 2  # numbers beside its outputs that a row needs room for
BLOCK = 2048  # elements of a block of rows, which stays in a level-1 cache


@kernel(forceinline=True)
def floored_log(a: Any) -> Any:
    T = type(a)
    value = log(a)
    return T(LOG_FLOOR) if value < T(LOG_FLOOR) else value


@kernel(forceinline=True)
def floored_divisor(a: Any) -> Any:
    T = type(a)
    return T(DIVISOR_FLOOR) if a < T(DIVISOR_FLOOR) else a


@kernel(forceinline=True)
def sign(e: Any) -> Any:
    T = type(e)
    return T(1) if e > T(0) else (T(-1) if e < T(0) else e)  # 0 and NaN stay what they are


@kernel(forceinline=True)
def clip_one(value: Any, least: Any, most: Any) -> Any:
    """The value in [least, most]; NaN stays."""
    return least if value < least else (most if value > most else value)


@kernel(forceinline=True)
def clip(values: Any, parameter: float) -> None:
    """A negative parameter -c clips losses to those of probabilities in [c, 1 - c]; NaN stays."""
    T = values.dtype.type
    least, most = T(-np.log1p(parameter)), T(-np.log(-parameter))
    for i in range(values.size):
        values[i] = clip_one(values[i], least, most)


# Class targets y are labels or rows: the compiler keeps one branch, by the target's dimensions.


@kernel(fastmath={"reassoc"})  # lets sums run in vector lanes; NaN and infinity stay
def target_sums(target: Any, i: int, row: Floats) -> tuple[float, float]:
    """sum_k y_ik row_k and sum_k y_ik."""
    total, mass = 0.0, 0.0
    if target.ndim == 1:
        total, mass = total + row[target[i]], 1.0
    else:
        for k in range(row.size):
            total += target[i, k] * row[k]
            mass += target[i, k]
    return total, mass


@kernel(forceinline=True)
def class_probability(target: Any, i: int, k: int, like: Any) -> Any:
    """y_ik, of the type of `like`."""
    T = type(like)
    if target.ndim == 1:
        return T(1) if target[i] == k else T(0)
    else:  # noqa: RET505 - the branches differ in type, so neither may follow the other
        return target[i, k]


@kernel(fastmath={"reassoc"})
def softmax_cross_entropy(
    z: Floats, target: Any, smoothing: float, delta: Floats, values: Doubles
) -> None:
    """L = -sum_k t_k log p_k, p = softmax(z), t = (1 - s) y + s / O; delta = p sum(t) - t."""
    T = z.dtype.type
    rows, width = z.shape
    on, off = 1 - smoothing, smoothing / width
    stride = max(1, BLOCK // width)
    for start in range(0, rows, stride):
        stop = min(start + stride, rows)
        for i in range(start, stop):
            row, shifted, shifted_sum = z[i], delta[i], 0.0
            top = largest(row)
            for k in range(width):
                shifted[k] = row[k] - top
                shifted_sum += shifted[k]
            values[i] = -(on * target_sums(target, i, shifted)[0] + off * shifted_sum)
        exponentials(delta[start:stop].reshape(-1))
        for i in range(start, stop):
            row, exp_sum = delta[i], T(0)
            for k in range(width):
                exp_sum += row[k]
            # The sum of t, rounded as t is, so that a row of one class has a delta of exactly 0.
            mass = T(on) * T(target_sums(target, i, row)[1]) + T(off) * T(width)
            values[i] += mass * log(exp_sum)
            scale = mass / exp_sum
            for k in range(width):
                t = T(on) * class_probability(target, i, k, exp_sum) + T(off)
                row[k] = scale * row[k] - t


@kernel()
def softmax_cross_entropy_of_labels(
    z: Floats, target: Integers, delta: Floats, room: Floats, values: Doubles
) -> None:
    """The same for labels without smoothing, for short rows: a vector lane for each row.

    Rows of a few outputs would leave most lanes empty, so a block is turned round in `room`, where
    column k of all its rows lies together.
    """
    T = z.dtype.type
    rows, width = z.shape
    step = np.uint64(width)
    for start in range(0, rows, TURNED_ROWS):
        n = min(TURNED_ROWS, rows - start)
        part, out = z[start : start + n].reshape(-1), delta[start : start + n].reshape(-1)
        top, total = room[:n], room[n : 2 * n]
        for i in range(n):
            top[i] = T(-np.inf)
            total[i] = T(0)
        for k in range(width):
            column, source = room[(k + 2) * n : (k + 3) * n], part[k:]
            for i in range(n):
                entry = source[np.uint64(i) * step]
                column[i] = entry
                top[i] = entry if entry > top[i] else top[i]
        for k in range(width):
            column = room[(k + 2) * n : (k + 3) * n]
            for i in range(n):
                e = exp(column[i] - top[i])
                column[i] = e
                total[i] += e
        for i in range(n):
            values[start + i] = log(total[i]) - (part[i * width + target[start + i]] - top[i])
            total[i] = T(1) / total[i]
        for k in range(width):
            column, goal = room[(k + 2) * n : (k + 3) * n], out[k:]
            for i in range(n):
                goal[np.uint64(i) * step] = column[i] * total[i]
        for i in range(n):
            out[i * width + target[start + i]] -= T(1)


@kernel(fastmath={"reassoc"})
def cross_entropy(a: Floats, target: Any, smoothing: float, delta: Floats, values: Doubles) -> None:
    """L = -sum_k t_k log a_k, t = (1 - s) y + s / O; delta = -t / a."""
    T = a.dtype.type
    width = a.shape[1]
    on, off = 1 - smoothing, smoothing / width
    for i in range(a.shape[0]):
        p, row, log_sum = a[i], delta[i], 0.0
        for k in range(width):
            row[k] = floored_log(p[k])
            log_sum += row[k]
        values[i] = -(on * target_sums(target, i, row)[0] + off * log_sum)
        for k in range(width):
            t = T(on) * class_probability(target, i, k, p[k]) + T(off)
            row[k] = -t / floored_divisor(p[k])


@kernel()
def elements(
    code: int, output: Floats, y: Floats, parameter: float, delta: Floats, losses: Floats
) -> None:
    """The forms that are a mean over the outputs, element by element: L_ik, and its derivative."""
    T = output.dtype.type
    limit = T(parameter)
    if code == SIGMOID_CROSS_ENTROPY:
        for j in range(output.size):
            z = output[j]
            losses[j] = softplus(z) - z * y[j]
            delta[j] = sigmoid(z) - y[j]
        if parameter < 0:
            for j in range(output.size):
                # From the rounded probability, as scikit-learn does: 1 - a has few digits near 1.
                a, t = clip_one(sigmoid(output[j]), -limit, T(1) + limit), y[j]
                losses[j] = -(t * log(a) + (T(1) - t) * log(T(1) - a))
    elif code == BINARY_CROSS_ENTROPY:
        for j in range(output.size):
            a, t = output[j], y[j]
            losses[j] = -(t * floored_log(a) + (T(1) - t) * floored_log(T(1) - a))
            delta[j] = (a - t) / floored_divisor(a * (T(1) - a))
    elif code == HALF_SQUARED_ERROR:
        for j in range(output.size):
            e = output[j] - y[j]
            losses[j] = T(0.5) * e * e
            delta[j] = e
    elif code == MSE:
        for j in range(output.size):
            e = output[j] - y[j]
            losses[j] = e * e
            delta[j] = e + e
    elif code == MAE:
        for j in range(output.size):
            e = output[j] - y[j]
            losses[j] = abs(e)
            delta[j] = sign(e)
    elif code == HUBER:
        for j in range(output.size):
            e = output[j] - y[j]
            size = abs(e)
            line = limit * (size - T(0.5) * limit)
            losses[j] = T(0.5) * e * e if size <= limit else line
            delta[j] = limit if e > limit else (-limit if e < -limit else e)
    elif code == POISSON:
        for j in range(output.size):
            a, t = output[j], y[j]
            rate = exp(a)
            losses[j] = rate - t * a
            delta[j] = rate - t


@kernel(fastmath={"reassoc"})
def mean(row: Floats) -> float:
    total = 0.0
    for value in row:
        total += value
    return total / row.size


@kernel()
def loss_rows(
    code: int, output: Floats, target: Any, parameter: float,
    delta: Floats, room: Floats, values: Doubles,
) -> None:  # fmt: skip
    """Each row's loss, and its gradient times O in the forms that are a mean over the outputs.

    Args:
        code: the form; see FORMS.
        output, delta: (rows, O).
        target: (rows,) or (rows, O).
        parameter: the form's number.
        room: (rows * (O + ROOM),) for intermediate results.
        values: (rows,) receives L_i.
    """
    rows, width = output.shape
    if code == SOFTMAX_CROSS_ENTROPY:
        if target.ndim == 1 and parameter <= 0 and 2 <= width <= SHORT_ROW:
            softmax_cross_entropy_of_labels(output, target, delta, room, values)
        else:
            softmax_cross_entropy(output, target, max(parameter, 0.0), delta, values)
        if parameter < 0:
            clip(values[:rows], parameter)
    elif code == CROSS_ENTROPY:
        cross_entropy(output, target, parameter, delta, values)
    elif target.ndim == 2:
        elements(
            code, output.reshape(-1), target.reshape(-1), parameter,
            delta.reshape(-1), room,
        )  # fmt: skip
        for i in range(rows):
            values[i] = mean(room[i * width : (i + 1) * width])


@kernel()
def weigh_rows(
    code: int, weight: Floats | None, total: float,
    delta: Floats, delta_start: int, width: int, first: int, last: int,
) -> None:  # fmt: skip
    """The gradient of the batch's weighted mean from that of rows first, ..., last - 1."""
    T = delta.dtype.type
    share_of_output = 1 / width if code >= FIRST_OF_VALUES else 1.0
    for i in range(first, last):
        share = row_weight(weight, i) / total if total > 0 else 0.0
        factor = T(share * share_of_output)
        row = delta[delta_start + i * width : delta_start + (i + 1) * width]
        for k in range(width):
            row[k] *= factor


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
def add_values(
    weight: Floats | None, values: Doubles, rows: int, total: float, totals: Doubles
) -> None:
    """Adds sum(w_i L_i) and sum(w_i) to the totals."""
    value = 0.0
    for i in range(rows):
        value += row_weight(weight, i) * values[i]
    totals[LOSS_SUM] += value
    totals[WEIGHT_SUM] += total


@kernel()
def loss(
    code: int, output: Floats, target: Any, weight: Floats | None, parameter: float,
    delta: Floats, totals: Doubles, room: Floats, values: Doubles, unit: int,
) -> None:  # fmt: skip
    """The weighted mean loss of a whole batch: its gradient, and its sum added to `totals`."""
    floats(output, weight, delta, room)
    doubles(totals, values)
    rows, outputs = output.shape
    if delta.shape != output.shape or len(target) != rows:
        raise ValueError("delta must be (B, O) and the target (B, O) or (B,)")
    if target.ndim == 1:
        int64s(target)
        if code >= FIRST_OF_VALUES:
            raise ValueError("the target of this form must be (B, O)")
        for i in range(rows):
            if not 0 <= target[i] < outputs:
                raise ValueError("a class label is outside 0, ..., O - 1")
    else:
        floats(output, target)
        if target.shape[1] != outputs:
            raise ValueError("the target must be (B, O) or (B,)")
    if weight is not None and weight.size != rows:
        raise ValueError("weight must be (B,)")
    total = total_weight(weight, rows)
    call(unit, (code, output, target, rows, outputs, parameter, delta, room, values))
    weigh_rows(code, weight, total, delta.reshape(-1), 0, outputs, 0, rows)
    add_values(weight, values, rows, total, totals)
