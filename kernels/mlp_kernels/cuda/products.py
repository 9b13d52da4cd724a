"""Launches of the three matrix products of a layer: which tile, how many blocks, which memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_kernels.cuda.activations import activation_struct
from mlp_kernels.cuda.compile import TENSOR_CORES, Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import check_dtype, check_shape, compute_type, number_type

# Bytes along the depth of a product in one stage of a tensor-core tile.
DEPTH_BYTES = 64

# A product's batch is shared out in multiples of this many rows, and into so many shares at most.
SHARE_ROWS = 128
MOST_SHARES = 64


@dataclass(frozen=True)
class Device:
    """What the choice of a tile goes by.

    Attributes:
        capability: compute capability, like (9, 0).
        processors: multiprocessors.
        tf32: whether products of float32 round their operands to tf32.
    """

    capability: tuple[int, int]
    processors: int
    tf32: bool = False

    def has_tensor_cores_for(self, dtype: Any) -> bool:
        """Whether products of such operands run on tensor cores."""
        number = number_type(dtype)
        wanted = number in ("bfloat16", "float16") or (number == "float" and self.tf32)
        return wanted and self.capability >= TENSOR_CORES


@dataclass(frozen=True)
class Tile:
    """A tile of tensor_tile.cuh or plain_tile.cuh, as product.cuh chooses it.

    Attributes:
        size: rows and columns.
        tensor: whether on tensor cores.
        threads: of a block.
        shared: bytes of dynamic shared memory.
        copy: bytes that travel to shared memory at a time, on tensor cores; else 0.
    """

    size: int
    tensor: bool
    threads: int
    shared: int
    copy: int

    @classmethod
    def of(cls, size: int, tensor: bool, dtype: Any, copy: int) -> Tile:
        itemsize = np.dtype(dtype).itemsize
        if not tensor:
            depth = 8 if size == 128 else 16
            bytes_of_sum = np.dtype(compute_type(dtype)).itemsize
            shared = 2 * depth * 2 * (size + 4) * bytes_of_sum
            return cls(size, False, 256, max(shared, 16 * size * bytes_of_sum), 0)
        stages = 3 if size == 128 else 4
        depth = DEPTH_BYTES // itemsize
        # The larger of both ways in which a part may lie, with its padding.
        part = max(size * (DEPTH_BYTES + 16), depth * (size + 8) * itemsize)
        return cls(size, True, 256 if size == 128 else 128, 2 * stages * part, copy)

    @property
    def macros(self) -> dict[str, str | int]:
        """What product.cuh reads, apart from NUMBER."""
        return {
            "TENSOR": int(self.tensor), "TILE": self.size, "COPY": self.copy,
            "SHARED": self.shared,
        }  # fmt: skip

    def blocks(self, rows: int, columns: int) -> int:
        """Tiles of a result."""
        return math.ceil(rows / self.size) * math.ceil(columns / self.size)


def choose_tile(device: Device, rows: int, columns: int, dtype: Any, copy: int) -> Tile:
    """The largest tile that gives every multiprocessor one and is not mostly empty; else 32."""
    tensor = device.has_tensor_cores_for(dtype)
    sizes = (64,) if number_type(dtype) == "double" else (128, 64)
    for size in sizes:
        tile = Tile.of(size, tensor, dtype, copy)
        fits = min(rows, columns) > size // 2
        if fits and tile.blocks(rows, columns) >= device.processors:
            return tile
    return Tile.of(32, tensor, dtype, copy)


def copy_bytes(*operands: Any) -> int:
    """The most bytes at a time, 16 or 4, by which all lines of these matrices can be copied.

    One number's, where lines do not begin at multiples of 4 bytes.
    """
    places = [(each.data.ptr, each.shape[1] * each.dtype.itemsize) for each in operands]
    for size in (16, 4):
        if all(address % size == 0 and line % size == 0 for address, line in places):
            return size
    return int(operands[0].dtype.itemsize)


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
        kernel, (tile.blocks(B, outputs), 1, 1), (tile.threads, 1, 1),
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
    across, down = math.ceil(inputs / tile.size), math.ceil(B / tile.size)
    kernel = Kernel.of(
        "linear_delta.cu", "linear_delta", NUMBER=number_type(delta.dtype),
        ACTIVATION=activation_struct(activation), DROPOUT=int(dropout is not None), **tile.macros,
    )  # fmt: skip
    return Launch(
        kernel, (across * down, 1, 1), (tile.threads, 1, 1),
        (delta, W, saved, out, db_prev, room.numbers(across * down * tile.size, sums),
         room.tickets(across), *map(np.int32, (B, inputs, outputs)), *dropout_arguments(dropout)),
        tile.shared,
    )  # fmt: skip


def linear_grads(
    device: Device, room: Room, x: Any, delta: Any, dW: Any, tile: Tile | None = None
) -> Launch:
    """DW = x^T delta: x (B, I), delta (B, O) of one number type, dW (I, O) of its sums' type."""
    B = len(x)
    inputs, outputs = dW.shape
    check_shape("x", x, B, inputs)
    check_shape("delta", delta, B, outputs)
    check_dtype("delta", delta, x.dtype)
    sums = compute_type(x.dtype)
    check_dtype("dW", dW, sums)
    tile = tile or choose_tile(device, inputs, outputs, x.dtype, copy_bytes(x, delta))
    tiles = tile.blocks(inputs, outputs)
    rows_per_share = _rows_per_share(B, tiles, device.processors)
    shares = math.ceil(B / rows_per_share)
    kernel = Kernel.of(
        "linear_grads.cu", "linear_grads", NUMBER=number_type(x.dtype), **tile.macros
    )
    return Launch(
        kernel, (tiles, shares, 1), (tile.threads, 1, 1),
        (x, delta, dW, room.numbers(tiles * shares * tile.size**2 if shares > 1 else 1, sums),
         room.tickets(tiles), *map(np.int32, (B, inputs, outputs, rows_per_share))),
        tile.shared,
    )  # fmt: skip


def _rows_per_share(B: int, tiles: int, processors: int) -> int:
    """Rows of the batch for each block of a tile, so that the blocks occupy all multiprocessors."""
    wanted = min(math.ceil(processors / tiles), MOST_SHARES)
    share = math.ceil(B / wanted)
    return math.ceil(share / SHARE_ROWS) * SHARE_ROWS


def _sizes(x: Any, W: Any) -> tuple[int, int, int]:
    """(B, I, O) of x (B, I) and W (I, O)."""
    if x.ndim != 2 or W.ndim != 2 or x.shape[1] != W.shape[0]:
        raise ValueError(f"x {tuple(x.shape)} and W {tuple(W.shape)} cannot be multiplied")
    return x.shape[0], x.shape[1], W.shape[1]
