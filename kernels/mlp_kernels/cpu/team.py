"""A team of threads that run one compiled function together: shares of the work, and a barrier.

Each thread knows its number and how many there are, takes its share of every loop, and meets the
others where one needs what another made. No thread may raise, or the others would wait for ever.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mlp_kernels.cpu.compiler import Integers, kernel

# Elements of a barrier's array: one counter per cache line, so that they do not slow each other.
ARRIVED, ROUND = 0, 16
BARRIER_SIZE = 32
# A thread that has looked this often lets another run: where there are more threads than free
# processors, the one waited for may need this one's.
PATIENCE = 2000

_system: Any = ctypes.windll.kernel32 if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
_give_way = _system.SwitchToThread if sys.platform == "win32" else _system.sched_yield
llvm.add_symbol("mlp_give_way", ctypes.cast(_give_way, ctypes.c_void_p).value)


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


@intrinsic
def fetch_add(typing_context: Any, counters: Any, index: Any, amount: Any) -> Any:
    """The counter's value before `amount` was added to it, in one uninterrupted act."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        return builder.atomic_rmw("add", place, arguments[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def look(typing_context: Any, counters: Any, index: Any) -> Any:
    """The counter's value, and with it all that was written before it was set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, arguments), "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic
def put(typing_context: Any, counters: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.int64, types.int64), generate


@intrinsic
def pause(typing_context: Any) -> Any:
    """Tells the processor that this is a waiting loop, where it has such an instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "x86" in llvm.get_process_triple():
            name = "llvm.x86.sse2.pause"
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), name
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(typing_context: Any) -> Any:
    """Lets the operating system run another thread."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), []), "mlp_give_way"
        )
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@kernel()
def meet(barrier: Integers, threads: int) -> None:
    """Returns when all threads have called it: barrier (BARRIER_SIZE,), 0 before the first use."""
    if threads == 1:
        return
    now = look(barrier, ROUND)
    if fetch_add(barrier, ARRIVED, 1) == threads - 1:
        put(barrier, ARRIVED, 0)
        put(barrier, ROUND, now + 1)
        return
    looks = 0
    while look(barrier, ROUND) == now:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()


@kernel()
def share(size: int, unit: int, thread: int, threads: int) -> tuple[int, int]:
    """A thread's share of 0, ..., size - 1: first and last + 1, in whole units but for the end."""
    units = (size + unit - 1) // unit
    first = units * thread // threads * unit
    last = units * (thread + 1) // threads * unit
    return min(first, size), min(last, size)
