"""The softmax kernels on the host, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.activations import activation_backward, softmax
from mlp.random import dropout_mask, dropout_threshold
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.softmax import softmax_delta, softmax_rows
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NAMES,
    assert_close,
    assert_same_bits_in_every_order,
    draw,
    get,
    put,
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.run import run

pytestmark = pytest.mark.usefixtures("everywhere")

SEED, STEP, LAYER, RATE = 2**40 + 7, 5, 1, 0.3
WIDTHS = (1, 3, 31, 33, 127)
# (given, saved, out) with dropout or not.
CASES = [
    ((FLOAT32, FLOAT32, FLOAT32), False),
    ((FLOAT64, FLOAT64, FLOAT64), True),
    ((FLOAT32, BFLOAT16, BFLOAT16), True),
    ((BFLOAT16, FLOAT32, FLOAT16), False),
]
each_case = pytest.mark.parametrize(
    ("types", "dropped"), CASES, ids=["-".join(map(NAMES.get, types)) for types, _ in CASES]
)


def dropout(dropped):
    """(what the kernels take, factor of a shape)."""
    if not dropped:
        return None, lambda shape: np.ones(shape)
    counters = guarded([SEED, STEP, 0, 0], np.int64)
    numbers = DropoutNumbers(dropout_threshold(RATE), 1 / (1 - RATE), LAYER, counters)
    return numbers, lambda shape: dropout_mask(SEED, STEP, LAYER, shape, RATE) / (1 - RATE)


def forward(types, dropped, rows, width):
    given, kept, out = types
    z = draw(rows, width, scale=3.0)
    a, saved = empty((rows, width), out), empty((rows, width), kept)
    numbers, factor = dropout(dropped)
    launch = softmax_rows(put(z, given), a, saved, numbers)
    return launch, a, saved, softmax(z) * factor(z.shape), softmax(z)


def backward(types, dropped, rows, width):
    given, kept, out = types
    saved = get(put(softmax(draw(rows, width, scale=3.0)), BFLOAT16))
    g, result = draw(rows, width, seed=1), empty((rows, width), out)
    numbers, factor = dropout(dropped)
    launch = softmax_delta(put(g, given), put(saved, kept), result, numbers)
    return launch, result, activation_backward("softmax", g * factor(g.shape), saved)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build_all(
        make(types, dropped, 1, width)[0].kernel
        for types, dropped in CASES
        for width in (1, 3, 31)
        for make in (forward, backward)
    )


@each_case
def test_softmax_rows(types, dropped):
    for width in WIDTHS:
        for rows in (1, 3, 33):
            launch, a, saved, expected, kept = forward(types, dropped, rows, width)
            run(launch)
            assert_close(a, expected, terms=width)
            assert_close(saved, kept, terms=width)


@each_case
def test_softmax_delta(types, dropped):
    for width in WIDTHS:
        for rows in (1, 3, 33):
            launch, out, expected = backward(types, dropped, rows, width)
            run(launch)
            assert_close(out, expected, terms=width)


def test_rows_of_many_numbers_and_many_rows():
    for rows, width in [(2, 5000), (900, 3)]:
        launch, a, saved, expected, _ = forward(*CASES[0], rows, width)
        run(launch)
        assert_close(a, expected, terms=width)
        np.testing.assert_array_equal(saved, a)
        launch, out, expected = backward(*CASES[0], rows, width)
        run(launch)
        assert_close(out, expected, terms=width)


def test_same_bits_in_every_order():
    def make(_):
        forwards = [forward(*case, 33, 31) for case in CASES]
        backwards = [backward(*case, 33, 31) for case in CASES]
        results = [array for f in forwards for array in f[1:3]] + [b[1] for b in backwards]
        return [made[0] for made in forwards + backwards], results

    assert_same_bits_in_every_order(make)


def test_in_place_and_of_one_array():
    z = draw(33, 31, scale=3.0)
    expected = softmax(z)
    for a, saved in [(True, False), (False, True)]:
        array = put(z, FLOAT32)
        run(softmax_rows(array, array if a else None, array if saved else None))
        assert_close(array, expected, terms=31)
    g, array = draw(33, 31, seed=1), put(draw(33, 31, seed=1), FLOAT32)
    saved = put(expected, FLOAT32)
    run(softmax_delta(array, saved, array))
    assert_close(array, activation_backward("softmax", g, get(saved)), terms=31)


def test_extremes_and_nan():
    z = np.array([[-1e4, -88.8, 0.0, 88.8, 1e4], [1e4] * 5, [0, 1, np.nan, 2, 3], [0, 1, 2, 3, 4]])
    a = empty(z.shape, FLOAT32)
    run(softmax_rows(put(z, FLOAT32), a))
    assert np.isnan(a[2]).all()
    assert_close(a[[0, 1, 3]], softmax(z[[0, 1, 3]]))
    z[[2, 3]] = z[[3, 2]]
    z[3, 0], z[3, 2] = np.nan, 0.0  # the first of its row
    run(softmax_rows(put(z, FLOAT32), a))
    assert np.isnan(a[3]).all()


def test_what_does_not_fit_is_refused():
    z = empty((3, 4), FLOAT32)
    with pytest.raises(ValueError, match="an array to write to"):
        softmax_rows(z, None)
    with pytest.raises(ValueError, match=r"must be of shape \(3, 4\)"):
        softmax_delta(z, z, empty((3, 5), FLOAT32))
