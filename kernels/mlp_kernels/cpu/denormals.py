"""Numbers next to 0, below the smallest normal one, taken for 0 while steps run.

A unit that is never active leaves its moments to decay into such numbers, and there they stay:
0.9 times the smallest rounds to itself. Processors work on them up to a hundred times slower.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Bits of the control register: results that are so small become 0, and so do operands.
FLUSH = 0x8000 | 0x0040
WORD = ir.IntType(32)


def _control(builder: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def flush_denormals(typing_context: Any) -> Any:
    """In a kernel: from here on, on this thread; returns what `restore` takes. x86 alone."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "x86" not in llvm.get_process_triple():
            return ir.Constant(WORD, 0)
        place = cgutils.alloca_once(builder, WORD)
        _control(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.Constant(WORD, FLUSH)), place)
        _control(builder, "ldmxcsr", place)
        return before

    return types.int32(), generate


@intrinsic
def restore(typing_context: Any, before: Any) -> Any:
    """In a kernel: small numbers as they were treated before `flush_denormals`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "x86" in llvm.get_process_triple():
            place = cgutils.alloca_once(builder, WORD)
            builder.store(arguments[0], place)
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), generate
