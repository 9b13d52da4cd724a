"""The innermost kernels of a matrix product: sums held in registers, and the packing of operands.

A tile is some rows by one or two vectors of sums: each step of k multiplies a column of A, one
element at a time, by a row of B. Its size is what the registers hold. All offsets and strides are
in elements.

Packed operands have one form, whatever they are made of: A is (rows, depth) with a row stride, B is
(depth, PANEL) columns; what is beyond an operand's edge is 0. For bfloat16 an element of a packed
operand is a pair of neighbours in k (see `pairs`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mlp_kernels.cpu.amx import TILE, TilePanel
from mlp_kernels.cpu.pairs import IN_TILES
from mlp_kernels.cpu.vectors import INDEX, MANY_REGISTERS, BFloat, Vectors, bfloat16_bits

TILE_ROWS = 8 if MANY_REGISTERS else 4
TILE_VECTORS = 2


def _count(value: int) -> Any:
    return ir.Constant(INDEX, value)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


class _Counted:
    """`with _Counted(builder, start, stop, step) as i`: a loop; `last` is where i ended."""

    def __init__(self, builder: Any, start: Any, stop: Any, step: int) -> None:
        self.builder, self.start, self.stop, self.step = builder, start, stop, _count(step)

    def __enter__(self) -> Any:
        builder = self.builder
        before = builder.block
        self.head = builder.append_basic_block("head")
        body = builder.append_basic_block("body")
        self.after = builder.append_basic_block("after")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.last = builder.phi(INDEX)
        self.last.add_incoming(self.start, before)
        self.next = builder.add(self.last, self.step)
        builder.cbranch(builder.icmp_signed("<=", self.next, self.stop), body, self.after)
        builder.position_at_end(body)
        return self.last

    def __exit__(self, *_: object) -> None:
        self.last.add_incoming(self.next, self.builder.block)
        self.builder.branch(self.head)
        self.builder.position_at_end(self.after)


def pairs_multiply_add(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """Each float32 lane of total + a_low b_low + a_high b_high, of pairs of bfloat16 (AVX512)."""
    lanes = total.type.count
    pairs = ir.VectorType(BFloat(), 2 * lanes)
    signature = ir.FunctionType(total.type, [total.type, pairs, pairs])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [total, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


class _Panel:
    """Emits the tiles of a panel: C (height, width) = A (height, depth) @ B (depth, width)."""

    def __init__(self, builder: Any, v: Vectors, sums: Vectors, a: Any, b: Any, c: Any) -> None:
        """`v` are vectors of the operands, `sums` those of C; a, b, c are (pointer, strides...)."""
        self.builder, self.v, self.sums = builder, v, sums
        (self.a, self.a_row, self.a_column), (self.b, self.b_row), (self.c, self.c_row) = a, b, c

    def emit(
        self, height: Any, width: Any, depth: Any, add: Any, vectors: int = TILE_VECTORS
    ) -> None:
        before = _count((vectors - 1) * self.v.lanes)
        valid = self.builder.sub(width, before)
        if vectors == 1:
            self._edges(height, valid, depth, add, 1)
            return
        with self.builder.if_else(self.builder.icmp_signed(">", valid, _count(0))) as (all_, fewer):
            with all_:
                self._edges(height, valid, depth, add, vectors)
            with fewer:
                self.emit(height, width, depth, add, vectors - 1)

    def _edges(self, height: Any, valid: Any, depth: Any, add: Any, vectors: int) -> None:
        builder = self.builder
        full = builder.icmp_signed(">=", valid, _count(self.v.lanes))
        with builder.if_else(full) as (inside, edge):
            with inside:
                self._rows(height, depth, add, [(None, None)] * vectors)
            with edge:
                masks = (self.v.mask(valid), self.sums.mask(valid))
                self._rows(height, depth, add, [(None, None)] * (vectors - 1) + [masks])

    def _rows(self, height: Any, depth: Any, add: Any, masks: list[Any]) -> None:
        start, rows = _count(0), TILE_ROWS
        while rows:
            loop = _Counted(self.builder, start, height, rows)
            with loop as row:
                self._tile(row, rows, depth, add, masks)
            start, rows = loop.last, rows // 2

    def _tile(self, row: Any, rows: int, depth: Any, add: Any, masks: list[Any]) -> None:
        builder, v, vectors = self.builder, self.v, range(len(masks))
        a = v.at(self.a, builder.mul(row, self.a_row))
        # C is far away by the time it is written again: it comes while the sums are made.
        for i in range(rows):
            for j in vectors:
                self.sums.prefetch(self._place(row, i, j), write=True)
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("sums")
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(INDEX)
        k.add_incoming(_count(0), before)
        totals = [builder.phi(self.sums.type) for _ in range(rows * len(masks))]
        b_k = v.at(self.b, builder.mul(k, self.b_row))
        row_of_b = [v.load(v.at(b_k, j * v.lanes), masks[j][0]) for j in vectors]
        a_k = v.at(a, builder.mul(k, self.a_column))
        results = []
        for i in range(rows):
            spread = v.splat(builder.load(v.at(a_k, builder.mul(self.a_row, _count(i)))))
            for j in vectors:
                total = totals[i * len(masks) + j]
                total.add_incoming(self.sums.zero, before)
                result = self._multiply_add(spread, row_of_b[j], total)
                total.add_incoming(result, loop)
                results.append(result)
        following = builder.add(k, _count(1))
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        with builder.if_else(add) as (adding, writing):
            with adding:
                self._write(row, rows, results, masks, add=True)
            with writing:
                self._write(row, rows, results, masks, add=False)

    def _multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        if isinstance(self.v.element, ir.IntType):
            return pairs_multiply_add(self.builder, a, b, total)
        return self.v.multiply_add(a, b, total)

    def _place(self, row: Any, i: int, j: int) -> Any:
        """Where vector j of row `row` + i of C is."""
        c_i = self.builder.mul(self.builder.add(row, _count(i)), self.c_row)
        return self.sums.at(self.sums.at(self.c, c_i), j * self.sums.lanes)

    def _write(self, row: Any, rows: int, results: list[Any], masks: list[Any], add: bool) -> None:
        v = self.sums
        for i in range(rows):
            for j in range(len(masks)):
                place, value = self._place(row, i, j), results[i * len(masks) + j]
                if add:
                    value = self.builder.fadd(v.load(place, masks[j][1]), value)
                v.store(value, place, masks[j][1])


@intrinsic
def panel(
    typing_context: Any,
    scratch: Any,
    a: Any, a_packed: Any, a_start: Any, a_row: Any, a_column: Any,
    b: Any, b_packed: Any, b_start: Any, b_row: Any,
    c: Any, c_start: Any, c_row: Any,
    height: Any, width: Any, depth: Any, add: Any,
) -> Any:  # fmt: skip
    """C (height, width) = or, with `add`, += A (height, depth) @ B (depth, width).

    A and B lie in `scratch` where they are packed, which pairs of bfloat16 have to be. Width is 1
    to TILE_VECTORS vectors, depth at least 1; B's and C's columns lie side by side.
    """
    n, flag = types.int64, types.boolean
    signature = types.void(
        scratch, a, flag, n, n, n, b, flag, n, n, c, n, n, n, n, n, flag
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        scratch, a, a_packed, a_start, a_row, a_column, b, b_packed, b_start, b_row = arguments[:10]
        c, c_start, c_row = arguments[10:13]
        operands = Vectors(builder, context.get_value_type(kinds[0].dtype))
        sums = Vectors(builder, context.get_value_type(kinds[10].dtype))

        def chosen(kind: Any, array: Any, packed: Any, start: Any) -> Any:
            there = _pointer(context, builder, kinds[0], scratch, start)
            if kind.dtype != kinds[0].dtype:
                return there
            return builder.select(packed, there, _pointer(context, builder, kind, array, start))

        from_a = chosen(kinds[1], a, a_packed, a_start)
        from_b = (chosen(kinds[6], b, b_packed, b_start), b_row)
        to_c = (_pointer(context, builder, kinds[10], c, c_start), c_row)
        if kinds[0].dtype == IN_TILES:
            in_tiles = TilePanel(builder, sums, (from_a, a_row), from_b, to_c)
            in_tiles.emit(*arguments[13:])
        else:
            in_vectors = _Panel(builder, operands, sums, (from_a, a_row, a_column), from_b, to_c)
            in_vectors.emit(*arguments[13:])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def sum_rows(
    typing_context: Any,
    a: Any, a_start: Any, a_row: Any, sums: Any, sums_start: Any, height: Any, width: Any,
) -> Any:  # fmt: skip
    """Sums (width,) = column sums of A (height, width), each over the rows in order."""
    n = types.int64
    signature = types.void(a, n, n, sums, n, n, n)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a_start, a_row, sums, sums_start, height, width = arguments
        kinds = signature.args
        v = Vectors(builder, context.get_value_type(kinds[0].dtype))
        source = _pointer(context, builder, kinds[0], a, a_start)
        target = _pointer(context, builder, kinds[3], sums, sums_start)
        start = _count(0)
        for vectors in (4, 1):
            loop = _Counted(builder, start, width, vectors * v.lanes)
            with loop as column:
                _sum_strip(builder, v, source, a_row, target, column, height, [None] * vectors)
            start = loop.last
        with builder.if_then(builder.icmp_signed("<", start, width)):
            mask = v.mask(builder.sub(width, start))
            _sum_strip(builder, v, source, a_row, target, start, height, [mask])
        return context.get_dummy_value()

    return signature, generate


def _sum_strip(
    builder: Any, v: Vectors, source: Any, row: Any, target: Any, column: Any, height: Any,
    masks: list[Any],
) -> None:  # fmt: skip
    totals = [cgutils.alloca_once_value(builder, v.zero) for _ in masks]
    for total in totals:
        builder.store(v.zero, total)
    with _Counted(builder, _count(0), height, 1) as i:
        place = v.at(source, builder.add(builder.mul(i, row), column))
        for j, mask in enumerate(masks):
            value = v.load(v.at(place, j * v.lanes), mask)
            builder.store(builder.fadd(builder.load(totals[j]), value), totals[j])
    for j, mask in enumerate(masks):
        place = v.at(target, builder.add(column, _count(j * v.lanes)))
        v.store(builder.load(totals[j]), place, mask)


def _pack(down: bool) -> Any:
    """Packing, where pairs of bfloat16 are neighbours in a column (`down`), or else in a row."""

    @intrinsic
    def pack(
        typing_context: Any,
        source: Any, start: Any, row: Any, transposed: Any,
        packed: Any, packed_start: Any, packed_row: Any,
        height: Any, width: Any,
    ) -> Any:  # fmt: skip
        n = types.int64
        signature = types.void(source, n, n, types.boolean, packed, n, n, n, n)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, start, row, transposed, packed, packed_start, packed_row = arguments[:7]
            height, width = arguments[7:]
            kinds = signature.args
            given = Vectors(builder, context.get_value_type(kinds[0].dtype))
            taken = Vectors(builder, context.get_value_type(kinds[4].dtype))
            origin = _pointer(context, builder, kinds[0], source, start)
            target = _pointer(context, builder, kinds[4], packed, packed_start)
            unit = 2 * TILE if kinds[4].dtype == IN_TILES else given.lanes
            squares = _Squares(builder, given, taken, target, packed_row, down, unit)
            with builder.if_else(transposed) as (across, along):
                for block, flip in ((across, True), (along, False)):
                    with block:
                        squares.emit(origin, row, height, width, flip)
            return context.get_dummy_value()

        return signature, generate

    return pack


class _Squares:
    """Emits the copy of a matrix, or of its transpose, in squares of one vector's length."""

    def __init__(
        self, builder: Any, given: Vectors, taken: Vectors, target: Any, row: Any, down: bool,
        unit: int,
    ) -> None:  # fmt: skip
        """`unit` is of k, whole numbers of which are filled: one vector's length, or more."""
        self.builder, self.given, self.taken = builder, given, taken
        self.target, self.row, self.down, self.unit = target, row, down, unit
        self.in_pairs = isinstance(taken.element, ir.IntType)

    def emit(self, origin: Any, row: Any, height: Any, width: Any, flip: bool) -> None:
        builder, v = self.builder, self.given
        lanes = v.lanes
        # Squares that are partly outside count, too.
        below = self._filled(height, self.unit if self.down else lanes)
        beside = self._filled(width, lanes if self.down else self.unit)
        rows, columns = (_Counted(builder, _count(0), end, lanes) for end in (below, beside))
        with rows as i, columns as j:
            down, across = (j, i) if flip else (i, j)
            first = v.at(origin, builder.add(builder.mul(down, row), across))
            rows_left = builder.sub(width if flip else height, down)
            columns_left = builder.sub(height if flip else width, across)
            smaller = builder.select(
                builder.icmp_signed("<", rows_left, columns_left), rows_left, columns_left
            )
            inside = builder.icmp_signed(">=", smaller, _count(lanes))
            with builder.if_else(inside) as (whole, edge):
                with whole:
                    self._square(first, row, i, j, flip, None)
                with edge:
                    self._square(first, row, i, j, flip, (rows_left, columns_left))

    def _filled(self, size: Any, unit: int) -> Any:
        """Where squares end that fill `size` up to whole units."""
        to_edge = self.builder.add(size, _count(unit - 1))
        if unit == self.given.lanes:  # a loop of whole squares rounds down by itself
            return to_edge
        return self.builder.and_(to_edge, _count(-unit))

    def _square(self, first: Any, row: Any, i: Any, j: Any, flip: bool, left: Any) -> None:
        builder, v = self.builder, self.given
        rows = []
        for r in range(v.lanes):
            mask = None
            if left is not None:
                there = builder.icmp_signed("<", _count(r), left[0])
                mask = v.mask(builder.select(there, left[1], _count(0)))
            place = v.at(first, builder.mul(row, _count(r)))
            rows.append(v.load(place, mask))
            if self.down and not flip:
                # The next panel begins where this one ends in each row: too far for the processor
                # to foresee.
                v.prefetch(v.at(place, TILE_VECTORS * v.lanes), write=False)
        self._store(v.transposed(rows) if flip else rows, i, j)

    def _store(self, rows: list[Any], i: Any, j: Any) -> None:
        builder, taken = self.builder, self.taken
        if not self.in_pairs:
            for r, value in enumerate(rows):
                taken.store(value, self._place(builder.add(i, _count(r)), j))
            return
        halves = [bfloat16_bits(builder, taken, value) for value in rows]
        if self.down:
            i = builder.sdiv(i, _count(2))
            for r in range(0, len(halves), 2):
                high = builder.shl(halves[r + 1], ir.Constant(taken.type, [16] * taken.lanes))
                pair = builder.or_(halves[r], high)
                taken.store(pair, self._place(builder.add(i, _count(r // 2)), j))
        else:
            narrow = ir.VectorType(ir.IntType(16), taken.lanes)
            j = builder.sdiv(j, _count(2))
            for r, value in enumerate(halves):
                place = self._place(builder.add(i, _count(r)), j)
                address = builder.bitcast(place, narrow.as_pointer())
                builder.store(builder.trunc(value, narrow), address).align = 4

    def _place(self, i: Any, j: Any) -> Any:
        return self.taken.at(self.target, self.builder.add(self.builder.mul(i, self.row), j))


# A matrix (height, width), or the transpose of one of (width, height), to rows `packed_row` apart,
# filled up with 0 to whole vectors, or along k to whole tiles. `source` has rows `row` apart.
pack_a, pack_b = _pack(down=False), _pack(down=True)
