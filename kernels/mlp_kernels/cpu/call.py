"""Calls of compiled code by its address, and arrays whose references nobody counts."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def call(typing_context: Any, address: Any, arguments: Any) -> Any:
    """In a kernel: calls what is compiled at an address with a tuple of arrays and numbers.

    An array is passed as the address of its first element, a whole number or flag as int64, another
    number as float64. Nothing is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        passed = []
        for i, kind in enumerate(arguments.types):
            value = builder.extract_value(values[1], i)
            if isinstance(kind, types.Array):
                value = context.make_array(kind)(context, builder, value).data
            else:
                wanted = types.float64 if isinstance(kind, types.Float) else types.int64
                value = context.cast(builder, value, kind, wanted)
            passed.append(value)
        function = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        builder.call(builder.inttoptr(values[0], function.as_pointer()), passed)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate


def _borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        for i, inner in enumerate(kind.types):
            part = _borrowed(context, builder, inner, builder.extract_value(value, i))
            value = builder.insert_value(value, part, i)
        return value
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        array.parent = ir.Constant(array.parent.type, None)
        return array._getvalue()
    return value


@intrinsic
def borrowed(typing_context: Any, held: Any) -> Any:
    """In a kernel: an array, or a tuple with arrays in it, whose references are not counted.

    Counting is an atomic operation at every call and view, a fifth of the time of a small step. The
    caller of the kernel holds the arrays as long as it runs.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _borrowed(context, builder, held, values[0])

    return held(held), generate
