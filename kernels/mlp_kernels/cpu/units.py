"""Units of compilation: the large kernels, compiled once for each dtype and called by address.

Numba compiles all that a function calls along with it, and again for every caller. So the heavy
parts of a step (the matrix product, activations, losses) are compiled by themselves, and what calls
them by their addresses is small, however many kinds of steps there are.

Across such a call an array is the address of its first element; numbers are int64 or float64.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types
from numba.np.numpy_support import from_dtype

from mlp_kernels.cpu.activations import activate, derive
from mlp_kernels.cpu.compiler import address_of
from mlp_kernels.cpu.losses import ROOM, loss_rows
from mlp_kernels.cpu.philox import drop
from mlp_kernels.cpu.product import product


class Units(NamedTuple):
    """Addresses of what the layers call; drop is 0 where there is no dropout."""

    product: int
    activate: int
    derive: int
    drop: int


def _activate(code: int, z: Any, size: int, width: int) -> None:
    activate(code, carray(z, size), width)


def _derive(code: int, gradient: Any, saved: Any, size: int, width: int) -> None:
    derive(code, carray(gradient, size), carray(saved, size), width)


def _drop(
    a: Any, size: int, first: int, threshold: int, scale: float, layer: int, seed: int, step: int
) -> None:
    drop(carray(a, size), first, threshold, scale, layer, seed, step)


def _loss_of_labels(
    code: int, output: Any, target: Any, rows: int, width: int, parameter: float,
    delta: Any, room: Any, values: Any,
) -> None:  # fmt: skip
    shape = (rows, width)
    loss_rows(
        code, carray(output, shape), carray(target, rows), parameter,
        carray(delta, shape), carray(room, rows * (width + ROOM)), carray(values, rows),
    )  # fmt: skip


def _loss_of_values(
    code: int, output: Any, target: Any, rows: int, width: int, parameter: float,
    delta: Any, room: Any, values: Any,
) -> None:  # fmt: skip
    shape = (rows, width)
    loss_rows(
        code, carray(output, shape), carray(target, shape), parameter,
        carray(delta, shape), carray(room, rows * (width + ROOM)), carray(values, rows),
    )  # fmt: skip


@functools.cache
def layer_units(dtype: np.dtype[Any], packed: np.dtype[Any], dropout: bool) -> Units:
    """For arrays of a dtype, and products of operands packed as their own or as `pairs`."""
    n, x = types.int64, types.float64
    array, scratch = types.CPointer(from_dtype(dtype)), types.CPointer(from_dtype(packed))
    matrix = (array, n, n)
    return Units(
        address_of(product, *matrix, n, *matrix, n, *matrix, n, n, n, scratch),
        address_of(_activate, n, array, n, n),
        address_of(_derive, n, array, array, n, n),
        address_of(_drop, array, n, n, n, x, n, n, n) if dropout else 0,
    )


@functools.cache
def loss_unit(dtype: np.dtype[Any], labels: bool) -> int:
    """The losses of outputs of a dtype, for targets that are int64 labels, or of that dtype."""
    n, x = types.int64, types.float64
    array = types.CPointer(from_dtype(dtype))
    target = types.CPointer(n) if labels else array
    function = _loss_of_labels if labels else _loss_of_values
    return address_of(function, n, array, target, n, n, x, array, array, types.CPointer(x))
