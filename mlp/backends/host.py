"""What the backends whose arrays are NumPy arrays share: memory, and the bookkeeping of a scale."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from mlp.backends.host_stream import HostStream
from mlp.backends.protocol import (
    ALIGNMENT,
    GOOD_STEPS,
    GOOD_STEPS_TO_DOUBLE,
    LOSS_SCALE,
    SKIP,
    SKIPPED,
    Array,
    HostArray,
)
from mlp.backends.row_stream import EpochRows, RowStream


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> HostArray:
    """An array on the host whose first byte is aligned to 256."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    aligned: HostArray = raw[offset : offset + size].view(dtype).reshape(shape)
    return aligned


def all_finite(array: HostArray) -> bool:
    """Whether all numbers are finite."""
    # A sum is finite only if all its terms are; where it is not, they are looked at one by one.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(array.sum()):
            return True
    return bool(np.isfinite(array).all())


class HostMemory(ABC):
    """The operations of such backends that are one line of NumPy on either."""

    about: str | None = None

    @abstractmethod
    def gather_rows(self, X: Array, index: Array, out: Array) -> None:
        """See `Backend.gather_rows`."""

    def gather_batch(self, index: Array, *pairs: tuple[Array, Array]) -> None:
        for X, out in pairs:
            self.gather_rows(X, index, out)

    def compute_dtype(self, dtype: Any) -> np.dtype[Any]:
        same: np.dtype[Any] = np.dtype(dtype)
        return same

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return aligned_empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        array = aligned_empty(shape, dtype)
        array.fill(0)
        return array

    def from_host(self, array: HostArray, dtype: Any) -> Array:
        result = aligned_empty(array.shape, dtype)
        result[...] = array
        return result

    def borrow(self, array: HostArray, dtype: Any) -> Array:
        if array.dtype == dtype and array.flags.carray:
            return array
        return self.from_host(array, dtype)

    def device_array(self, value: Any) -> Array | None:
        return None

    def has_room_for(self, size: int) -> bool:
        return True

    def stream(self, rows: EpochRows, batch_size: int) -> RowStream:
        return HostStream(rows, batch_size)

    def to_host(self, array: Array) -> HostArray:
        return np.array(array)

    def copy(self, source: Array, out: Array) -> None:
        np.copyto(out, source)

    def convert_rows(
        self, X: Array, out: Array, mean: Array | None = None, scale: Array | None = None
    ) -> None:
        out[...] = X if mean is None or scale is None else (X.astype(np.float64) - mean) / scale

    def is_finite(self, array: Array) -> bool:
        return all_finite(array)

    def unscale(self, gradients: Array, scaling: Array, scalars: Array, counters: Array) -> None:
        # A scale that was halved to 0 makes NaN of every gradient, so the step is skipped.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            gradients *= 1 / scaling[LOSS_SCALE]
        if all_finite(gradients):
            scaling[GOOD_STEPS] += 1
            if scaling[GOOD_STEPS] >= GOOD_STEPS_TO_DOUBLE:
                scaling[LOSS_SCALE] *= 2
                scaling[GOOD_STEPS] = 0
        else:
            scalars[SKIP] = 1
            counters[SKIPPED] += 1
            scaling[LOSS_SCALE] /= 2
            scaling[GOOD_STEPS] = 0

    def synchronize(self) -> None:
        return None
