"""The tiles into which a matrix product can be divided, and a rule of thumb for which to take."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import TENSOR_CORES
from mlp_kernels.cuda.types import compute_type, number_type

# Shared memory that a block may ask for on every device with asynchronous copies (8.6, 8.9, 12.0).
LEAST_SHARED = 99 * 1024

# Tiles on tensor cores: rows, columns, warps down and across, then bytes of each line of an operand
# with stages in flight, the pair to begin with first.
TENSOR_TILES = (
    (128, 256, 2, 4, ((64, 4), (64, 5))),
    (128, 128, 2, 4, ((128, 3), (64, 3), (64, 5))),
    (64, 64, 2, 2, ((64, 4), (128, 4))),
    (128, 32, 4, 1, ((64, 4),)),
    (32, 128, 1, 4, ((64, 4),)),
    (32, 32, 2, 2, ((64, 4),)),
)
# Bytes of a line, where it is copied by fewer than 16 at a time: each copy takes registers.
SHORT_LINE = 64
# Tiles of warpgroups, of 16-bit numbers copied by 16 bytes: rows, columns, stages.
HOPPER_TILES = ((128, 256, 4), (128, 128, 4))
HOPPER_DEPTH = 64
# The fragments of tf32 take more registers: beside more sums than this there is no room for them.
MOST_SUMS_OF_TF32 = 128 * 128
PLAIN_SIDES = (128, 64, 32)
PLAIN_THREADS = 256

# The rule of thumb. A tile's operands are its sides times the depth, its multiply-adds the product
# of its sides times the depth: an operand's number is counted as so many multiply-adds.
COST_OF_OPERAND = 64
# A sum that is left in memory for another block to add is counted as so many of its depths.
COST_OF_SHARING = 256

# A product's batch is shared out in multiples of this many rows, and into so many shares at most.
SHARE_ROWS = 128
MOST_SHARES = 256


@dataclass(frozen=True)
class Device:
    """What the choice of a tile goes by.

    Attributes:
        capability: compute capability, like (9, 0).
        processors: multiprocessors.
        tf32: whether products of float32 round their operands to tf32.
        shared: bytes of shared memory that a block may ask for.
        warpgroups: whether to take the tiles of warpgroups, which 9.0 alone has.
    """

    capability: tuple[int, int]
    processors: int
    tf32: bool = False
    shared: int = LEAST_SHARED
    warpgroups: bool = False

    def has_tensor_cores_for(self, dtype: Any) -> bool:
        """Whether products of such operands run on tensor cores."""
        number = number_type(dtype)
        wanted = number in ("bfloat16", "float16") or (number == "float" and self.tf32)
        return wanted and self.capability >= TENSOR_CORES


@dataclass(frozen=True)
class Tile:
    """A tile of tensor_tile.cuh or plain_tile.cuh, as product.cuh chooses it.

    Attributes:
        rows, columns: of the result.
        warps: down and across, on tensor cores; else (0, 0).
        depth: numbers of each line of an operand that are in shared memory at a time.
        stages: how many such parts are there or on their way.
        threads: of a block.
        shared: bytes of dynamic shared memory.
        copy: bytes that travel to shared memory at a time, on tensor cores; else 0.
        warpgroups: whether four warps multiply together.
    """

    rows: int
    columns: int
    warps: tuple[int, int]
    depth: int
    stages: int
    threads: int
    shared: int
    copy: int
    warpgroups: bool = False

    @classmethod
    def on_tensor_cores(
        cls, rows: int, columns: int, warps: tuple[int, int], line: int, stages: int,
        dtype: Any, copy: int,
    ) -> Tile:  # fmt: skip
        """A tile whose stages have `line` bytes of each line of its operands."""
        threads = 32 * math.prod(warps)
        # The sums of 16 rows leave a warp at a time, through shared memory.
        staging = warps[0] * 16 * (columns + 8 * warps[1]) * 4
        shared = max(stages * (rows + columns) * line, staging, 4 * threads)
        return cls(
            rows, columns, warps, line // np.dtype(dtype).itemsize, stages, threads, shared, copy
        )

    @classmethod
    def of_warpgroups(cls, rows: int, columns: int, stages: int) -> Tile:
        """A tile of hopper_tile.cuh, of 16-bit numbers copied by 16 bytes."""
        warps = rows // 16
        staging = warps * 16 * (columns + 8) * 4
        # Operands begin at a multiple of 1024 bytes.
        shared = max(stages * (rows + columns) * 2 * HOPPER_DEPTH + 1024, staging)
        return cls(
            rows, columns, (warps, 1), HOPPER_DEPTH, stages, 32 * warps, shared, 16, warpgroups=True
        )

    @classmethod
    def plain(cls, side: int, dtype: Any) -> Tile:
        """A square tile of ordinary multiply-adds."""
        depth = 8 if side == 128 else 16
        bytes_of_sum = np.dtype(compute_type(dtype)).itemsize
        shared = max(2 * depth * 2 * (side + 4), 16 * side, PLAIN_THREADS) * bytes_of_sum
        return cls(side, side, (0, 0), depth, 2, PLAIN_THREADS, shared, 0)

    @property
    def tensor(self) -> bool:
        """Whether it multiplies on tensor cores."""
        return self.warps != (0, 0)

    @property
    def name(self) -> str:
        """Unique among the tiles of a number type: rows x columns x depth x stages."""
        name = f"{self.rows}x{self.columns}x{self.depth}x{self.stages}"
        return f"{name} by warpgroups" if self.warpgroups else name

    @property
    def macros(self) -> dict[str, str | int]:
        """What product.cuh reads, apart from NUMBER."""
        return {
            "TENSOR": self.tensor + self.warpgroups, "TILE_ROWS": self.rows,
            "TILE_COLUMNS": self.columns, "TILE_DEPTH": self.depth, "TILE_STAGES": self.stages,
            "TILE_ROW_WARPS": self.warps[0], "TILE_COLUMN_WARPS": self.warps[1],
            "COPY": self.copy, "SHARED": self.shared,
        }  # fmt: skip

    def down(self, rows: int) -> int:
        """Tiles one below the other."""
        return math.ceil(rows / self.rows)

    def across(self, columns: int) -> int:
        """Tiles beside each other."""
        return math.ceil(columns / self.columns)

    def blocks(self, rows: int, columns: int) -> int:
        """Tiles of a result."""
        return self.down(rows) * self.across(columns)

    @property
    def cost(self) -> int:
        """Of a depth, in multiply-adds."""
        return self.rows * self.columns + COST_OF_OPERAND * (self.rows + self.columns)


@functools.cache
def tiles_for(device: Device, dtype: Any, copy: int) -> tuple[Tile, ...]:
    """The tiles that products of this number type can be divided into, the largest first.

    Args:
        copy: bytes by which the lines of both operands can be copied; see `copy_bytes`.
    """
    if not device.has_tensor_cores_for(dtype):
        sides = PLAIN_SIDES[1:] if number_type(dtype) == "double" else PLAIN_SIDES
        return tuple(Tile.plain(side, dtype) for side in sides)
    number = number_type(dtype)
    by_warpgroups = HOPPER_TILES if device.warpgroups and number != "float" and copy == 16 else ()
    tiles = [Tile.of_warpgroups(*sizes) for sizes in by_warpgroups]
    tiles += (
        Tile.on_tensor_cores(rows, columns, (down, across), line, stages, dtype, copy)
        for rows, columns, down, across, ways in TENSOR_TILES
        for line, stages in ways
        if number != "float" or rows * columns <= MOST_SUMS_OF_TF32
        if copy == 16 or line == SHORT_LINE
    )
    return tuple(tile for tile in tiles if tile.shared <= device.shared)


def choose_tile(device: Device, rows: int, columns: int, dtype: Any, copy: int) -> Tile:
    """The tile by which a product is done soonest, as a rule of thumb counts it.

    Multiprocessors take tiles in turn, so what counts is the number of tiles of the busiest, and
    what a tile costs. Among equals it is the first of `tiles_for`.
    """

    def cost(tile: Tile) -> int:
        return math.ceil(tile.blocks(rows, columns) / device.processors) * tile.cost

    return min(tiles_for(device, dtype, copy), key=cost)


def choose_shares(
    device: Device, rows: int, columns: int, batch: int, tiles: tuple[Tile, ...]
) -> tuple[Tile, int]:
    """(tile, rows of the batch per share) for a sum over the batch, by the same rule.

    A small result of a tall batch has too few tiles for a device: blocks then share the batch.
    """

    def cost(choice: tuple[Tile, int]) -> float:
        tile, share = choice
        blocks = tile.blocks(rows, columns)
        shares = math.ceil(batch / share)
        product = math.ceil(blocks * shares / device.processors) * min(share, batch) * tile.cost
        if shares == 1:
            return product
        moved = blocks * shares * tile.rows * tile.columns / device.processors
        return product + COST_OF_SHARING * moved

    return min(((tile, share) for tile in tiles for share in _shares_of(batch)), key=cost)


@functools.cache
def _shares_of(batch: int) -> tuple[int, ...]:
    """Rows per share, from one share to the most."""
    units = math.ceil(batch / SHARE_ROWS)
    most = min(units, MOST_SHARES)
    return tuple(sorted({math.ceil(units / n) * SHARE_ROWS for n in range(1, most + 1)})[::-1])


def copy_bytes(*operands: Any) -> int:
    """The most bytes at a time, 16 or 4, by which all lines of these matrices can be copied.

    One number's, where lines do not begin at multiples of 4 bytes.
    """
    places = [(each.data.ptr, each.shape[1] * each.dtype.itemsize) for each in operands]
    for size in (16, 4):
        if all(address % size == 0 and line % size == 0 for address, line in places):
            return size
    return int(operands[0].dtype.itemsize)
