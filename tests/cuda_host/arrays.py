"""What tests of the kernels share: guarded arrays of every number type, and room for launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from mlp.backends.rounding import bfloat16_rounded
from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.run import FORWARD, ORDERS, Order, run
from tests.tolerances import STORED_LEAST, STORED_RELATIVE, bound

FLOAT64, FLOAT32, FLOAT16, BFLOAT16 = map(np.dtype, (np.float64, np.float32, np.float16, np.uint16))
NUMBERS = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
NAMES = {FLOAT64: "float64", FLOAT32: "float32", FLOAT16: "float16", BFLOAT16: "bfloat16"}

SIZES = (1, 3, 31, 32, 33, 127, 2100)


def put(values: Any, dtype: Any) -> np.ndarray:
    """Float64 numbers in a guarded array, rounded to the nearest of a number type."""
    if np.dtype(dtype) != BFLOAT16:
        return guarded(values, dtype)
    single = bfloat16_rounded(np.asarray(values, np.float32))
    return guarded((single.view(np.uint32) >> np.uint32(16)).astype(np.uint16))


def get(array: np.ndarray) -> np.ndarray:
    """What an array holds, in float64."""
    if array.dtype != BFLOAT16:
        return array.astype(np.float64)
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def computed_in(dtype: np.dtype) -> np.dtype:
    return FLOAT64 if dtype == FLOAT64 else FLOAT32


def draw(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Normal numbers that every type holds exactly: of few bits, and of moderate size."""
    values = np.random.default_rng([*shape, seed]).standard_normal(shape) * scale
    return get(put(values, BFLOAT16))


def assert_close(
    array: np.ndarray, expected: Any, *, compute: Any = None, terms: int = 1, scale: Any = None
) -> None:
    """Within the rounding of a sum of `terms`, and within that of the type that is stored."""
    actual, expected = get(array), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    if scale is None:
        scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    limit = bound(compute or computed_in(array.dtype), terms, scale)
    stored = STORED_RELATIVE.get(array.dtype, 0.0) * np.abs(expected[finite])
    limit = limit + stored + STORED_LEAST.get(array.dtype, 0.0)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    difference = np.abs(actual[finite] - expected[finite])
    assert (difference <= limit).all(), f"off by {(difference / limit).max()} of the limit"


class Room:
    """Fresh guarded memory for every launch; tickets must be 0 again after it."""

    def __init__(self) -> None:
        self.counters: list[np.ndarray] = []

    def numbers(self, count: int, dtype: Any) -> np.ndarray:
        return empty(count, dtype)

    def tickets(self, count: int) -> np.ndarray:
        self.counters.append(guarded(np.zeros(count, np.uint32)))
        return self.counters[-1]

    def assert_left_as_found(self) -> None:
        assert not any(counters.any() for counters in self.counters)


def in_blocks(launch: Launch, count: int) -> Launch:
    """The launch with so many blocks in place of more, which then have to take turns."""
    assert launch.grid[0] > count
    return replace(launch, grid=(count, *launch.grid[1:]))


def run_all(launches: Iterable[Launch], order: Order = FORWARD) -> None:
    for launch in launches:
        run(launch, order)


def assert_same_bits_in_every_order(
    make: Callable[[Room], tuple[list[Launch], list[np.ndarray]]],
) -> None:
    """`make` gives launches, and the arrays of their results, from arrays of its own each time."""
    first = None
    for order in ORDERS:
        room = Room()
        launches, results = make(room)
        run_all(launches, order)
        room.assert_left_as_found()
        bits = [array.tobytes() for array in results]
        first = first or bits
        assert bits == first, order
