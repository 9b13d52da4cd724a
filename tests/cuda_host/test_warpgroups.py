"""Tiles of warpgroups: their products, what must be waited for, and how they are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlp
from mlp.backends.cuda.backend import WARPGROUPS_VARIABLE
from mlp.backends.cuda.device import CudaDevice
from mlp.errors import BackendUnavailable, DeviceFault
from mlp_kernels.cuda.compile import FOLDER, Kernel
from mlp_kernels.cuda.tiles import HOPPER_TILES, Device, Tile, choose_tile, tiles_for
from tests.cuda_host import run as host
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT32,
    assert_close,
    assert_same_bits_in_every_order,
)
from tests.cuda_host.cupy_stand_in import installed
from tests.cuda_host.run import KernelFault, run
from tests.cuda_host.test_products import OF_TENSOR, delta, forward, grads

TILES = [Tile.of_warpgroups(*sizes) for sizes in HOPPER_TILES]
HOPPER = Device((9, 0), 132, shared=227 * 1024, warpgroups=True)
# (B, I, O), lines of a multiple of 8 numbers: within a tile, several tiles, several stages.
SHAPES = [(8, 8, 8), (40, 72, 136), (136, 40, 8), (130, 264, 272), (64, 400, 64), (520, 64, 72)]
by_tile = pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name.split()[0])


@pytest.fixture(params=["bfloat16", "float16"])
def kind(request):
    return OF_TENSOR[request.param]


@by_tile
@pytest.mark.usefixtures("everywhere")
def test_products(kind, tile):
    if host.elsewhere is not None and CudaDevice(0).capability != HOPPER.capability:
        pytest.skip("the device is not of compute capability 9.0")
    for shape in SHAPES:
        launch, a, saved, expected, kept = forward(kind, tile, *shape, "gelu", 0.3)
        run(launch)
        assert_close(a, expected, compute=kind.sums, terms=shape[1])
        assert_close(saved, kept, compute=kind.sums, terms=shape[1])
        launch, room, out, db, expected = delta(kind, tile, *shape)
        run(launch)
        assert_close(out, expected, compute=kind.sums, terms=shape[2])
        assert_close(db, expected.sum(axis=0), compute=kind.sums, terms=shape[0] + shape[2])
        room.assert_left_as_found()
        launch, room, dW, expected = grads(kind, tile, *shape, share=512)
        run(launch)
        assert_close(dW, expected, compute=kind.sums, terms=shape[0])
        room.assert_left_as_found()


@by_tile
def test_same_bits_in_every_order(tile):
    kind = OF_TENSOR["bfloat16"]

    def make(room):
        of_forward, a, saved, *_ = forward(kind, tile, 136, 520, 72)
        of_delta, _, out, db, _ = delta(kind, tile, 136, 72, 520)
        of_grads, _, dW, _ = grads(kind, tile, 520, 72, 40)
        return [of_forward, of_delta, of_grads], [a, saved, out, db, dW]

    assert_same_bits_in_every_order(make)


@pytest.mark.parametrize(
    ("of_file", "line", "instead"),
    [
        ("hopper_tile.cuh", "copy_async_wait<STAGES - 3>();", "copy_async_wait<STAGES - 2>();"),
        ("hopper_tile.cuh", "wait_for_products<1>();", "wait_for_products<2>();"),
        ("hopper_tile.cuh", "wait_for_products<0>();", ""),
        ("hopper_tile.cuh", "            show_to_products();", ""),
        ("hopper_tile.cuh", "DEPTH * 128, EIGHT_LINES", "DEPTH * 64, EIGHT_LINES"),
        ("shared_part.cuh", "line += offset / SEGMENT * LINES;", "line += offset / SEGMENT;"),
    ],
)
def test_a_missing_wait_or_a_wrong_place_shows(tmp_path: Path, of_file, line, instead):
    for path in FOLDER.glob("*.cu*"):
        text = path.read_text(encoding="utf-8")
        if path.name == of_file:
            assert text.count(line) == 1
            text = text.replace(line, instead)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    kind, shape, wrong = OF_TENSOR["bfloat16"], (136, 520, 264), 0
    for order in host.ORDERS:
        launch, a, _, expected, _ = forward(kind, TILES[0], *shape)
        kernel = launch.kernel
        broken = Kernel(str(tmp_path / kernel.file), kernel.name, kernel.macros)
        try:
            run(replace(launch, kernel=broken), order)
            assert_close(a, expected, compute=kind.sums, terms=shape[1])
        except (KernelFault, AssertionError):
            wrong += 1
    assert wrong


def test_they_are_taken_where_they_are_asked_for():
    assert choose_tile(HOPPER, 8192, 8192, BFLOAT16, 16) == TILES[0]
    assert not choose_tile(HOPPER, 8192, 8192, BFLOAT16, 4).warpgroups
    assert not choose_tile(HOPPER, 8192, 8192, FLOAT32, 16).warpgroups
    assert not any(tile.warpgroups for tile in tiles_for(Device((9, 0), 132), BFLOAT16, 16))


@contextmanager
def hopper() -> Iterator[Any]:
    """A device of compute capability 9.0 with one multiprocessor, which takes large tiles."""
    mlp.backends._make.cache_clear()
    with installed(capability=(9, 0), processors=1, shared=227 * 1024) as cupy:
        yield cupy
    mlp.backends._make.cache_clear()


def train(rows: int = 256) -> mlp.Network:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, 64)), rng.integers(0, 8, rows)
    layers = [mlp.Dense(256, "tanh"), mlp.Dense(8, "softmax")]
    network = mlp.Network(64, layers, seed=0, device="cuda", precision="bfloat16")
    mlp.Trainer(network, "cross_entropy", mlp.Adam(), batch_size=256, seed=0).fit(X, y, epochs=2)
    return network


def test_a_network_trains_with_them(monkeypatch, tmp_path):
    monkeypatch.setenv("MLP_CACHE_DIR", str(tmp_path))
    with hopper():
        expected = train().weights
    assert not list(tmp_path.glob("cuda/*.cubin"))
    monkeypatch.setenv(WARPGROUPS_VARIABLE, "1")
    kept: dict[str, int] = {}
    for _ in range(2):
        with hopper():
            found = train().weights
        before, kept = (
            kept,
            {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("cuda/*.cubin")},
        )
        assert kept
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert kept == before  # the second took what was there


def test_other_devices_cannot_have_them(monkeypatch):
    monkeypatch.setenv(WARPGROUPS_VARIABLE, "1")
    mlp.backends._make.cache_clear()
    with installed(capability=(8, 0)), pytest.raises(BackendUnavailable, match=r"needs .* 9\.0"):
        train()


def test_a_kernel_that_does_not_compile_is_a_device_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("MLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(WARPGROUPS_VARIABLE, "1")
    with hopper() as cupy:

        def fails(program, options):
            raise cupy.cuda.nvrtc.NVRTCError("NVRTC_ERROR_COMPILATION")

        monkeypatch.setattr(cupy.cuda.nvrtc, "compileProgram", fails)
        with pytest.raises(DeviceFault, match="does not compile for sm_90"):
            train()
    assert not list(tmp_path.glob("cuda/*.cubin"))
