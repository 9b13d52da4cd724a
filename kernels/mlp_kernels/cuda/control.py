"""Launches that begin a step and an epoch: control.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import BLOCK, blocks_for, check_dtype, check_shape


def begin_step(
    counters: Any, rates: Any, scalars: Any, order: Any, index: Any, batch_size: int, room: Room
) -> Launch:
    """counters[BATCH] += 1, counters[STEP] += 1, scalars = [rates[counters[BATCH]], 1, 0].

    index (B,) receives order[batch_size * counters[BATCH] mod its size] and the B - 1 that follow.
    That these are there is the caller's to know: the counters are on the device.
    """
    _check_counters(counters)
    check_shape("scalars", scalars, 3)
    for name, array in (("rates", rates), ("scalars", scalars)):
        check_dtype(name, array, np.float64)
    for name, array in (("order", order), ("index", index)):
        check_dtype(name, array, np.int64)
    if not 0 < index.size <= batch_size:
        raise ValueError(f"{index.size} rows are no batch of at most {batch_size}")
    return Launch(
        Kernel.of("control.cu", "begin_step"), (blocks_for(index.size), 1, 1), (BLOCK, 1, 1),
        (counters, rates, scalars, order, index, np.int64(index.size), np.int64(batch_size),
         np.int64(order.size), room.tickets(1)),
    )  # fmt: skip


def begin_epoch(counters: Any, totals: Any) -> Launch:
    """counters[BATCH] = -1, totals = 0; rates and order are set apart."""
    _check_counters(counters)
    check_shape("totals", totals, 2)
    check_dtype("totals", totals, np.float64)
    return Launch(Kernel.of("control.cu", "begin_epoch"), (1, 1, 1), (32, 1, 1), (counters, totals))


def fill_in_turn(order: Any, rows: int) -> Launch:
    """Order = 0, 1, ..., rows - 1, 0, 1, ..."""
    check_dtype("order", order, np.int64)
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    return Launch(
        Kernel.of("control.cu", "fill_in_turn"), (blocks_for(order.size), 1, 1), (BLOCK, 1, 1),
        (order, np.int64(order.size), np.int64(rows)),
    )  # fmt: skip


def _check_counters(counters: Any) -> None:
    check_shape("counters", counters, 4)
    check_dtype("counters", counters, np.int64)
