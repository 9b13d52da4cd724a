"""Launches of what follows a library's product: forward_epilogue.cu and delta_epilogue.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlp_kernels.cuda.activations import activation_struct
from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.products import DropoutNumbers, dropout_arguments
from mlp_kernels.cuda.types import (
    BLOCK,
    MOST_BLOCKS,
    check_dtype,
    check_shape,
    compute_type,
    number_type,
    row_lanes,
)

ROWS_OF_THREAD = 8  # at least, before a column's rows are shared among blocks
# The last block of some columns adds up as many sums of each, while all others are done.
MOST_SHARES = 256


def forward_epilogue(
    z: Any,
    b: Any,
    activation: str,
    a: Any,
    saved: Any | None,
    dropout: DropoutNumbers | None = None,
) -> Launch:
    """A = g(z + b), and what the backward pass needs in `saved`, which may be `a` or None.

    z (B, O) of any number type, a and saved (B, O) of one; either may be z. b (O,) of the type that
    z is computed in.
    """
    rows, width = z.shape
    check_shape("b", b, width)
    check_dtype("b", b, compute_type(z.dtype))
    for name, array in (("a", a), ("saved", a if saved is None else saved)):
        check_shape(name, array, rows, width)
        check_dtype(name, array, a.dtype)
    apart = saved is not None and saved is not a
    kernel = Kernel.of(
        "forward_epilogue.cu", "forward_epilogue", PRODUCT=number_type(z.dtype),
        RESULT=number_type(a.dtype), ACTIVATION=activation_struct(activation), SAVED=int(apart),
        DROPOUT=int(dropout is not None),
    )  # fmt: skip
    lanes, across, shares = _grid(rows, width, z.dtype, a.dtype)
    return Launch(
        kernel, (across, shares, 1), (BLOCK, 1, 1),
        (z, b, a, saved if apart else None, np.int64(rows), np.int32(width), np.int32(lanes),
         *dropout_arguments(dropout)),
    )  # fmt: skip


def delta_epilogue(
    room: Room,
    z: Any,
    saved: Any,
    activation: str,
    out: Any,
    db: Any,
    dropout: DropoutNumbers | None = None,
) -> Launch:
    """Out = z * g'(saved), and its column sums in db.

    z (B, I) of any number type, saved and out (B, I) of one; out may be z. db (I,) of the type that
    z is computed in.
    """
    rows, width = z.shape
    check_shape("saved", saved, rows, width)
    check_shape("out", out, rows, width)
    check_shape("db", db, width)
    check_dtype("saved", saved, out.dtype)
    sums = compute_type(z.dtype)
    check_dtype("db", db, sums)
    kernel = Kernel.of(
        "delta_epilogue.cu", "delta_epilogue", PRODUCT=number_type(z.dtype),
        RESULT=number_type(out.dtype), ACTIVATION=activation_struct(activation),
        DROPOUT=int(dropout is not None),
    )  # fmt: skip
    lanes, across, shares = _grid(rows, width, z.dtype, out.dtype)
    return Launch(
        kernel, (across, shares, 1), (BLOCK, 1, 1),
        (z, saved, out, db, room.numbers(partial_sums(out, z.dtype), sums),
         room.tickets(across), np.int64(rows), np.int32(width), np.int32(lanes),
         *dropout_arguments(dropout)),
    )  # fmt: skip


def partial_sums(out: Any, product: Any) -> int:
    """Numbers of `Room` that a `delta_epilogue` uses for a z of this number type."""
    rows, width = out.shape
    _, _, shares = _grid(rows, width, product, out.dtype)
    return max(1, shares * int(width))


def _grid(rows: int, width: int, *dtypes: Any) -> tuple[int, int, int]:
    """(threads side by side, blocks across, shares of the rows)."""
    packs = math.ceil(width / (16 // max(np.dtype(dtype).itemsize for dtype in dtypes)))
    lanes = row_lanes(packs)
    across = math.ceil(packs / lanes)
    shares = math.ceil(rows / (BLOCK // lanes * ROWS_OF_THREAD))
    return lanes, across, max(1, min(shares, MOST_SHARES, math.ceil(MOST_BLOCKS / across)))
