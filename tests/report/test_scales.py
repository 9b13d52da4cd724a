"""Axes: round numbers that enclose the values, and curves that keep their extremes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.report.scales import chosen, fitting, linear, logarithmic, short, thinned

finite = st.floats(-1e12, 1e12, allow_nan=False)


def is_round(step: float) -> bool:
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    return min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 1e-6


@given(finite, st.floats(0, 1e12))
def test_linear_ticks_are_round_different_and_enclose_the_values(low, width):
    high = low + width
    scale = linear(low, high, 0, 100)
    steps = np.diff(scale.ticks)
    assert 2 <= len(scale.ticks) <= 6
    assert is_round(float(np.median(steps))) or width < 1e-6 * abs(low)
    assert (steps > 0).all()
    assert len(set(scale.labels)) == len(scale.labels)
    slack = 2e-9 * max(abs(low), abs(high)) + 1e-8 * width
    assert scale.low <= low + slack
    assert scale.high >= high - slack


@given(st.integers(1, 10_000), st.integers(0, 100_000))
def test_ticks_of_epochs_are_whole_and_inside(low, width):
    scale = linear(low, low + width, 0, 100, whole=True)
    assert all(tick == int(tick) for tick in scale.ticks)
    assert 1 <= len(scale.ticks) <= 6
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    if width:
        assert (scale.low, scale.high) == (low, low + width)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.013, 0.0978, "0 0.02 0.04 0.06 0.08 0.1"),
        (0.81, 0.972, "0.8 0.85 0.9 0.95 1"),
        (-3.2, 17.0, "−5 0 5 10 15 20"),
        (12.0, 48_000.0, "0 10k 20k 30k 40k 50k"),
    ],
)
def test_labels(low, high, labels):
    assert " ".join(linear(low, high, 0, 1).labels) == labels


def test_logarithmic_where_values_are_far_apart():
    scale = fitting([0.0012, 2.4, math.nan], 0, 100)
    assert scale.logarithmic
    assert " ".join(scale.labels) == "0.001 0.01 0.1 1"
    assert scale.at(0.001) == 0
    assert scale.at(0.01) - scale.at(0.001) == pytest.approx(scale.at(1) - scale.at(0.1))
    assert not fitting([0.5, 2.4], 0, 100).logarithmic
    assert not fitting([0.0, 2400.0], 0, 100).logarithmic
    assert not fitting([-1.0, 2400.0], 0, 100).logarithmic


@given(st.floats(1e-30, 1e20), st.floats(51, 1e10))
def test_logarithmic_ticks_enclose_the_values(low, ratio):
    scale = logarithmic(low, low * ratio, 0, 100)
    assert 1 <= len(scale.ticks) <= 7
    assert scale.low <= low * (1 + 1e-6)
    assert scale.high >= low * ratio * (1 - 1e-6)
    assert 0 <= scale.at(low) <= scale.at(low * ratio) <= 100


@pytest.mark.parametrize(
    "values",
    [[], [math.nan], [math.inf, 1.0], [3.0, 3.0], [0.0], [-2.0], [-1.7e308, 1.7e308], [1.0, 1e305]],
)
def test_any_values_have_a_scale(values):
    scale = fitting(values, 100, 0)
    assert scale.low < scale.high
    assert all(math.isfinite(scale.at(v)) for v in values if math.isfinite(v))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.25, "0.25"), (-3.25, "−3.25"), (12_345, "12.35k"), (3_000_000, "3M"),
        (1.2e-5, "1.2e−5"), (2e15, "2e15"), (math.nan, "–"), (math.inf, "∞"), (99_999_999, "100M"),
        (999.96, "1000"), (1 / 3, "0.3333"),
    ],
)  # fmt: skip
def test_short_numbers(value, text):
    assert short(value) == text


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=41, max_size=500))
def test_a_thinned_curve_keeps_its_extremes_and_its_end(values):
    x, y = thinned(list(range(len(values))), values, 40)
    assert len(x) == len(y) <= 41
    assert x == sorted(set(x))
    assert x[-1] == len(values) - 1
    assert all(y[k] is values[i] for k, i in enumerate(x))
    numbers = [value for value in values if math.isfinite(value)]
    if numbers:
        kept = [value for value in y if math.isfinite(value)]
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))


def test_a_gap_in_a_thinned_curve_stays_one():
    values = [1.0] * 500 + [math.nan] * 500 + [2.0] * 500
    x, y = thinned(range(1500), values, 60)
    assert any(math.isnan(b) and 500 <= a < 1000 for a, b in zip(x, y, strict=True))


def test_chosen_rows_of_a_table():
    assert chosen(3, 25) == [0, 1, 2]
    rows = chosen(10_000, 25, 4321)
    assert len(rows) == 26
    assert {0, 4321, 9999} <= set(rows)
