"""Launches of sums over the rows of a batch: columns.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import (
    BLOCK,
    check_dtype,
    check_shape,
    compute_type,
    number_type,
    row_lanes,
)

ROWS_OF_THREAD = 8  # at least, before a column's rows are shared among blocks
MOST_SHARES = 64


def column_sums(delta: Any, sums: Any, room: Room) -> Launch:
    """Sums (O,) of the columns of delta (B, O), of the type that delta is computed in."""
    rows, width = delta.shape
    check_shape("sums", sums, width)
    total = compute_type(delta.dtype)
    check_dtype("sums", sums, total)
    lanes = row_lanes(width)
    across = math.ceil(width / lanes)
    shares = math.ceil(rows / (BLOCK // lanes * ROWS_OF_THREAD))
    shares = max(1, min(shares, MOST_SHARES))
    return Launch(
        Kernel.of("columns.cu", "column_sums", NUMBER=number_type(delta.dtype)),
        (across, shares, 1), (BLOCK, 1, 1),
        (delta, sums, np.int64(rows), np.int32(width), np.int32(lanes),
         room.numbers(shares * width, total), room.tickets(across)),
    )  # fmt: skip
