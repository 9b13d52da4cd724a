"""The matrix product: packed blocks in cache, tiles in registers.

The scheme is that of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
ACM Transactions on Mathematical Software 34 (2008). Each element of the result is summed in one
order, over k within blocks of DEPTH and then over the blocks, whatever part of the result a call
computes and whatever its shape: how the work is shared among threads cannot change a bit.

The type of the scratch decides the precision: the operands' own, or that of pairs of bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import carray
from numba.extending import overload

from mlp_kernels.cpu.amx import configure_tiles, release_tiles
from mlp_kernels.cpu.pairs import IN_TILES, IN_VECTORS
from mlp_kernels.cpu.tiles import TILE_VECTORS, pack_a, pack_b, panel
from mlp_kernels.cpu.vectors import VECTOR_BYTES

# A packed panel of B (DEPTH x two vectors) streams from a level-2 cache, while the rows of A that
# it meets are in a level-1 cache. A packed block of A (HEIGHT x DEPTH) is as large as a level-2
# cache, and all panels of a group of columns are kept for the blocks that follow it. Depth in
# bytes, so that it holds for every type. (bench/LOG.md)
DEPTH_BYTES = 2048
HEIGHT = 512
GROUP = 2048
# Packed rows of A lie this much further apart than they are long: at a power of two they would
# fall into a few sets of the cache, and drive each other out.
ROW_GAP_BYTES = 64
SCRATCH_BYTES = HEIGHT * (DEPTH_BYTES + ROW_GAP_BYTES) + DEPTH_BYTES * GROUP
ANY = 2**60  # the length of an array whose end need not be known
# Below these, an operand is used as it lies: it is in a level-1 cache, or met too rarely.
B_BYTES = 32 * 1024
MANY_COLUMNS = 512
FEW_ROWS = 32


def holds_pairs(scratch: Any) -> bool:
    """In a kernel: whether packed operands are pairs of bfloat16."""
    raise NotImplementedError


@overload(holds_pairs)
def _holds_pairs(scratch: Any) -> Callable[..., bool]:
    pairs = scratch.dtype in (IN_VECTORS, IN_TILES)

    def answer(scratch: Any) -> bool:
        return pairs

    return answer


def product(
    a_at: Any, a_start: int, a_row: int, a_flip: int,
    b_at: Any, b_start: int, b_row: int, b_flip: int,
    c_at: Any, c_start: int, c_row: int,
    height: int, width: int, depth: int, scratch_at: Any,
) -> None:  # fmt: skip
    """C (height, width) = A (height, depth) @ B (depth, width), in flat arrays.

    Args:
        a_at, b_at, c_at: addresses of the arrays; each matrix begins at its start, and its rows lie
            `row` elements apart.
        a_flip, b_flip: 1 where the matrix that lies there is the operand's transpose, else 0.
        scratch_at: address of SCRATCH_BYTES of the type of the products.
    """
    a, b, c, scratch = (
        carray(a_at, ANY),
        carray(b_at, ANY),
        carray(c_at, ANY),
        carray(scratch_at, ANY),
    )
    a_transposed, b_transposed = a_flip != 0, b_flip != 0
    if width == 1 and a_transposed and not b_transposed and c_row == 1:
        # A single column would fill one lane of each vector: its transpose is a row.
        a, b, a_start, b_start, a_row, b_row = b, a, b_start, a_start, b_row, a_row
        height, width, c_row = 1, height, height
    size = a.itemsize
    in_pairs = holds_pairs(scratch)
    per = 2 if in_pairs else 1  # numbers in an element of a packed operand
    block = DEPTH_BYTES // scratch.itemsize * per
    strip = TILE_VECTORS * VECTOR_BYTES // size
    packs_a = in_pairs or (width >= MANY_COLUMNS and height > FEW_ROWS)
    packs_b = in_pairs or b_transposed or (height > FEW_ROWS and b_row * depth * size > B_BYTES)
    packed_row = (DEPTH_BYTES + ROW_GAP_BYTES) // scratch.itemsize
    panels = HEIGHT * packed_row  # where B's packed panels begin, in rows' reach of A's
    panel_size = DEPTH_BYTES // scratch.itemsize * strip
    chunk = HEIGHT if packs_a else height
    # How A lies: along k in a row, or down a column of its transpose.
    row, column = (1, a_row) if a_transposed else (a_row, 1)
    if packs_a:
        row, column = packed_row, 1
    configure_tiles(scratch)
    for group in range(0, width, GROUP):
        last = min(group + GROUP, width)
        for k in range(0, depth, block):
            steps = min(block, depth - k)
            for top in range(0, height, chunk):
                rows = min(chunk, height - top)
                corner = a_start + (k * a_row + top if a_transposed else top * a_row + k)
                if packs_a:
                    pack_a(a, corner, a_row, a_transposed, scratch, 0, packed_row, rows, steps)
                slot = panels
                for left in range(group, last, strip):
                    columns = min(strip, last - left)
                    b_corner = b_start + (left * b_row + k if b_transposed else k * b_row + left)
                    if packs_b and top == 0:
                        pack_b(
                            b, b_corner, b_row, b_transposed, scratch, slot, strip, steps, columns
                        )
                    panel(
                        scratch,
                        a, packs_a, 0 if packs_a else corner, row, column,
                        b, packs_b, slot if packs_b else b_corner, strip if packs_b else b_row,
                        c, c_start + top * c_row + left, c_row,
                        rows, columns, (steps + per - 1) // per, k > 0,
                    )  # fmt: skip
                    slot += panel_size
    release_tiles(scratch)
