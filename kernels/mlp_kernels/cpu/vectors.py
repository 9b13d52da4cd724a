"""Vector instructions in Numba: LLVM's vector types, which its Python-like loops cannot name.

The register kernels of `tiles` are emitted with these helpers. Lanes and registers are those of the
processor that is compiled for; where it has fewer than asked, LLVM splits a vector in two.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, config

INDEX = ir.IntType(64)
LANE = ir.IntType(32)


def processor_features() -> set[str]:
    """What the processor can do, in LLVM's words ("avx512f", "amx-bf16"), as Numba will see it."""
    if config.CPU_FEATURES is not None:
        named = str(config.CPU_FEATURES)
        return {f[1:] for f in named.split(",") if f.startswith("+")}
    if config.CPU_NAME is not None:  # what that processor has is known to LLVM alone
        return set()
    return {name for name, has in llvm.get_host_cpu_features().items() if has}


FEATURES = processor_features()
# A vector is 64, 32 or 16 bytes wide. A tile of 8 x 2 vectors needs 16 registers for its sums.
VECTOR_BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
MANY_REGISTERS = "avx512f" in FEATURES or "neon" in FEATURES


class Vectors:
    """Emits operations on vectors of one element type (an LLVM float, double or 32-bit integer)."""

    def __init__(self, builder: Any, element: Any) -> None:
        self.builder, self.element = builder, element
        bits = 64 if isinstance(element, ir.DoubleType) else 32
        self.size = bits // 8
        self.lanes = VECTOR_BYTES // self.size
        self.type = ir.VectorType(element, self.lanes)
        self.mask_type = ir.VectorType(ir.IntType(1), self.lanes)
        letter = "i" if isinstance(element, ir.IntType) else "f"
        self.name = f"v{self.lanes}{letter}{bits}"
        self.zero = ir.Constant(self.type, None)

    def at(self, pointer: Any, offset: Any) -> Any:
        """The address `offset` elements on."""
        if isinstance(offset, int):
            offset = ir.Constant(INDEX, offset)
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any, mask: Any = None) -> Any:
        """A vector from any address; lanes outside the mask are not read, and are 0."""
        address = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            loaded = self.builder.load(address)
            loaded.align = self.size
            return loaded
        name = f"llvm.masked.load.{self.name}.p0"
        signature = ir.FunctionType(
            self.type, [self.type.as_pointer(), LANE, self.mask_type, self.type]
        )
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        align = ir.Constant(LANE, self.size)
        return self.builder.call(function, [address, align, mask, self.zero])

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        """Lanes outside the mask are not written."""
        address = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            self.builder.store(value, address).align = self.size
            return
        name = f"llvm.masked.store.{self.name}.p0"
        signature = ir.FunctionType(
            ir.VoidType(), [self.type, self.type.as_pointer(), LANE, self.mask_type]
        )
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        self.builder.call(function, [value, address, ir.Constant(LANE, self.size), mask])

    def prefetch(self, pointer: Any, *, write: bool) -> None:
        """Asks for the cache line of an address that will be read or written soon."""
        byte = ir.IntType(8).as_pointer()
        signature = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
        function = cgutils.get_or_insert_function(
            self.builder.module, signature, "llvm.prefetch.p0"
        )
        how = [ir.Constant(LANE, number) for number in (int(write), 3, 1)]
        self.builder.call(function, [self.builder.bitcast(pointer, byte), *how])

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(LANE, 0))
        lanes = ir.Constant(ir.VectorType(LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def mask(self, count: Any) -> Any:
        """The mask of the first `count` lanes (an index; below 0 is none)."""
        wide = ir.VectorType(INDEX, self.lanes)
        undefined = ir.Constant(wide, ir.Undefined)
        first = self.builder.insert_element(undefined, count, ir.Constant(LANE, 0))
        same = ir.Constant(ir.VectorType(LANE, self.lanes), [0] * self.lanes)
        counts = self.builder.shuffle_vector(first, undefined, same)
        return self.builder.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), counts)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """A * b + c, rounded once."""
        signature = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fma.{self.name}"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [a, b, c])

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The columns of a square of as many rows as there are lanes."""
        width = 1
        while width < self.lanes:
            # Swap the off-diagonal squares of `width` within squares of twice that.
            low, high = [], []
            for lane in range(self.lanes):
                inside, block = lane % width, lane // (2 * width) * 2 * width
                second = lane // width % 2
                low.append(block + inside + second * self.lanes)
                high.append(block + width + inside + second * self.lanes)
            swapped = list(rows)
            for i in range(self.lanes):
                if i // width % 2 == 0:
                    swapped[i] = self._shuffle(rows[i], rows[i + width], low)
                    swapped[i + width] = self._shuffle(rows[i], rows[i + width], high)
            rows, width = swapped, 2 * width
        return rows

    def _shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        order = ir.Constant(ir.VectorType(LANE, self.lanes), lanes)
        return self.builder.shuffle_vector(a, b, order)


class BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


def bfloat16_bits(builder: Any, v: Vectors, value: Any) -> Any:
    """Float32 lanes rounded to the nearest bfloat16, ties to even: its bits in the low half.

    The processor's instruction takes numbers below the smallest normal one for 0, as its products
    of pairs do.
    """
    if "avx512bf16" not in FEATURES or v.lanes != 16:
        return _rounded_bits(builder, v, value)
    pairs = ir.VectorType(BFloat(), v.lanes)
    signature = ir.FunctionType(pairs, [value.type])
    name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    halves = ir.VectorType(ir.IntType(16), v.lanes)
    return builder.zext(builder.bitcast(builder.call(function, [value]), halves), v.type)


def _rounded_bits(builder: Any, v: Vectors, value: Any) -> Any:
    """The same by arithmetic.

    The upper half of a float32 is a bfloat16, so rounding adds half of the last place that stays.
    NaN, whose bits that could carry away, becomes a quiet NaN.
    """
    bits = builder.bitcast(value, v.type)

    def constant(number: int) -> Any:
        return ir.Constant(v.type, [number] * v.lanes)

    sixteen = constant(16)
    odd = builder.and_(builder.lshr(bits, sixteen), constant(1))
    rounded = builder.add(bits, builder.add(odd, constant(0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", value, value)
    quiet = builder.or_(bits, constant(0x400000))
    return builder.lshr(builder.select(is_nan, quiet, rounded), sixteen)
