"""Launches that draw the order of an epoch's rows: shuffle.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.types import BLOCK, blocks_for, check_dtype, check_shape

MOST_KEYS = 4096  # that a block sorts by itself, in 32 KiB of shared memory
KEY_BYTES = 8


def keys_needed(rows: int) -> int:
    """How many uint64 `shuffle` needs room for: none for what one block can sort."""
    return 0 if rows <= MOST_KEYS else _padded(rows)


def shuffle(counters: Any, epoch: int, order: Any, keys: Any | None) -> list[Launch]:
    """Order (N,) int64 = `mlp.random.permutation` of counters[SEED], this epoch, and N.

    keys is room for `keys_needed(N)` uint64, or None where that is 0.
    """
    _check(counters, order, keys)
    rows = order.size
    padded, tile = _padded(rows), min(_padded(rows), MOST_KEYS)
    index_bits = np.uint64((1 << max(rows - 1, 1).bit_length()) - 1)

    def of_tiles(name: str, run: int, *arguments: Any) -> Launch:
        # The launch that leaves all keys sorted writes the order.
        out = order if run == padded else None
        return Launch(
            Kernel.of("shuffle.cu", name), (padded // tile, 1, 1), (BLOCK, 1, 1),
            (*arguments, np.int32(tile), keys, out, np.int64(rows), index_bits), KEY_BYTES * tile,
        )  # fmt: skip

    launches = [of_tiles("sort_tiles", tile, counters, np.int64(epoch))]
    run = 2 * tile
    while run <= padded:
        distance = run // 2
        while distance >= tile:
            launches.append(_merge_far(keys, padded // 2, run, distance))
            distance //= 2
        launches.append(of_tiles("merge_near", run, np.int64(run)))
        run *= 2
    return launches


def _merge_far(keys: Any, pairs: int, run: int, distance: int) -> Launch:
    return Launch(
        Kernel.of("shuffle.cu", "merge_far"), (blocks_for(pairs), 1, 1), (BLOCK, 1, 1),
        (keys, np.int64(pairs), np.int64(run), np.int64(distance)),
    )  # fmt: skip


def _check(counters: Any, order: Any, keys: Any) -> None:
    check_shape("counters", counters, 4)
    check_dtype("counters", counters, np.int64)
    check_dtype("order", order, np.int64)
    if order.size < 1:
        raise ValueError("there must be a row to shuffle")
    needed = keys_needed(order.size)
    if needed:
        if keys is None or keys.size < needed:
            raise ValueError(f"{order.size} rows need room for {needed} keys")
        check_dtype("keys", keys, np.uint64)


def _padded(rows: int) -> int:
    """The next power of two, at least 2."""
    return 1 << max(rows - 1, 1).bit_length()
