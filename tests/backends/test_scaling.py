"""Loss scaling of every backend: the scale by hand, and updates that are skipped."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.backends.protocol import FIRST_LOSS_SCALE, GOOD_STEPS_TO_DOUBLE
from mlp.losses import FORMS
from tests.backends.conftest import exact
from tests.backends.test_loss import inputs, run
from tests.backends.test_update import LR, UPDATES, VARIANTS
from tests.tolerances import assert_close

START = exact(np.linspace(0.5, 1.5, 33))


class Scale:
    """The arrays of loss scaling on a device."""

    def __init__(self, device, scale, good=0.0, step=7, skipped=0):
        self.device = device
        self.scaling = device.put([scale, good], np.float64)
        self.scalars = device.put([LR, 1, 0], np.float64)
        self.counters = device.put([0, step, 3, skipped], np.int64)

    def unscale(self, gradients):
        """The gradients afterwards."""
        on_device = self.device.put(gradients)
        self.device.backend.unscale(on_device, self.scaling, self.scalars, self.counters)
        return self.device.get(on_device)

    def state(self):
        """[loss scale, good steps], skip, counters."""
        scaling, scalars, counters = (
            self.device.get(array).tolist() for array in (self.scaling, self.scalars, self.counters)
        )
        assert scalars[:2] == [LR, 1]
        return scaling, scalars[2], counters


def test_the_first_scale_is_a_power_of_two():
    assert FIRST_LOSS_SCALE == 65536
    assert GOOD_STEPS_TO_DOUBLE == 2000


@pytest.mark.parametrize("size", [1, 33, 2111])
def test_finite_gradients_are_divided_by_the_scale(device, draw, size):
    gradients = draw.normal(size)
    scale = Scale(device, 1024.0)
    # A power of two: nothing is rounded.
    np.testing.assert_array_equal(scale.unscale(1024 * gradients), gradients)
    assert scale.state() == ([1024, 1], 0, [0, 7, 3, 0])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 17, 32])
def test_a_gradient_that_overflowed_halves_the_scale(device, draw, bad, place):
    gradients = draw.normal(33)
    gradients[place] = bad
    scale = Scale(device, 1024.0, good=5, skipped=2)
    scale.unscale(gradients)
    assert scale.state() == ([512, 0], 1, [0, 7, 3, 3])


def test_gradients_whose_sum_alone_overflows_are_finite(device):
    largest = float(np.finfo(device.dtype).max)
    scale = Scale(device, 1.0)
    scale.unscale([largest, largest])
    assert scale.state() == ([1, 1], 0, [0, 7, 3, 0])


def test_many_good_steps_double_the_scale(device):
    scale = Scale(device, 64.0, good=1998)
    scale.unscale([64.0])
    assert scale.state()[0] == [64, 1999]
    scale.unscale([64.0])
    assert scale.state()[0] == [128, 0]
    np.testing.assert_array_equal(scale.unscale([64.0]), [0.5])
    assert scale.state() == ([128, 1], 0, [0, 7, 3, 0])


def updated(device, operation, scalars, counters, settings):
    """Parameters and states after an update of some that are not 0."""
    _, names, takes_counters = UPDATES[operation]
    p, g, *states = (device.put(START) for _ in range(2 + len(names)))
    given = [device.put(counters, np.int64)] if takes_counters else []
    update = getattr(device.backend, operation)
    update(p, g, *states, device.put(scalars, np.float64), *given, *settings)
    return [device.get(array) for array in (p, *states)]


@pytest.mark.parametrize("operation", UPDATES)
def test_a_skipped_update_changes_nothing(device, operation):
    settings = next(settings for name, _, settings in VARIANTS if name == operation)
    for array in updated(device, operation, [LR, 1, 1], [0, 4, 0, 1], settings):
        np.testing.assert_array_equal(array, START)


def test_skipped_decay_changes_nothing(device):
    weights = device.put(np.ones(33))
    device.backend.decay(weights, device.put([LR, 1, 1], np.float64), 0.4)
    np.testing.assert_array_equal(device.get(weights), np.ones(33))


# Settings with which t changes the update.
COUNTING = {
    "sgd": (0.9, 0.3, 0.1, False),
    "adagrad": (0.1, 0.1, 1e-10),
    "adam": (0.9, 0.999, 1e-8, 0.0, False),
}


@pytest.mark.parametrize("operation", COUNTING)
def test_skipped_steps_do_not_count(device, operation):
    """Step 6 after 5 skipped ones is the first update, step 7 the second."""
    first, second = (
        updated(device, operation, [LR, 1, 0], [0, t, 0, 0], COUNTING[operation]) for t in (1, 2)
    )
    assert (first[0] != second[0]).any()
    for step, expected in ((6, first), (7, second)):
        found = updated(device, operation, [LR, 1, 0], [0, step, 0, 5], COUNTING[operation])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_scale_multiplies_the_gradient_alone(device, draw, form, weighted):
    output, target = inputs(form, draw, 33, 5)
    weight = draw.uniform(33, high=3.0) if weighted else None
    delta, totals = run(device, form, output, target, weight, 0.3)
    scaled, same_totals = run(device, form, output, target, weight, 0.3, scaling=[512.0, 3.0])
    largest = float(np.abs(delta).max())
    assert_close(scaled / 512, delta, device.dtype, scale=largest)
    np.testing.assert_array_equal(same_totals, totals)
