"""Launches of what follows a library's product: every value of every macro."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.epilogues import delta_epilogue, forward_epilogue
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.products import DropoutNumbers
from tests.nvrtc.arrays import BFLOAT16, COUNTERS, FLOAT16, FLOAT32, FLOAT64, ROOM, array

# Types of a product and of what is made of it; the last two where the product is rounded.
KINDS = (
    (FLOAT64, FLOAT64), (FLOAT32, FLOAT32), (FLOAT32, BFLOAT16), (FLOAT32, FLOAT16),
    (BFLOAT16, BFLOAT16), (FLOAT16, FLOAT16),
)  # fmt: skip
ROWS, WIDTH = 64, 1000


def heaviest_epilogues() -> Iterator[Launch]:
    """Every pair of types with what takes most registers."""
    for kind in KINDS:
        yield from _both(kind, "gelu", saved=True, dropout=True)


def all_epilogues() -> Iterator[Launch]:
    """Every activation, and other values one at a time."""
    yield from heaviest_epilogues()
    for kind in KINDS:
        yield from _both(kind, "gelu", saved=False, dropout=False)
    for activation, number in product(ELEMENTWISE, (FLOAT64, FLOAT32)):
        yield from _both((number, number), activation, saved=True, dropout=False)


def _both(kind: tuple[Any, Any], activation: str, saved: bool, dropout: bool) -> Iterator[Launch]:
    z, result = (array(dtype, ROWS, WIDTH) for dtype in kind)
    of_column = array(FLOAT64 if kind[0] == FLOAT64 else FLOAT32, WIDTH)
    drop = DropoutNumbers(2**31, 2.0, 0, COUNTERS) if dropout else None
    apart = array(kind[1], ROWS, WIDTH) if saved else None
    yield forward_epilogue(z, of_column, activation, result, apart, drop)
    yield delta_epilogue(ROOM, z, result, activation, result, of_column, drop)
