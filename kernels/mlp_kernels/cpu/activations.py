"""Activations: the formulas, and the functions that apply them in place to whole rows.

The formulas keep the type of their argument (a bare 1 would turn float32 into float64), do not
overflow for |z| up to 1e4, and pass NaN on. The code of an activation is looked at once per call,
and rows lie end to end, so each loop is one formula over a flat array, however short a row is.
"""

from __future__ import annotations

import math
from typing import Any

from mlp_kernels.cpu.compiler import Floats, kernel
from mlp_kernels.cpu.elementary import exp, expm1, log1p, normal, tanh

# g' is written from a = g(z) up to TANH, and from z from GELU on.
IDENTITY, RELU, LEAKY_RELU, ELU, SELU, SIGMOID, TANH, SOFTPLUS, SOFTMAX = range(9)
GELU, GELU_TANH, SILU = range(9, 12)
FIRST_FROM_Z = GELU

ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "softplus": SOFTPLUS,
    "softmax": SOFTMAX,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
}

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
GELU_TANH_CUBIC = 0.044715
SQRT_TWO_OVER_PI = math.sqrt(2 / math.pi)


@kernel(forceinline=True)
def sigmoid(z: Any) -> Any:
    # exp of a non-positive number only, so that nothing overflows on either side.
    T = type(z)
    e = exp(-abs(z))
    return (e if z < T(0) else T(1)) / (T(1) + e)


@kernel(forceinline=True)
def softplus(z: Any) -> Any:
    T = type(z)
    return (T(0) if z < T(0) else z) + log1p(exp(-abs(z)))


@kernel(forceinline=True)
def gelu_slope(z: Any) -> Any:
    cdf, density = normal(z)
    return cdf + z * density


@kernel(forceinline=True)
def gelu_tanh_gate(z: Any) -> Any:
    """(1 + tanh(u)) / 2 = sigmoid(2 u), which does not cancel for negative u."""
    T = type(z)
    return sigmoid(T(2 * SQRT_TWO_OVER_PI) * (z + T(GELU_TANH_CUBIC) * z * z * z))


@kernel(forceinline=True)
def gelu_tanh_slope(z: Any) -> Any:
    T = type(z)
    s = gelu_tanh_gate(z)
    inner_slope = T(2 * SQRT_TWO_OVER_PI) * (T(1) + T(3 * GELU_TANH_CUBIC) * z * z)
    return s + z * (s * (T(1) - s)) * inner_slope


@kernel(forceinline=True)
def silu_slope(z: Any) -> Any:
    T = type(z)
    s = sigmoid(z)
    return s * (T(1) + z * (T(1) - s))


@kernel()
def largest(row: Floats) -> Any:
    """The largest entry; where there is a NaN, any."""
    # In four chains: a comparison has to wait for the one before it in its chain.
    quarter = row.size // 4
    a = b = c = d = row[0]
    for k in range(quarter):
        a, b = max(a, row[k]), max(b, row[quarter + k])
        c, d = max(c, row[2 * quarter + k]), max(d, row[3 * quarter + k])
    for k in range(4 * quarter, row.size):
        a = max(a, row[k])
    return max(max(a, b), max(c, d))


@kernel()
def exponentials(z: Floats) -> None:
    for j in range(z.size):
        z[j] = exp(z[j])


@kernel(fastmath={"reassoc"})  # lets the sum run in vector lanes; NaN and infinity stay
def softmax(z: Floats, width: int) -> None:
    """Each row of z to probabilities; shifting a row by its largest entry changes nothing."""
    for start in range(0, z.size, width):
        row = z[start : start + width]
        top = largest(row)
        for k in range(width):
            row[k] -= top
    exponentials(z)
    for start in range(0, z.size, width):
        row, total = z[start : start + width], z.dtype.type(0)
        for k in range(width):
            total += row[k]
        for k in range(width):
            row[k] /= total


@kernel(fastmath={"reassoc"})
def softmax_derive(gradient: Floats, a: Floats, width: int) -> None:
    """Softmax's Jacobian applied: gradient = a * (gradient - sum_j gradient_j a_j) in each row."""
    for start in range(0, gradient.size, width):
        g, p = gradient[start : start + width], a[start : start + width]
        inner = gradient.dtype.type(0)
        for k in range(width):
            inner += g[k] * p[k]
        for k in range(width):
            g[k] = p[k] * (g[k] - inner)


@kernel()
def activate(code: int, z: Floats, width: int) -> None:
    """Each z becomes g(z), in place: z (rows * width,), rows end to end."""
    T = z.dtype.type
    if code == RELU:
        for j in range(z.size):
            z[j] = T(0) if z[j] <= T(0) else z[j]  # this way round, NaN stays NaN
    elif code == LEAKY_RELU:
        for j in range(z.size):
            z[j] = z[j] if z[j] > T(0) else T(LEAKY_SLOPE) * z[j]
    elif code == ELU:
        for j in range(z.size):
            below = expm1(z[j])
            z[j] = z[j] if z[j] > T(0) else below
    elif code == SELU:
        for j in range(z.size):
            below = T(SELU_ALPHA) * expm1(z[j])
            z[j] = T(SELU_SCALE) * (z[j] if z[j] > T(0) else below)
    elif code == SIGMOID:
        for j in range(z.size):
            z[j] = sigmoid(z[j])
    elif code == TANH:
        for j in range(z.size):
            z[j] = tanh(z[j])
    elif code == SOFTPLUS:
        for j in range(z.size):
            z[j] = softplus(z[j])
    elif code == SOFTMAX:
        softmax(z, width)
    elif code == GELU:
        for j in range(z.size):
            z[j] = z[j] * normal(z[j])[0]
    elif code == GELU_TANH:
        for j in range(z.size):
            z[j] = z[j] * gelu_tanh_gate(z[j])
    elif code == SILU:
        for j in range(z.size):
            z[j] = z[j] * sigmoid(z[j])


@kernel()
def derive(code: int, gradient: Floats, saved: Floats, width: int) -> None:
    """From dLoss/da to dLoss/dz, in place: gradient, saved (rows * width,).

    `saved` is a = g(z), or z from GELU on.
    """
    T = gradient.dtype.type
    if code == RELU:
        for j in range(gradient.size):
            gradient[j] *= T(1) if saved[j] > T(0) else T(0)
    elif code == LEAKY_RELU:
        for j in range(gradient.size):
            gradient[j] *= T(1) if saved[j] > T(0) else T(LEAKY_SLOPE)
    elif code == ELU:
        for j in range(gradient.size):
            gradient[j] *= T(1) if saved[j] > T(0) else saved[j] + T(1)
    elif code == SELU:
        for j in range(gradient.size):
            a = saved[j]
            gradient[j] *= T(SELU_SCALE) if a > T(0) else a + T(SELU_SCALE * SELU_ALPHA)
    elif code == SIGMOID:
        for j in range(gradient.size):
            gradient[j] *= saved[j] * (T(1) - saved[j])
    elif code == TANH:
        for j in range(gradient.size):
            gradient[j] *= T(1) - saved[j] * saved[j]
    elif code == SOFTPLUS:
        for j in range(gradient.size):
            gradient[j] *= -expm1(-saved[j])
    elif code == SOFTMAX:
        softmax_derive(gradient, saved, width)
    elif code == GELU:
        for j in range(gradient.size):
            gradient[j] *= gelu_slope(saved[j])
    elif code == GELU_TANH:
        for j in range(gradient.size):
            gradient[j] *= gelu_tanh_slope(saved[j])
    elif code == SILU:
        for j in range(gradient.size):
            gradient[j] *= silu_slope(saved[j])
