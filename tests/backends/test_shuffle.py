"""The order of an epoch's rows is the same on every backend, and is that of `mlp.random`."""

from __future__ import annotations

import numpy as np
import pytest

from mlp import random

SIZES = [*range(1, 71), 127, 128, 129, 1000]
KEYS = [(0, 0), (1, 2), (2**63 - 1, 2**40 + 3), (2**32, 2**32 - 1)]  # (seed, epoch)


def began(backend, seed, epoch, rows, batches=4):
    """All that `begin_epoch` writes, of arrays that hold something else."""
    counters = backend.from_host(np.array([seed, 17, 3, 5]), np.int64)
    totals = backend.from_host(np.ones(2), np.float64)
    order = backend.from_host(np.full(rows, -1), np.int64)
    rates = backend.from_host(np.full(batches, np.nan), np.float64)
    new_rates = np.linspace(1, 0.1, batches)
    backend.begin_epoch(counters, totals, order, rates, epoch, new_rates)
    np.testing.assert_array_equal(backend.to_host(rates), new_rates)
    return (backend.to_host(array) for array in (counters, totals, order))


@pytest.mark.parametrize(("seed", "epoch"), KEYS)
def test_the_order_of_an_epoch(backend, seed, epoch):
    for rows in SIZES:
        counters, totals, order = began(backend, seed, epoch, rows)
        assert counters.tolist() == [seed, 17, -1, 5]
        assert totals.tolist() == [0, 0]
        np.testing.assert_array_equal(order, random.permutation(seed, epoch, rows))


@pytest.mark.parametrize("rows", [65535, 65536, 65537])
def test_many_rows(backend, rows):
    # Enough for rows that fall in one slot of a sort by the first bits.
    _, _, order = began(backend, 5, 1, rows)
    np.testing.assert_array_equal(order, random.permutation(5, 1, rows))


def test_orders_are_shuffles_that_differ():
    orders = [random.permutation(seed, epoch, 1000) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 64, 65, 1000])
def test_the_kernel_keeps_to_its_room(rows):
    from mlp_kernels.cpu.philox import shuffle

    order, room = np.full(rows + 8, -7), np.full(3 * rows + 2 + 8, -7)
    shuffle(3, 1, order[:rows], room[: 3 * rows + 2])
    np.testing.assert_array_equal(order[:rows], random.permutation(3, 1, rows))
    assert (order[rows:] == -7).all()
    assert (room[3 * rows + 2 :] == -7).all()


def test_an_epoch_needs_a_rate_for_each_step():
    from mlp.backends import get_backend
    from mlp.errors import InvalidInput

    arrays = np.zeros(3, np.int64), np.zeros(2), np.zeros(5, np.int64), np.zeros(4)
    with pytest.raises(InvalidInput, match="a rate for each of its steps"):
        get_backend("cpu").begin_epoch(*arrays, 0, np.zeros(3))
