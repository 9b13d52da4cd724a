"""Schedules: values worked out by hand, and that they are pure functions of place and state."""

import math

import numpy as np
import pytest

import mlp
from mlp.errors import InvalidSetting
from mlp.schedules import SCHEDULES, Horizon, get_schedule

CLOSE = {"rtol": 1e-14, "atol": 0}


def rates(schedule, lr=1.0, epochs=4, steps=2, samples=10, losses=None):
    """Every rate of a training: (epochs, steps); `losses` are observed after each epoch."""
    state, found = schedule.start(), []
    for epoch in range(epochs):
        found.append(schedule.rates(lr, Horizon(epoch, epochs, steps, samples), state))
        state = schedule.observe(state, losses[epoch] if losses else 1.0)
    return np.array(found)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (mlp.Constant(), [[1, 1]] * 4),
        (mlp.StepDecay(2, 0.5), [[1, 1], [1, 1], [0.5, 0.5], [0.5, 0.5]]),
        (mlp.Exponential(0.5), [[1, 1], [0.5, 0.5], [0.25, 0.25], [0.125, 0.125]]),
        (
            mlp.InverseScaling(0.5),
            [[1, 1], [11**-0.5] * 2, [21**-0.5] * 2, [31**-0.5] * 2],
        ),
        (
            mlp.LinearWarmup(2, 0.2),
            [[0.2, 0.4], [0.6, 0.8], [1, 1], [1, 1]],
        ),
        (
            mlp.LinearWarmup(2, 0.2, mlp.Exponential(0.5)),
            [[0.2, 0.4], [0.3, 0.4], [0.25, 0.25], [0.125, 0.125]],
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, mlp.Schedule) else "",
)
def test_values(schedule, expected):
    np.testing.assert_allclose(rates(schedule), expected, **CLOSE)


def test_cosine():
    found = rates(mlp.Cosine(eta_min=0.2), lr=1.0, epochs=2, steps=2)
    half = math.sqrt(0.5)
    expected = [[1, 0.2 + 0.4 * (1 + half)], [0.6, 0.2 + 0.4 * (1 - half)]]
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_one_cycle():
    # 10 steps: up from 0.1 during steps 0 to 2, where 0.3 * 10 - 1 = 2 is the peak, down to step 9.
    found = rates(mlp.OneCycle(0.3, 10.0, 100.0), lr=1.0, epochs=5, steps=2).ravel()
    np.testing.assert_allclose(found[[0, 1, 2, 9]], [0.1, 0.55, 1, 0.001], rtol=1e-12)
    fall = 0.001 + 0.999 / 2 * (1 + np.cos(np.pi * np.arange(1, 7) / 7))
    np.testing.assert_allclose(found[3:9], fall, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_one_cycle_of_a_few_steps_is_finite_and_bounded(share, steps):
    found = rates(mlp.OneCycle(pct_start=share), lr=0.5, epochs=1, steps=steps)
    assert np.isfinite(found).all()
    assert ((found > 0) & (found <= 0.5)).all()


def test_plateau():
    losses = [5, 4, 4, 4, 4, 4, 4, 1, 1, 1]
    schedule = mlp.ReduceOnPlateau(factor=0.5, patience=1, cooldown=1)
    found = rates(schedule, epochs=10, steps=1, losses=losses).ravel()
    # Bad epochs 3, 4 (from 1) reduce; 5 cools; 6, 7 reduce again; 8 is better.
    np.testing.assert_allclose(found, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25], **CLOSE)


def test_plateau_stops_at_the_lowest_rate_and_never_raises_one():
    flat = [1.0] * 6
    low = rates(mlp.ReduceOnPlateau(0.1, 0, min_lr=0.02), epochs=6, steps=1, losses=flat).ravel()
    np.testing.assert_allclose(low, [1, 1, 0.1, 0.02, 0.02, 0.02], **CLOSE)
    above = rates(mlp.ReduceOnPlateau(0.1, 0, min_lr=9.0), epochs=3, steps=1, losses=flat)
    np.testing.assert_allclose(above, 1)


@pytest.mark.parametrize(("first", "second", "better"), [(2, 1.7, True), (2, 1.9, False)])
def test_plateau_threshold_is_relative(first, second, better):
    schedule = mlp.ReduceOnPlateau(factor=0.5, patience=0, threshold=0.1)
    found = rates(schedule, epochs=3, steps=1, losses=[first, second, 0])
    assert (found[2, 0] == 1) == better


def test_plateau_of_negative_losses():
    schedule = mlp.ReduceOnPlateau(factor=0.5, patience=0, threshold=0.1)
    found = rates(schedule, epochs=4, steps=1, losses=[-2.0, -2.5, -2.6, 0]).ravel()
    np.testing.assert_allclose(found, [1, 1, 1, 0.5])


def test_warmup_passes_the_loss_on_to_what_comes_after():
    schedule = mlp.LinearWarmup(1, 0.5, mlp.ReduceOnPlateau(0.1, 0))
    found = rates(schedule, epochs=3, steps=1, losses=[1, 1, 1]).ravel()
    np.testing.assert_allclose(found, [0.5, 1, 0.1], **CLOSE)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_name_gives_its_defaults(name):
    schedule = get_schedule(name)
    assert schedule == SCHEDULES[name]()
    assert get_schedule(schedule) is schedule
    assert rates(schedule).shape == (4, 2)
    before = schedule.start()
    schedule.observe(before, 3.0)
    assert before == schedule.start(), "observe must not change the state it is given"


def test_no_schedule_is_a_constant_rate():
    assert get_schedule(None) == mlp.Constant()


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp.StepDecay(step_size=0),
        lambda: mlp.StepDecay(gamma=-0.1),
        lambda: mlp.Exponential(gamma=math.nan),
        lambda: mlp.Cosine(eta_min=-1),
        lambda: mlp.LinearWarmup(epochs=0),
        lambda: mlp.LinearWarmup(start_factor=1.5),
        lambda: mlp.LinearWarmup(after="cosin"),
        lambda: mlp.OneCycle(pct_start=1.1),
        lambda: mlp.OneCycle(div_factor=0.5),
        lambda: mlp.OneCycle(final_div_factor=0.5),
        lambda: mlp.InverseScaling(power=-1),
        lambda: mlp.ReduceOnPlateau(factor=1.0),
        lambda: mlp.ReduceOnPlateau(patience=-1),
        lambda: mlp.ReduceOnPlateau(threshold=-1),
        lambda: mlp.ReduceOnPlateau(cooldown=-1),
        lambda: mlp.ReduceOnPlateau(min_lr=-1),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(InvalidSetting):
        make()
