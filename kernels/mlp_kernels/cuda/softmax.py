"""Launches of softmax, forward and backward: softmax.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.types import (
    BLOCK,
    blocks_for,
    check_dtype,
    check_shape,
    number_type,
    row_lanes,
)


def softmax_rows(
    z: Any, a: Any | None, saved: Any | None = None, dropout: DropoutNumbers | None = None
) -> Launch:
    """A = softmax(z), with dropout if given; saved = softmax(z) without.

    z, a, saved (B, O), each of its own number type; a or saved may be None, or z itself.
    """
    outputs = [array for array in (a, saved) if array is not None]
    if not outputs:
        raise ValueError("softmax needs an array to write to")
    return _launch("softmax_rows", z, saved, a, outputs, dropout)


def softmax_delta(
    gradient: Any, saved: Any, out: Any, dropout: DropoutNumbers | None = None
) -> Launch:
    """Out = saved * (g - sum of each row of g * saved), g = gradient * mask / (1 - rate).

    gradient, saved, out (B, O), each of its own number type; out may be gradient.
    """
    return _launch("softmax_delta", gradient, saved, out, [saved, out], dropout)


def _launch(
    name: str, given: Any, saved: Any, out: Any, others: list[Any], dropout: DropoutNumbers | None
) -> Launch:
    rows, width = given.shape
    for array in others:
        check_shape("an array", array, rows, width)
    lanes = row_lanes(width)
    saved_type, out_type = (
        number_type((others[0] if array is None else array).dtype) for array in (saved, out)
    )
    kernel = Kernel.of(
        "softmax.cu", name, ROW_LANES=lanes, GIVEN=number_type(given.dtype), SAVED=saved_type,
        OUT=out_type, DROPOUT=int(dropout is not None),
    )  # fmt: skip
    return Launch(
        kernel, (blocks_for(rows * lanes), 1, 1), (BLOCK, 1, 1),
        (given, saved, out, np.int64(rows), np.int64(width), *_dropout_arguments(dropout)),
    )  # fmt: skip


def _dropout_arguments(dropout: DropoutNumbers | None) -> tuple[Any, ...]:
    if dropout is None:
        return (np.int32(0),)
    check_dtype("counters", dropout.counters, np.int64)
    return (
        np.uint32(dropout.threshold), np.float64(dropout.scale), np.int32(dropout.layer),
        dropout.counters,
    )  # fmt: skip
