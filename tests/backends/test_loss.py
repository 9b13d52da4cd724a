"""The loss of every backend, in every form, against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.losses import FORMS
from tests.backends.conftest import exact
from tests.tolerances import assert_close

CLASS_FORMS = ("softmax_cross_entropy", "cross_entropy")
PROBABILITY_FORMS = ("cross_entropy", "binary_cross_entropy")
SHAPES = [(1, 1), (3, 31), (32, 1), (33, 3), (127, 127), (257, 33)]


def inputs(form, draw, B, O):  # noqa: E741
    """(output, target) in the form's domain; probabilities near 0 and 1 among them."""
    output, target = draw.normal(B, O, scale=2.0), draw.normal(B, O)
    if form in PROBABILITY_FORMS:
        output = draw.uniform(B, O, low=0.01, high=0.99)
    if form in CLASS_FORMS or "cross_entropy" in form:
        target = draw.uniform(B, O)
    return output, target


def run(device, form, output, target, weight=None, parameter=0.0, before=(0.0, 0.0), scaling=None):
    """(delta, totals) of one call."""
    delta, totals = device.new(*output.shape), device.put(before, np.float64)
    on_device = device.put(target, np.int64 if target.ndim == 1 else None)
    w = None if weight is None else device.put(weight)
    scale = None if scaling is None else device.put(scaling, np.float64)
    device.backend.loss(form, device.put(output), on_device, w, parameter, delta, totals, scale)
    return device.get(delta), device.get(totals)


def check(device, truth, form, output, target, **settings):
    delta, totals = run(device, form, output, target, **settings)
    expected_delta, expected_totals = run(truth, form, output, target, **settings)
    scale = np.abs(expected_delta).max(initial=0.0)
    terms = output.shape[1]
    assert_close(delta, expected_delta, device.dtype, terms=terms, scale=float(scale))
    scale = float(np.abs(expected_totals).max())
    assert_close(totals, expected_totals, device.dtype, terms=terms, scale=scale)


@pytest.mark.parametrize("form", FORMS)
def test_loss(device, truth, draw, form):
    for B, O in SHAPES:  # noqa: E741
        output, target = inputs(form, draw, B, O)
        for weight in (None, draw.uniform(B, high=3.0)):
            for parameter in (0.3, 0.0) if form in CLASS_FORMS else (0.7,):
                settings = {"weight": weight, "parameter": parameter, "before": (2.0, 3.0)}
                check(device, truth, form, output, target, **settings)
                if form in CLASS_FORMS:
                    check(device, truth, form, output, draw.labels(B, O), **settings)


@pytest.mark.parametrize("form", FORMS)
def test_rows_without_weight_do_not_count(device, draw, form):
    output, target = inputs(form, draw, 32, 3)
    weight = np.where(np.arange(32) < 20, 1.0, 0.0)
    delta, totals = run(device, form, output, target, weight, 0.5)
    expected_delta, expected_totals = run(device, form, output[:20], target[:20], None, 0.5)
    assert_close(delta[:20], expected_delta, device.dtype)
    assert_close(totals, expected_totals, device.dtype)
    assert (delta[20:] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_no_weight_at_all_is_no_gradient(device, draw, form):
    output, target = inputs(form, draw, 3, 4)
    delta, totals = run(device, form, output, target, np.zeros(3), 0.5, (1.5, 2.5))
    assert (delta == 0).all()
    np.testing.assert_array_equal(totals, [1.5, 2.5])


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_passed_on(device, draw, form):
    output, target = inputs(form, draw, 5, 3)
    output[2, 1] = np.nan
    delta, totals = run(device, form, output, target, None, 0.5)
    nan = np.isnan(delta)
    assert nan[2, 1]
    assert not nan[[0, 1, 3, 4]].any()
    assert np.isnan(totals[0])
    assert totals[1] == 5


EXTREMES = exact([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])


@pytest.mark.parametrize(
    "form", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "mae", "huber"]
)
def test_extreme_outputs(device, truth, form):
    n = len(EXTREMES)
    output = np.stack([EXTREMES, EXTREMES[::-1]])
    target = np.tile(np.eye(n)[0], (2, 1))
    delta, totals = run(device, form, output, target, None, 1.0 if form == "huber" else 0.1)
    assert np.isfinite(delta).all()
    assert np.isfinite(totals).all()
    check(device, truth, form, output, target, parameter=1.0 if form == "huber" else 0.1)


# A negative parameter -c clips the value, as sklearn.metrics.log_loss clips probabilities, and
# leaves the gradient as it is.
@pytest.mark.parametrize("classes", [4, 40])  # short rows take a way of their own
def test_clipped_cross_entropy(device, truth, draw, classes):
    output, labels = draw.normal(33, classes, scale=9.0), draw.labels(33, classes)
    probability = np.exp(output - output.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    delta, totals = run(device, "softmax_cross_entropy", output, labels, None, -1e-3)
    expected = log_loss(labels, np.clip(probability, 1e-3, 1 - 1e-3), classes)
    assert_close(totals[0], expected, device.dtype, terms=33, scale=expected)
    unclipped, larger = run(device, "softmax_cross_entropy", output, labels)
    np.testing.assert_array_equal(delta, unclipped)
    assert larger[0] > 1.1 * totals[0]


def test_clipped_binary_cross_entropy(device, truth, draw):
    output, target = draw.normal(33, 3, scale=9.0), draw.labels(99, 2).reshape(33, 3)
    p = np.clip(1 / (1 + np.exp(-output)), 1e-3, 1 - 1e-3)
    delta, totals = run(device, "sigmoid_cross_entropy", output, target.astype(float), None, -1e-3)
    expected = -np.log(np.where(target, p, 1 - p)).mean(axis=1).sum()
    assert_close(totals[0], expected, device.dtype, terms=33, scale=expected)
    unclipped, larger = run(device, "sigmoid_cross_entropy", output, target.astype(float))
    np.testing.assert_array_equal(delta, unclipped)
    assert larger[0] > 1.1 * totals[0]


def log_loss(labels, probability, classes):
    """The sum over the rows; a clipped row of probabilities need not sum to 1."""
    return -np.log((np.eye(classes)[labels] * probability).sum(axis=1)).sum()


@pytest.mark.parametrize("form", PROBABILITY_FORMS)
def test_probabilities_of_exactly_0_and_1(device, truth, form):
    output, target = np.array([[0.0, 1.0, 0.5]]), np.array([[1.0, 0.0, 0.5]])
    check(device, truth, form, output, target)


@pytest.mark.parametrize("form", ["mae", "huber"])
def test_gradient_at_the_kinks(device, truth, form):
    check(device, truth, form, np.array([[0.0, 0.5, -0.5]]), np.zeros((1, 3)), parameter=0.5)
