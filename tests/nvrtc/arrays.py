"""Arrays that have a shape and a dtype and no memory: what launches are built from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

FLOAT64, FLOAT32, FLOAT16, BFLOAT16 = map(np.dtype, (np.float64, np.float32, np.float16, np.uint16))
INT64 = np.dtype(np.int64)


@dataclass(frozen=True)
class Shape:
    """As much of an array as a launch reads; it begins at a multiple of 16 bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    data = SimpleNamespace(ptr=4096)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


def array(dtype: Any, *shape: int) -> Shape:
    return Shape(shape, np.dtype(dtype))


class Room:
    """Room for launches that are never run."""

    def numbers(self, count: int, dtype: Any) -> Shape:
        return array(dtype, count)

    def tickets(self, count: int) -> Shape:
        return array(np.uint32, count)


ROOM = Room()
COUNTERS = array(INT64, 4)
SCALARS = array(FLOAT64, 3)
SCALING = array(FLOAT64, 2)
TOTALS = array(FLOAT64, 2)
