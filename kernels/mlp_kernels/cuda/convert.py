"""Launches that copy, convert and check numbers: convert.cu, standardise.cu, finite.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import (
    BLOCK,
    blocks_for,
    check_dtype,
    check_shape,
    element_type,
    number_type,
    row_lanes,
)


def convert(source: Any, out: Any) -> Launch:
    """Out = source, of one shape; rounded to the nearest where their types differ.

    source is of any type of data; out of the same, or of one that kernels compute with.
    """
    check_shape("out", out, *source.shape)
    to = element_type if source.dtype == out.dtype else number_type
    kernel = Kernel.of("convert.cu", "convert", FROM=element_type(source.dtype), TO=to(out.dtype))
    return Launch(
        kernel, (blocks_for(out.size, 4 * BLOCK), 1, 1), (BLOCK, 1, 1),
        (source, out, np.int64(out.size)),
    )  # fmt: skip


def standardise(X: Any, out: Any, mean: Any | None = None, scale: Any | None = None) -> Launch:
    """Out = (X - mean) / scale, computed in double: X, out (N, I), mean and scale (I,) float64.

    X is of any type of data, out of one that kernels compute with.
    """
    rows, width = X.shape
    check_shape("out", out, rows, width)
    for name, array in (("mean", mean), ("scale", scale)):
        if array is not None:
            check_shape(name, array, width)
            check_dtype(name, array, np.float64)
    kernel = Kernel.of(
        "standardise.cu", "standardise", FROM=element_type(X.dtype), TO=number_type(out.dtype)
    )
    lanes = row_lanes(width)
    return Launch(
        kernel, (blocks_for(rows * lanes), 1, 1), (BLOCK, 1, 1),
        (X, mean, scale, out, np.int64(rows), np.int64(width), np.int32(lanes)),
    )  # fmt: skip


def count_not_finite(array: Any, count: Any, room: Room) -> Launch:
    """Count (1,) int64 = how many numbers of an array are NaN or infinite."""
    check_shape("count", count, 1)
    check_dtype("count", count, np.int64)
    blocks = blocks_for(array.size, 4 * BLOCK)
    return Launch(
        Kernel.of("finite.cu", "count_not_finite", NUMBER=number_type(array.dtype)),
        (blocks, 1, 1), (BLOCK, 1, 1),
        (array, count, np.int64(array.size), room.numbers(blocks, np.int64), room.tickets(1)),
    )  # fmt: skip
