"""Launches of the three matrix products of a layer: which tile, how many blocks, which memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_kernels.cuda.activations import activation_struct
from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.tiles import Device, Tile, choose_shares, choose_tile, copy_bytes, tiles_for
from mlp_kernels.cuda.types import check_dtype, check_shape, compute_type, number_type

# A grid of small tiles has at most so many blocks on each multiprocessor, which then take turns.
SMALL_TILE, RESIDENT_BLOCKS = 64 * 64, 16
# As linear_grads.cu adds up shares: so many first, then what comes of them.
SHARES_OF_GROUP = 16


@dataclass(frozen=True)
class DropoutNumbers:
    """Dropout as the kernels take it: a unit is dropped where its word is below the threshold."""

    threshold: int
    scale: float
    layer: int
    counters: Any


def dropout_arguments(dropout: DropoutNumbers | None) -> tuple[Any, ...]:
    """The last parameters of kernels that may drop."""
    if dropout is None:
        return np.uint32(0), np.float64(1), np.int32(0), None
    check_dtype("counters", dropout.counters, np.int64)
    return (
        np.uint32(dropout.threshold), np.float64(dropout.scale), np.int32(dropout.layer),
        dropout.counters,
    )  # fmt: skip


def linear_forward(
    device: Device,
    x: Any,
    W: Any,
    b: Any,
    activation: str,
    a: Any,
    saved: Any | None,
    dropout: DropoutNumbers | None = None,
    tile: Tile | None = None,
) -> Launch:
    """A = g(x W + b), and what the backward pass needs in `saved`, which may be `a` or None.

    x (B, I) and W (I, O) of one number type; b (O,) of that in which it is computed; a and saved
    (B, O) of either of both.
    """
    B, inputs, outputs = _sizes(x, W)
    check_shape("b", b, outputs)
    check_dtype("W", W, x.dtype)
    check_dtype("b", b, compute_type(x.dtype))
    check_dtype("a", a, x.dtype, compute_type(x.dtype))
    for name, array in (("a", a), ("saved", a if saved is None else saved)):
        check_shape(name, array, B, outputs)
        check_dtype(name, array, a.dtype)
    apart = saved is not None and saved is not a
    tile = tile or choose_tile(device, B, outputs, x.dtype, copy_bytes(x, W))
    kernel = Kernel.of(
        "linear_forward.cu", "linear_forward", NUMBER=number_type(x.dtype),
        RESULT=number_type(a.dtype), ACTIVATION=activation_struct(activation), SAVED=int(apart),
        DROPOUT=int(dropout is not None), **tile.macros,
    )  # fmt: skip
    return Launch(
        kernel, (_grid(device, tile, tile.blocks(B, outputs)), 1, 1), (tile.threads, 1, 1),
        (x, W, b, a, saved if apart else None, *map(np.int32, (B, inputs, outputs)),
         *dropout_arguments(dropout)),
        tile.shared,
    )  # fmt: skip


def linear_delta(
    device: Device,
    room: Room,
    delta: Any,
    W: Any,
    saved: Any,
    activation: str,
    out: Any,
    db_prev: Any,
    dropout: DropoutNumbers | None = None,
    tile: Tile | None = None,
) -> Launch:
    """Out = (delta W^T) * g'(saved), and its column sums in db_prev.

    delta (B, O), W (I, O), saved and out (B, I) of one number type; db_prev (I,) of that in which
    it is computed.
    """
    inputs, outputs = W.shape
    B = len(delta)
    check_shape("delta", delta, B, outputs)
    check_shape("saved", saved, B, inputs)
    check_shape("out", out, B, inputs)
    check_shape("db_prev", db_prev, inputs)
    for name, array in (("W", W), ("saved", saved), ("out", out)):
        check_dtype(name, array, delta.dtype)
    sums = compute_type(delta.dtype)
    check_dtype("db_prev", db_prev, sums)
    tile = tile or choose_tile(device, B, inputs, delta.dtype, copy_bytes(delta, W))
    across, down = tile.across(inputs), tile.down(B)
    kernel = Kernel.of(
        "linear_delta.cu", "linear_delta", NUMBER=number_type(delta.dtype),
        ACTIVATION=activation_struct(activation), DROPOUT=int(dropout is not None), **tile.macros,
    )  # fmt: skip
    return Launch(
        kernel, (_grid(device, tile, across * down), 1, 1), (tile.threads, 1, 1),
        (delta, W, saved, out, db_prev, room.numbers(across * down * tile.columns, sums),
         room.tickets(across), *map(np.int32, (B, inputs, outputs)), *dropout_arguments(dropout)),
        tile.shared,
    )  # fmt: skip


def linear_grads(
    device: Device,
    room: Room,
    x: Any,
    delta: Any,
    dW: Any,
    tile: Tile | None = None,
    rows_per_share: int | None = None,
) -> Launch:
    """DW = x^T delta: x (B, I), delta (B, O) of one number type, dW (I, O) of its sums' type.

    Blocks share the rows of the batch, `rows_per_share` each.
    """
    B = len(x)
    inputs, outputs = dW.shape
    check_shape("x", x, B, inputs)
    check_shape("delta", delta, B, outputs)
    check_dtype("delta", delta, x.dtype)
    sums = compute_type(x.dtype)
    check_dtype("dW", dW, sums)
    tiles = (tile,) if tile else tiles_for(device, x.dtype, copy_bytes(x, delta))
    tile, chosen = choose_shares(device, inputs, outputs, B, tiles)
    rows_per_share = rows_per_share or chosen
    blocks, shares = tile.blocks(inputs, outputs), math.ceil(B / rows_per_share)
    left = blocks * shares * tile.rows * tile.columns if shares > 1 else 1
    kernel = Kernel.of(
        "linear_grads.cu", "linear_grads", NUMBER=number_type(x.dtype), **tile.macros
    )
    return Launch(
        kernel, (_grid(device, tile, blocks * shares), 1, 1), (tile.threads, 1, 1),
        (x, delta, dW, room.numbers(left, sums),
         room.tickets(blocks * (1 + math.ceil(shares / SHARES_OF_GROUP))),
         *map(np.int32, (B, inputs, outputs, rows_per_share))),
        tile.shared,
    )  # fmt: skip


def _grid(device: Device, tile: Tile, work: int) -> int:
    """Blocks for so many tiles."""
    if tile.rows * tile.columns > SMALL_TILE:
        return work
    return min(work, RESIDENT_BLOCKS * device.processors)


def _sizes(x: Any, W: Any) -> tuple[int, int, int]:
    """(B, I, O) of x (B, I) and W (I, O)."""
    if x.ndim != 2 or W.ndim != 2 or x.shape[1] != W.shape[0]:
        raise ValueError(f"x {tuple(x.shape)} and W {tuple(W.shape)} cannot be multiplied")
    return x.shape[0], x.shape[1], W.shape[1]
