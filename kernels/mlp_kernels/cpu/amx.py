"""Products of bfloat16 in AMX's tiles: two-dimensional registers of 16 rows of 64 bytes.

One instruction, tdpbf16ps, adds to 16 x 16 float32 sums the product of 16 rows of A and 16 columns
of B, over 16 pairs of k. Operands packed in pairs (see `pairs`) lie in memory just as it takes
them: a row of packed A holds a row's pairs, a row of packed B the same pair of every column.

A block of C is 2 x 2 tiles, so that each tile that is loaded is used twice. Packed operands are
filled up with 0 to whole tiles. Each block of k is summed from 0 and then added to C, for an
element inside C as for one at its edge: the sums are the same wherever an element lies in a block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mlp_kernels.cpu.pairs import IN_TILES
from mlp_kernels.cpu.vectors import INDEX, Vectors

TILE = 16  # rows of a tile, and 32-bit elements in a row
ROW_BYTES = 64
SUMS, A_TILES, B_TILES = ((0, 1), (2, 3)), (4, 5), (6, 7)
# What ldtilecfg reads: palette 1; the bytes in a row of each tile (16 bits each) from byte 16 on,
# and its rows from byte 48 on. All eight tiles are whole: edges are filled, so that one
# configuration serves every shape.
CONFIGURATION = bytes([1, *[0] * 15, *[ROW_BYTES, 0] * 8, *[0] * 16, *[TILE] * 8, *[0] * 8])


class TileInstructions:
    """Emits the instructions on tiles. Tiles are named by number; a stride is in bytes."""

    # Under another prefix, functions of these names take the place of LLVM's: how the tests run
    # what is emitted on a processor without tiles.
    prefix = "llvm.x86."

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def configure(self) -> None:
        """Sets the shapes of the tiles of this thread, and the tiles to 0."""
        kind = ir.ArrayType(ir.IntType(8), len(CONFIGURATION))
        shapes = ir.Constant(kind, bytearray(CONFIGURATION))
        self._call("ldtilecfg", cgutils.global_constant(self.builder, "amx.shapes", shapes))

    def release(self) -> None:
        """Ends the use of tiles by this thread: its switches need not save them any more."""
        self._call("tilerelease")

    def zero(self, tile: int) -> None:
        self._call("tilezero", tile)

    def load(self, tile: int, address: Any, stride: Any) -> None:
        self._call("tileloadd64", tile, address, stride)

    def store(self, tile: int, address: Any, stride: Any) -> None:
        self._call("tilestored64", tile, address, stride)

    def multiply_add(self, sums: int, a: int, b: int) -> None:
        """Adds to `sums` the product of two tiles of pairs."""
        self._call("tdpbf16ps", sums, a, b)

    def _call(self, name: str, *operands: Any) -> None:
        byte = ir.IntType(8)
        values = []
        for operand in operands:
            if isinstance(operand, int):
                values.append(ir.Constant(byte, operand))
            elif isinstance(operand.type, ir.PointerType):
                values.append(self.builder.bitcast(operand, byte.as_pointer()))
            else:
                values.append(operand)
        signature = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        function = cgutils.get_or_insert_function(
            self.builder.module, signature, self.prefix + name
        )
        self.builder.call(function, values)


def _count(value: int) -> Any:
    return ir.Constant(INDEX, value)


class TilePanel:
    """Emits C (height, width) = A (height, depth) @ B (depth, width), for packed A and B.

    `depth` is in pairs. Tiles have to be configured.
    """

    def __init__(self, builder: Any, sums: Vectors, a: Any, b: Any, c: Any) -> None:
        """`sums` are vectors of C; a, b, c are (pointer, stride of rows in elements)."""
        self.builder, self.v, self.tiles = builder, sums, TileInstructions(builder)
        (self.a, self.a_row), (self.b, self.b_row), (self.c, self.c_row) = a, b, c
        self.a_stride, self.b_stride, self.c_stride = (
            builder.mul(row, _count(4)) for row in (self.a_row, self.b_row, self.c_row)
        )
        kind = ir.ArrayType(sums.element, TILE * TILE)
        buffer = cgutils.alloca_once(builder, kind)
        buffer.align = ROW_BYTES
        self.buffer = builder.bitcast(buffer, sums.element.as_pointer())

    def emit(self, height: Any, width: Any, depth: Any, add: Any) -> None:
        self.height, self.width, self.depth, self.add = height, width, depth, add
        builder = self.builder
        with self._loop(width, 2 * TILE) as column, self._loop(height, 2 * TILE) as row:
            wide = builder.icmp_signed(">", builder.sub(width, column), _count(TILE))
            tall = builder.icmp_signed(">", builder.sub(height, row), _count(TILE))
            with builder.if_else(tall) as (two, one):
                for block, down in ((two, 2), (one, 1)):
                    with block, builder.if_else(wide) as (both, left):
                        with both:
                            self._block(row, column, down, 2)
                        with left:
                            self._block(row, column, down, 1)

    @contextlib.contextmanager
    def _loop(self, stop: Any, step: int) -> Iterator[Any]:
        start = _count(0)
        with cgutils.for_range_slice(self.builder, start, stop, _count(step), INDEX) as (i, _):
            yield i

    def _block(self, row: Any, column: Any, down: int, across: int) -> None:
        """The block of `down` x `across` tiles that begins in this row and column."""
        builder, tiles = self.builder, self.tiles
        places = [(i, j) for i in range(down) for j in range(across)]
        rows = [builder.add(row, _count(i * TILE)) for i in range(down)]
        columns = [builder.add(column, _count(j * TILE)) for j in range(across)]
        for i, j in places:
            tiles.zero(SUMS[i][j])
        with self._loop(self.depth, TILE) as k:
            for i in range(down):
                place = builder.add(builder.mul(rows[i], self.a_row), k)
                tiles.load(A_TILES[i], self.v.at(self.a, place), self.a_stride)
            for j in range(across):
                place = builder.add(builder.mul(k, self.b_row), columns[j])
                tiles.load(B_TILES[j], self.v.at(self.b, place), self.b_stride)
            for i, j in places:
                tiles.multiply_add(SUMS[i][j], A_TILES[i], B_TILES[j])
        for i, j in places:
            self._write(SUMS[i][j], rows[i], columns[j])

    def _write(self, tile: int, row: Any, column: Any) -> None:
        """A tile of sums to its place in C: at once, or by rows where it is added or cut off."""
        builder, v = self.builder, self.v
        left = builder.sub(self.height, row)
        whole_rows = builder.icmp_signed(">=", left, _count(TILE))
        rows = builder.select(whole_rows, _count(TILE), left)
        columns = builder.sub(self.width, column)
        whole = builder.and_(whole_rows, builder.icmp_signed(">=", columns, _count(TILE)))
        corner = v.at(self.c, builder.add(builder.mul(row, self.c_row), column))
        with builder.if_else(builder.and_(whole, builder.not_(self.add))) as (at_once, by_rows):
            with at_once:
                self.tiles.store(tile, corner, self.c_stride)
            with by_rows:
                self.tiles.store(tile, self.buffer, _count(ROW_BYTES))
                mask = v.mask(columns)
                before = v.mask(builder.select(self.add, columns, _count(0)))
                with cgutils.for_range(builder, rows, intp=INDEX) as loop:
                    place = v.at(corner, builder.mul(loop.index, self.c_row))
                    value = v.load(v.at(self.buffer, builder.mul(loop.index, _count(TILE))))
                    total = builder.fadd(value, v.load(place, before))
                    v.store(builder.select(self.add, total, value), place, mask)


def _bracket(name: str) -> Any:
    """An intrinsic that emits this instruction where the scratch is packed for tiles."""

    @intrinsic
    def emitted(typing_context: Any, scratch: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if scratch.dtype == IN_TILES:
                getattr(TileInstructions(builder), name)()
            return context.get_dummy_value()

        return types.void(scratch), generate

    return emitted


# In a kernel, around all that a product does with tiles. Other code of the same thread may use
# them, too: it is given them back in the state of one that has not.
configure_tiles, release_tiles = _bracket("configure"), _bracket("release")
