"""The kernels that draw and sort an epoch's order, against `mlp.random.permutation`."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.random import permutation
from mlp_kernels.cuda.shuffle import keys_needed, shuffle
from tests.cuda_host.arrays import assert_same_bits_in_every_order, in_blocks, run_all
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded

pytestmark = pytest.mark.usefixtures("everywhere")

SEED = 2**40 + 7


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build_all(launch.kernel for launch in shuffled(4097, 0)[0])


def shuffled(rows, epoch, seed=SEED):
    """(launches, order)."""
    counters, order = guarded([seed, 41, 3, 0], np.int64), empty(rows, np.int64)
    needed = keys_needed(rows)
    keys = empty(needed, np.uint64) if needed else None
    return shuffle(counters, epoch, order, keys), order


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 31, 32, 33, 127, 1000, 4095, 4096, 4097, 20000])
def test_shuffle(rows):
    launches, order = shuffled(rows, 3)
    run_all(launches)
    np.testing.assert_array_equal(order, permutation(SEED, 3, rows))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 2**32 + 5), (2**63 - 1, 1)])
def test_seed_and_epoch(seed, epoch):
    launches, order = shuffled(100, epoch, seed)
    run_all(launches)
    np.testing.assert_array_equal(order, permutation(seed, epoch, 100))


def test_same_bits_in_every_order():
    def make(_):
        launches, order = shuffled(9000, 1)
        few, other = shuffled(130, 1)
        return [*launches, *few], [order, other]

    assert_same_bits_in_every_order(make)


def test_few_blocks_take_turns():
    launches, order = shuffled(5000, 1)
    far = launches.index(next(each for each in launches if each.kernel.name == "merge_far"))
    launches[far] = in_blocks(launches[far], 3)
    run_all(launches)
    np.testing.assert_array_equal(order, permutation(SEED, 1, 5000))


def test_number_of_launches():
    """One for what a block sorts; k more to double what is sorted for the k-th time, and one."""
    assert [len(shuffled(rows, 0)[0]) for rows in (1, 4096, 4097, 16384)] == [1, 1, 3, 6]


def test_what_does_not_fit_is_refused():
    counters, order = guarded([SEED, 0, 0, 0], np.int64), empty(5000, np.int64)
    with pytest.raises(ValueError, match="5000 rows need room for 8192 keys"):
        shuffle(counters, 0, order, None)
    with pytest.raises(ValueError, match="there must be a row"):
        shuffle(counters, 0, order[:0], None)
    with pytest.raises(TypeError, match="order must be of int64"):
        shuffle(counters, 0, empty(3, np.int32), None)
