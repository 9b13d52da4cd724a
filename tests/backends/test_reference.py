"""The reference against plain formulas and finite differences: why it is fit to be the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS, activation_backward
from mlp.backends import get_backend
from mlp.backends.rounding import bfloat16_rounded, float16_rounded, tf32_rounded
from mlp.losses import FORMS
from tests.backends.conftest import exact, in_bfloat16, in_float16, in_tf32
from tests.tolerances import (
    DIFFERENCE_RELATIVE,
    DIFFERENCE_STEP,
    FLOAT64_RELATIVE,
    assert_close,
)

Z = np.array([-30.0, -5.3, -1.7, -0.6, -0.01, 0.02, 0.4, 1.1, 2.9, 6.2, 30.0])

FORMULAS = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (math.exp(z) - 1)),
    "gelu": lambda z: z * 0.5 * math.erfc(-z / math.sqrt(2)),
    "gelu_tanh": lambda z: (
        0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    ),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "softplus": lambda z: math.log1p(math.exp(z)),
}


def test_every_elementwise_activation_has_a_formula():
    assert {*FORMULAS, "softmax"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_is_its_formula(name):
    expected = [FORMULAS[name](z) for z in Z]
    np.testing.assert_allclose(
        ACTIVATIONS[name].forward(Z), expected, rtol=FLOAT64_RELATIVE, atol=FLOAT64_RELATIVE
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_derivative_is_the_central_difference(name):
    row = ACTIVATIONS[name]
    h = DIFFERENCE_STEP
    difference = (row.forward(Z + h) - row.forward(Z - h)) / (2 * h)
    saved = Z if row.saves == "z" else row.forward(Z)
    np.testing.assert_allclose(row.derivative(saved), difference, atol=DIFFERENCE_RELATIVE)


def test_softmax_rows_and_their_jacobian(draw):
    z, gradient = draw.normal(3, 5), draw.normal(3, 5)
    forward = ACTIVATIONS["softmax"].forward
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(forward(z), expected, rtol=FLOAT64_RELATIVE)
    h = DIFFERENCE_STEP
    difference = np.zeros_like(z)
    for k in range(5):
        e = h * np.eye(5)[k]
        difference[:, k] = (gradient * (forward(z + e) - forward(z - e))).sum(axis=1) / (2 * h)
    actual = activation_backward("softmax", gradient, forward(z))
    np.testing.assert_allclose(actual, difference, atol=DIFFERENCE_RELATIVE)


def loss_inputs(form, draw, rows, outputs):
    """(output, target, parameter) in the form's domain, away from its kinks."""
    z, y = draw.normal(rows, outputs), draw.normal(rows, outputs)
    share = draw.uniform(rows, outputs, low=0.1)
    if form == "softmax_cross_entropy":
        return z, share, 0.1
    if form == "cross_entropy":
        return draw.uniform(rows, outputs, low=0.1, high=0.9), share, 0.1
    if form == "binary_cross_entropy":
        return draw.uniform(rows, outputs, low=0.1, high=0.9), share, 0.0
    if form == "sigmoid_cross_entropy":
        return z, share, 0.0
    return z, y, 0.7


@pytest.mark.parametrize("form", FORMS)
def test_loss_gradient_is_the_central_difference(form, draw):
    output, target, parameter = loss_inputs(form, draw, 4, 3)
    h = DIFFERENCE_STEP
    _, gradient = FORMS[form](output, target, parameter)
    for k in range(3):
        e = h * np.eye(3)[k]
        above, _ = FORMS[form](output + e, target, parameter)
        below, _ = FORMS[form](output - e, target, parameter)
        difference = (above - below) / (2 * h)
        np.testing.assert_allclose(gradient[:, k], difference, atol=DIFFERENCE_RELATIVE)


def plain_loss(form, a, y, parameter):
    """One row's loss, written out."""
    n = len(a)
    error = a - y
    smooth = y * (1 - parameter) + parameter / n
    if form == "softmax_cross_entropy":
        return -(smooth * np.log(np.exp(a) / np.exp(a).sum())).sum()
    if form == "cross_entropy":
        return -(smooth * np.log(a)).sum()
    if form == "sigmoid_cross_entropy":
        a = 1 / (1 + np.exp(-a))
    if form in ("sigmoid_cross_entropy", "binary_cross_entropy"):
        return -(y * np.log(a) + (1 - y) * np.log(1 - a)).mean()
    if form == "huber":
        small = np.abs(error) <= parameter
        linear = parameter * (np.abs(error) - parameter / 2)
        return np.where(small, error**2 / 2, linear).mean()
    values = {
        "half_squared_error": error**2 / 2,
        "mse": error**2,
        "mae": np.abs(error),
        "poisson": np.exp(a) - y * a,
    }
    return values[form].mean()


@pytest.mark.parametrize("form", FORMS)
def test_loss_is_its_formula(form, draw):
    output, target, parameter = loss_inputs(form, draw, 4, 3)
    value, _ = FORMS[form](output, target, parameter)
    expected = [plain_loss(form, a, y, parameter) for a, y in zip(output, target, strict=True)]
    np.testing.assert_allclose(value, expected, rtol=FLOAT64_RELATIVE)


@pytest.mark.parametrize("form", ["softmax_cross_entropy", "cross_entropy"])
def test_labels_are_rows_with_a_single_one(form, draw):
    output, _, _ = loss_inputs(form, draw, 4, 3)
    labels = np.array([2, 0, 1, 1])
    for by_label, by_row in zip(
        FORMS[form](output, labels, 0.2), FORMS[form](output, np.eye(3)[labels], 0.2), strict=True
    ):
        np.testing.assert_array_equal(by_label, by_row)


def test_bfloat16_is_rounded_to_nearest_even():
    ties = 1 + np.arange(65) * 2.0**-10
    numbers = exact([*ties, *-ties, *Z, 0.0, 255.5, 3e38, 1e-30])
    rounded = bfloat16_rounded(numbers.astype(np.float32))
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, in_bfloat16(numbers))
    beyond = np.array([np.nan, np.inf, -np.inf, np.finfo(np.float32).max], np.float32)
    np.testing.assert_array_equal(bfloat16_rounded(beyond), [np.nan, np.inf, -np.inf, np.inf])


def test_tf32_is_rounded_to_nearest_away_from_0():
    ties = 1 + np.arange(65) * 2.0**-13  # every fourth is a tie between multiples of 2^-10
    numbers = exact([*ties, *-ties, *Z, 0.0, 2047.5, 3e38, 1e-30])
    rounded = tf32_rounded(numbers.astype(np.float32))
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, in_tf32(numbers))
    assert tf32_rounded(np.float32([1 + 2.0**-11, -1 - 2.0**-11])).tolist() == [
        1 + 2.0**-10, -1 - 2.0**-10,
    ]  # fmt: skip
    beyond = np.array([np.nan, np.inf, -np.inf, np.finfo(np.float32).max], np.float32)
    np.testing.assert_array_equal(tf32_rounded(beyond), [np.nan, np.inf, -np.inf, np.inf])


def test_float16_is_rounded_to_nearest_even_and_ends_at_65504():
    ties = 1 + np.arange(65) * 2.0**-13
    numbers = exact([*ties, *-ties, *Z, 0.0, 2047.5, 65504.0, 65519.0, 2.0**-14])
    rounded = float16_rounded(numbers.astype(np.float32))
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, in_float16(numbers))
    small = np.array([2.0**-24, 2.0**-25, 1.5 * 2.0**-24], np.float32)
    np.testing.assert_array_equal(float16_rounded(small), [2.0**-24, 0, 2.0**-23])
    beyond = np.array([np.nan, np.inf, 65520.0, -1e10], np.float32)
    np.testing.assert_array_equal(float16_rounded(beyond), [np.nan, np.inf, np.inf, -np.inf])


@pytest.mark.parametrize(
    ("precision", "rounded"),
    [("bfloat16", in_bfloat16), ("tf32", in_tf32), ("float16", in_float16)],
)
def test_products_round_their_operands_alone(precision, rounded):
    rng = np.random.default_rng(0)
    x, W, delta = (rng.standard_normal(shape) for shape in ((5, 4), (4, 3), (5, 3)))
    x, W, delta = (array.astype(np.float32) for array in (x, W, delta))
    b = rng.standard_normal(3).astype(np.float32)
    backend = get_backend("numpy", precision)
    a, dx, dW, db, dx_sum = (
        np.empty(shape, np.float32) for shape in ((5, 3), (5, 4), (4, 3), 3, 4)
    )
    backend.linear_forward(x, W, b, "identity", a, None)
    backend.linear_delta(delta, W, x, "identity", dx, dx_sum)
    backend.linear_grads(x, delta, dW, db)
    assert_close(a, rounded(x) @ rounded(W) + b, np.float32, terms=4)
    assert_close(dx, rounded(delta) @ rounded(W).T, np.float32, terms=4)
    assert_close(dW, rounded(x).T @ rounded(delta), np.float32, terms=4)
    assert_close(db, delta.sum(axis=0), np.float32, terms=4)
    assert_close(dx_sum, dx.sum(axis=0), np.float32, terms=4)
