"""Activations: the formulas, and the functions that apply them in place to whole rows.

The formulas keep the type of their argument (a bare 1 would turn float32 into float64), do not
overflow for |z| up to 1e4, and pass NaN on. The code of an activation is looked at once per call,
and rows lie end to end, so each loop is one formula over a flat array, however short a row is.
"""

from __future__ import annotations

import math
from typing import Any

from mlp_kernels.cpu.compiler import Floats, kernel

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
SQRT_HALF = math.sqrt(0.5)
SQRT_TWO_OVER_PI = math.sqrt(2 / math.pi)
DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


@kernel()
def sigmoid(z: Any) -> Any:
    # exp of a non-positive number only, so that nothing overflows on either side.
    T = type(z)
    e = math.exp(-abs(z))
    return (T(1) if z >= T(0) else e) / (T(1) + e)


@kernel()
def softplus(z: Any) -> Any:
    T = type(z)
    return (z if z > T(0) else T(0)) + math.log1p(math.exp(-abs(z)))


@kernel()
def normal_cdf(z: Any) -> Any:
    # erfc keeps the relative precision of the left tail, which 1 + erf cancels away.
    T = type(z)
    return T(0.5) * math.erfc(-z * T(SQRT_HALF))


@kernel()
def gelu_slope(z: Any) -> Any:
    T = type(z)
    return normal_cdf(z) + z * math.exp(T(-0.5) * z * z) * T(DENSITY_AT_0)


@kernel()
def gelu_tanh_inner(z: Any) -> Any:
    T = type(z)
    return math.tanh(T(SQRT_TWO_OVER_PI) * (z + T(GELU_TANH_CUBIC) * z * z * z))


@kernel()
def gelu_tanh_slope(z: Any) -> Any:
    T = type(z)
    t = gelu_tanh_inner(z)
    inner_slope = T(SQRT_TWO_OVER_PI) * (T(1) + T(3 * GELU_TANH_CUBIC) * z * z)
    return T(0.5) * (T(1) + t) + T(0.5) * z * (T(1) - t * t) * inner_slope


@kernel()
def silu_slope(z: Any) -> Any:
    T = type(z)
    s = sigmoid(z)
    return s * (T(1) + z * (T(1) - s))


@kernel()
def softmax(z: Floats, width: int) -> None:
    """Each row of z to probabilities; shifting a row by its largest entry changes nothing."""
    for start in range(0, z.size, width):
        top = z[start]
        for k in range(start, start + width):
            top = max(top, z[k])
        total = z.dtype.type(0)
        for k in range(start, start + width):
            z[k] = math.exp(z[k] - top)
            total += z[k]
        for k in range(start, start + width):
            z[k] /= total


@kernel()
def softmax_derive(gradient: Floats, a: Floats, width: int) -> None:
    """Softmax's Jacobian applied: gradient = a * (gradient - sum_j gradient_j a_j) in each row."""
    for start in range(0, gradient.size, width):
        inner = gradient.dtype.type(0)
        for k in range(start, start + width):
            inner += gradient[k] * a[k]
        for k in range(start, start + width):
            gradient[k] = a[k] * (gradient[k] - inner)


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
            z[j] = z[j] if z[j] > T(0) else math.expm1(z[j])
    elif code == SELU:
        for j in range(z.size):
            z[j] = T(SELU_SCALE) * (z[j] if z[j] > T(0) else T(SELU_ALPHA) * math.expm1(z[j]))
    elif code == SIGMOID:
        for j in range(z.size):
            z[j] = sigmoid(z[j])
    elif code == TANH:
        for j in range(z.size):
            z[j] = math.tanh(z[j])
    elif code == SOFTPLUS:
        for j in range(z.size):
            z[j] = softplus(z[j])
    elif code == SOFTMAX:
        softmax(z, width)
    elif code == GELU:
        for j in range(z.size):
            z[j] = z[j] * normal_cdf(z[j])
    elif code == GELU_TANH:
        for j in range(z.size):
            z[j] = T(0.5) * z[j] * (T(1) + gelu_tanh_inner(z[j]))
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
            gradient[j] *= -math.expm1(-saved[j])
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
