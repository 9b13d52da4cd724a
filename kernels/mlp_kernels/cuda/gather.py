"""Launches that take rows out of the data: gather.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.types import (
    BLOCK,
    blocks_for,
    check_dtype,
    check_shape,
    element_type,
    number_type,
    row_lanes,
)

MOST_ARRAYS = 3


def gather_batch(index: Any, *arrays: tuple[Any, Any]) -> Launch:
    """out[i] = source[index[i]] for up to three pairs (source, out), all in one launch.

    source (N,) or (N, I) and out (B,) or (B, I) are of one type, or of two that kernels compute
    with, as float32 and float16: then numbers are rounded to the nearest. index (B,) int64 holds
    numbers in 0..N-1.
    """
    check_dtype("index", index, np.int64)
    if not 1 <= len(arrays) <= MOST_ARRAYS:
        raise ValueError(f"one to {MOST_ARRAYS} arrays are gathered at a time, not {len(arrays)}")
    rows = index.size
    macros: dict[str, str | int] = {"ARRAYS": len(arrays)}
    arguments: list[Any] = [index, np.int64(rows)]
    threads = 1
    for i, (source, out) in enumerate(arrays):
        check_shape("out", out, rows, *source.shape[1:])
        width = out.size // max(rows, 1)
        lanes = row_lanes(width)
        threads = max(threads, rows * lanes)
        same = source.dtype == out.dtype
        macros[f"FROM{i}"] = (element_type if same else number_type)(source.dtype)
        macros[f"TO{i}"] = (element_type if same else number_type)(out.dtype)
        arguments += [source, out, np.int64(width), np.int32(lanes)]
    return Launch(
        Kernel.of("gather.cu", "gather_batch", **macros), (blocks_for(threads), 1, 1),
        (BLOCK, 1, 1), tuple(arguments),
    )  # fmt: skip


def gather_rows(source: Any, index: Any, out: Any) -> Launch:
    """out[i] = source[index[i]], as `gather_batch`."""
    return gather_batch(index, (source, out))
