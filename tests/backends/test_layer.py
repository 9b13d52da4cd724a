"""Layer operations of every backend against the float64 reference and plain products."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS
from mlp.backends.protocol import Dropout
from tests.backends.conftest import SHAPES, exact, shapes_for
from tests.tolerances import assert_close

EXTREMES = np.array([-1e4, -1e3, -88.8, -20.0, -1e-4, 0.0, 1e-4, 20.0, 88.8, 1e3, 1e4])


def saved_values(draw, activation, *shape):
    """What a forward pass might have saved, held exactly by float32."""
    z = draw.normal(*shape, scale=2.0)
    row = ACTIVATIONS[activation]
    return exact(z if row.saves == "z" else row.forward(z))


def counters(device, seed=3, step=5):
    return device.put([seed, step, 0, 0], np.int64)


def forward(device, x, W, b, activation, dropout=None):
    """(a, saved) in arrays of their own."""
    shape = (x.shape[0], W.shape[1])
    a, saved = device.new(*shape), device.new(*shape)
    device.backend.linear_forward(
        device.put(x), device.put(W), device.put(b), activation, a, saved, dropout
    )
    return device.get(a), device.get(saved)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_forward(device, truth, draw, activation):
    for B, I, O in shapes_for(activation):  # noqa: E741
        x, W, b = draw.normal(B, I), draw.normal(I, O, scale=I**-0.5), draw.normal(O)
        a, saved = forward(device, x, W, b, activation)
        expected_a, expected_saved = forward(truth, x, W, b, activation)
        assert_close(a, expected_a, device.dtype, terms=I)
        assert_close(saved, expected_saved, device.dtype, terms=I)


def test_identity_layer_is_the_product_and_the_bias(device, draw):
    for B, I, O in SHAPES:  # noqa: E741
        x, W, b = draw.normal(B, I), draw.normal(I, O), draw.normal(O)
        a, _ = forward(device, x, W, b, "identity")
        assert_close(a, np.einsum("bi,io->bo", x, W) + b, device.dtype, terms=I)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_saved_does_not_change_the_output(device, draw, activation):
    x, W, b = draw.normal(33, 3), draw.normal(3, 127), draw.normal(127)
    a, saved = forward(device, x, W, b, activation)
    alone = device.new(33, 127)
    on_device = [device.put(v) for v in (x, W, b)]
    device.backend.linear_forward(*on_device, activation, alone, None)
    np.testing.assert_array_equal(device.get(alone), a)
    if ACTIVATIONS[activation].saves == "a":
        np.testing.assert_array_equal(saved, a)
        shared = device.new(33, 127)
        device.backend.linear_forward(*on_device, activation, shared, shared)
        np.testing.assert_array_equal(device.get(shared), a)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dropout_in_the_forward_pass(device, draw, activation):
    x, W, b = draw.normal(33, 3), draw.normal(3, 127), draw.normal(127)
    dropout = Dropout(0.3, 1, counters(device))
    a, saved = forward(device, x, W, b, activation)
    dropped_a, dropped_saved = forward(device, x, W, b, activation, dropout)
    np.testing.assert_array_equal(dropped_saved, saved)  # saved before anything is dropped
    ones, _ = forward(device, 0 * x, W, 0 * b + 1, "identity", dropout)
    assert_close(dropped_a, a * ones, device.dtype)
    alone = device.new(33, 127)
    on_device = [device.put(v) for v in (x, W, b)]
    device.backend.linear_forward(*on_device, activation, alone, None, dropout)
    np.testing.assert_array_equal(device.get(alone), dropped_a)


def delta(device, delta, W, saved, activation, dropout=None):
    """(out, db_prev) of linear_delta."""
    out, db = device.new(*saved.shape), device.new(saved.shape[1])
    device.backend.linear_delta(
        device.put(delta), device.put(W), device.put(saved), activation, out, db, dropout
    )
    return device.get(out), device.get(db)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_delta(device, truth, draw, activation):
    for B, I, O in shapes_for(activation):  # noqa: E741
        given, W = draw.normal(B, O), draw.normal(I, O, scale=O**-0.5)
        saved = saved_values(draw, activation, B, I)
        out, db = delta(device, given, W, saved, activation)
        expected_out, expected_db = delta(truth, given, W, saved, activation)
        assert_close(out, expected_out, device.dtype, terms=O)
        assert_close(db, expected_db, device.dtype, terms=B + O)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softmax", "gelu"])
def test_dropout_in_the_backward_pass(device, truth, draw, activation):
    given, W = draw.normal(33, 3), draw.normal(127, 3)
    saved = saved_values(draw, activation, 33, 127)
    out, db = delta(device, given, W, saved, activation, Dropout(0.3, 1, counters(device)))
    expected_out, expected_db = delta(
        truth, given, W, saved, activation, Dropout(0.3, 1, counters(truth))
    )
    assert_close(out, expected_out, device.dtype, terms=3)
    assert_close(db, expected_db, device.dtype, terms=33)


def test_backward_pass_drops_what_the_forward_pass_dropped(device):
    dropout = Dropout(0.6, 2, counters(device))
    column, row, ones = np.ones((31, 1)), np.ones((1, 33)), np.ones(33)
    a, _ = forward(device, 0 * column, row, ones, "identity", dropout)
    out, _ = delta(device, column, row.T, np.ones((31, 33)), "identity", dropout)
    np.testing.assert_array_equal(out, a)


def test_linear_grads(device, draw):
    for B, I, O in SHAPES:  # noqa: E741
        x, given = draw.normal(B, I), draw.normal(B, O)
        dW, db, dW_alone = device.new(I, O), device.new(O), device.new(I, O)
        device.backend.linear_grads(device.put(x), device.put(given), dW, db)
        device.backend.linear_grads(device.put(x), device.put(given), dW_alone, None)
        assert_close(device.get(dW), np.einsum("bi,bo->io", x, given), device.dtype, terms=B)
        assert_close(device.get(db), given.sum(axis=0), device.dtype, terms=B)
        np.testing.assert_array_equal(device.get(dW_alone), device.get(dW))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_delta(device, truth, draw, activation):
    for shape in [(1, 1), (33, 127), (3, 2100)]:
        gradient = draw.normal(*shape)
        saved = saved_values(draw, activation, *shape)
        results = []
        for on in (device, truth):
            given, out = on.put(gradient), on.new(*shape)
            on.backend.activation_delta(given, on.put(saved), activation, out)
            results.append(on.get(out))
            on.backend.activation_delta(given, on.put(saved), activation, given)
            np.testing.assert_array_equal(on.get(given), on.get(out))
        assert_close(*results, device.dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_inputs(device, truth, activation):
    """Nothing overflows to NaN: g at up to +-1e4, and g' of what g saved there."""
    n = len(EXTREMES)
    x, W, b = exact(EXTREMES)[:, None], np.ones((1, 2)), np.zeros(2)
    if activation == "softmax":  # a row with all of them, so that they meet
        x, W, b = exact(EXTREMES)[None, :], np.eye(n), np.zeros(n)
    a, saved = forward(device, x, W, b, activation)
    expected_a, _ = forward(truth, x, W, b, activation)
    assert np.isfinite(a).all()
    assert_close(a / (1 + np.abs(expected_a)), expected_a / (1 + np.abs(expected_a)), device.dtype)
    on_device, expected = device.new(*saved.shape), truth.new(*saved.shape)
    ones = np.ones(saved.shape)
    device.backend.activation_delta(device.put(ones), device.put(saved), activation, on_device)
    truth.backend.activation_delta(truth.put(ones), truth.put(saved), activation, expected)
    assert np.isfinite(device.get(on_device)).all()
    assert_close(device.get(on_device), expected, device.dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_is_passed_on(device, draw, activation):
    x, W, b = draw.normal(5, 3), draw.normal(3, 33), draw.normal(33)
    x[2, 1] = np.nan
    a, saved = forward(device, x, W, b, activation)
    rows = np.arange(5) == 2
    for result in (a, saved):
        np.testing.assert_array_equal(np.isnan(result), np.broadcast_to(rows[:, None], (5, 33)))
    given = draw.normal(5, 2)
    given[2, 0] = np.nan
    clean = np.where(np.isnan(saved), 0.5, saved)
    out, db = delta(device, given, draw.normal(33, 2), clean, activation)
    np.testing.assert_array_equal(np.isnan(out), np.broadcast_to(rows[:, None], (5, 33)))
    assert np.isnan(db).all()
