"""Which tile, and how many shares of the batch, the rule of thumb takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlp_kernels.cuda.tiles import (
    LEAST_SHARED,
    SHARE_ROWS,
    Device,
    choose_shares,
    choose_tile,
    tiles_for,
)
from tests.cuda_host.arrays import BFLOAT16, FLOAT32, FLOAT64

H100 = Device((9, 0), 132, shared=227 * 1024)
TF32 = Device((9, 0), 132, tf32=True, shared=227 * 1024)
ADA = Device((8, 9), 76)
TURING = Device((7, 5), 40, shared=64 * 1024)
KINDS = [(H100, BFLOAT16), (TF32, FLOAT32), (H100, FLOAT32), (H100, FLOAT64), (TURING, BFLOAT16)]


def size(device: Device, rows: int, columns: int, dtype=BFLOAT16) -> tuple[int, int]:
    tile = choose_tile(device, rows, columns, dtype, 16)
    return tile.rows, tile.columns


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (8192, 8192, (128, 256)),  # many tiles of any size
        (131072, 10, (128, 32)),  # a wider tile would be mostly empty
        (131072, 64, (64, 64)),
        (10, 131072, (32, 128)),
        (128, 128, (32, 32)),  # as many blocks as can be
        (1, 1, (32, 32)),
    ],
)
def test_what_is_taken_for_a_result(rows, columns, expected):
    assert size(H100, rows, columns) == expected


def test_the_last_wave_counts():
    """133 tiles of the largest size take as long as 264: smaller ones are done sooner."""
    assert size(H100, 128 * 132, 256) == (128, 256)
    assert size(H100, 128 * 133, 256) != (128, 256)


@pytest.mark.parametrize(("device", "dtype"), KINDS)
def test_names_are_unique_and_shared_memory_fits(device, dtype):
    tiles = tiles_for(device, dtype, 16)
    assert len({tile.name for tile in tiles}) == len(tiles)
    assert all(tile.shared <= device.shared for tile in tiles)
    assert {tile.tensor for tile in tiles} == {device.has_tensor_cores_for(dtype)}


def test_a_device_with_less_shared_memory_has_tiles_of_every_size():
    def sizes(device: Device) -> set[tuple[int, int]]:
        return {(tile.rows, tile.columns) for tile in tiles_for(device, BFLOAT16, 16)}

    assert ADA.shared == LEAST_SHARED
    assert sizes(ADA) == sizes(H100)
    assert len(tiles_for(ADA, BFLOAT16, 16)) < len(tiles_for(H100, BFLOAT16, 16))


@pytest.mark.parametrize(("device", "dtype"), KINDS)
@pytest.mark.parametrize("batch", [1, 128, 1000, 131072])
@pytest.mark.parametrize("side", [10, 64, 4096])
def test_shares_of_a_batch(device, dtype, batch, side):
    tile, share = choose_shares(device, side, side, batch, tiles_for(device, dtype, 16))
    assert share % SHARE_ROWS == 0
    assert (math.ceil(batch / share) - 1) * share < batch  # none is empty
    blocks = tile.blocks(side, side) * math.ceil(batch / share)
    if batch == 131072:
        assert blocks >= 0.8 * device.processors
    if side == 4096:
        assert share >= min(batch, 1024)  # there are tiles enough


def test_plain_tiles_of_double_are_small():
    assert choose_tile(H100, 8192, 8192, np.float64, 16).rows == 64
