"""The three products of a layer by a library, each followed by a pass of ours over its result.

The same operations as in products.py, with the same arguments; each is a list of work in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlp_kernels.cuda.epilogues import delta_epilogue, forward_epilogue, partial_sums
from mlp_kernels.cuda.launch import LibraryProduct, Room, Work
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device
from mlp_kernels.cuda.types import check_dtype, compute_type

# Two arrays in one piece of memory: the second begins at a multiple of so many numbers.
APART = 64


def linear_forward(
    device: Device,
    room: Room,
    x: Any,
    W: Any,
    b: Any,
    activation: str,
    a: Any,
    saved: Any | None,
    dropout: DropoutNumbers | None = None,
    rounded: bool = False,
) -> list[Work]:
    """A = g(x W + b); see `products.linear_forward`.

    The product is in the type of its sums. It goes to `a` where that is of this type, else to
    `room`; or, where `rounded`, to `a` in any case, which saves memory traffic and rounds twice.
    """
    check_dtype("W", W, x.dtype)
    check_dtype("a", a, x.dtype, compute_type(x.dtype))
    if rounded or a.dtype == compute_type(x.dtype):
        z = a
    else:
        z = room.numbers(a.size, compute_type(x.dtype)).reshape(a.shape)
    return [
        LibraryProduct(x, W, z, tf32=device.tf32),
        forward_epilogue(z, b, activation, a, saved, dropout),
    ]


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
    rounded: bool = False,
) -> list[Work]:
    """Out = (delta W^T) * g'(saved), and its column sums; see `products.linear_delta`.

    The product is in the type of its sums: in `out` or in `room`, as for `linear_forward`.
    """
    for name, array in (("W", W), ("saved", saved), ("out", out)):
        check_dtype(name, array, delta.dtype)
    sums, z = compute_type(delta.dtype), out
    if not rounded and out.dtype != sums:
        # The epilogue finds both the product and the sums of its blocks in the same memory.
        size, apart = out.size, math.ceil(out.size / APART) * APART
        memory = room.numbers(apart + partial_sums(out, sums), sums)
        z, room = memory[:size].reshape(out.shape), _Rest(memory[apart:], room)
    return [
        LibraryProduct(delta, W, z, (False, True), device.tf32),
        delta_epilogue(room, z, saved, activation, out, db_prev, dropout),
    ]


@dataclass(frozen=True)
class _Rest:
    """Room whose numbers are in memory that was asked for before."""

    memory: Any
    room: Room

    def numbers(self, count: int, dtype: Any) -> Any:
        return self.memory[:count]

    def tickets(self, count: int) -> Any:
        return self.room.tickets(count)


def linear_grads(device: Device, room: Room, x: Any, delta: Any, dW: Any) -> list[Work]:
    """DW = x^T delta; see `products.linear_grads`. Nothing follows, and no room is needed."""
    check_dtype("delta", delta, x.dtype)
    check_dtype("dW", dW, compute_type(x.dtype))
    return [LibraryProduct(x, delta, dW, (True, False), device.tf32)]
