"""The three matrix products on the host, every tile and number type, against float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS, activation_backward
from mlp.random import dropout_mask, dropout_threshold
from mlp_kernels.cuda import products
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device, Tile, tiles_for
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Room,
    assert_close,
    assert_same_bits_in_every_order,
    computed_in,
    draw,
    get,
    put,
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.run import run
from tests.nvrtc.variants import one_of_each_size

pytestmark = pytest.mark.usefixtures("everywhere")


@dataclass(frozen=True)
class Kind:
    """How operands are stored and multiplied.

    Attributes:
        dtype: of their arrays.
        tensor: on tensor cores.
    """

    name: str
    dtype: np.dtype
    tensor: bool

    @property
    def sums(self) -> np.dtype:
        return computed_in(self.dtype)


KINDS = [
    Kind("float32", FLOAT32, False),
    Kind("float64", FLOAT64, False),
    Kind("tf32", FLOAT32, True),
    Kind("bfloat16", BFLOAT16, True),
    Kind("float16", FLOAT16, True),
    Kind("bfloat16 plain", BFLOAT16, False),
    Kind("float16 plain", FLOAT16, False),
]
OF_TENSOR = {kind.name: kind for kind in KINDS if kind.tensor}
# (B, I, O): edges in every place; lines of a multiple of 8 numbers are copied by 16 bytes.
ODD = [(1, 1, 1), (3, 31, 33), (33, 3, 31), (31, 33, 1), (65, 127, 32)]
EVEN = [(8, 8, 8), (40, 72, 136), (136, 40, 8), (64, 200, 64)]
OF_TWO = [(3, 10, 6), (33, 2, 14), (66, 130, 10)]  # 4 bytes of 16-bit numbers


def device(kind: Kind, processors: int = 132) -> Device:
    return Device((9, 0), processors, tf32=kind.name == "tf32", shared=227 * 1024)


def tiles_of(kind: Kind, copy: int | None = None) -> dict[str, Tile]:
    """All tiles by name; copies by one number, unless said."""
    of = device(kind) if kind.tensor or kind.dtype.itemsize > 2 else Device((7, 5), 40)
    return {tile.name: tile for tile in tiles_for(of, kind.dtype, copy or kind.dtype.itemsize)}


def small_tile(kind: Kind) -> Tile:
    return next(tile for tile in tiles_of(kind).values() if tile.rows == tile.columns == 32)


def cases() -> Iterator[tuple[Kind, Tile]]:
    """Every tile of every number type; other copies than by 16 bytes on the square ones.

    float16 differs from bfloat16 in one instruction: one tile of each size.
    """
    for kind in KINDS:
        if kind.name == "float16":
            yield from ((kind, tile) for tile in one_of_each_size(tiles_of(kind, 16).values()))
            continue
        for copy in (16, 4, 2):
            if copy < kind.dtype.itemsize or (not kind.tensor and copy != 16):
                continue
            for tile in tiles_of(kind, copy).values():
                if copy == 16 or (tile.rows == tile.columns and tile.stages == 4):
                    yield kind, tile


CASES = list(cases())
case = pytest.mark.parametrize(
    ("kind", "tile"), CASES, ids=[f"{kind.name}-{tile.name}-by-{tile.copy}" for kind, tile in CASES]
)


def dropout(rate: float) -> DropoutNumbers:
    counters = guarded(np.array([2**40 + 7, 5, 0, 0], np.int64))
    return DropoutNumbers(dropout_threshold(rate), 1 / (1 - rate), 1, counters)


def mask(rate: float, shape) -> np.ndarray:
    return dropout_mask(2**40 + 7, 5, 1, shape, rate) / (1 - rate)


def forward(kind, tile, B, I, O, activation="tanh", dropped=0.0, apart=True):  # noqa: E741
    """(launch, a, saved, expected a, expected saved)."""
    x, W = draw(B, I), draw(I, O, scale=I**-0.5)
    b = np.random.default_rng(O).standard_normal(O).astype(np.float32)
    a, saved = empty((B, O), kind.dtype), empty((B, O), kind.dtype)
    launch = products.linear_forward(
        device(kind), put(x, kind.dtype), put(W, kind.dtype), guarded(b, kind.sums), activation, a,
        saved if apart else None, dropout(dropped) if dropped else None, tile,
    )  # fmt: skip
    z = x @ W + b
    row = ACTIVATIONS[activation]
    g = row.forward(z)
    expected = g * mask(dropped, g.shape) if dropped else g
    return launch, a, saved, expected, z if row.saves == "z" else g


def delta(kind, tile, B, I, O, activation="tanh", dropped=0.0, processors=132):  # noqa: E741
    """(launch, room, out, db, expected out)."""
    given, W = draw(B, O), draw(I, O, scale=O**-0.5)
    row = ACTIVATIONS[activation]
    z = draw(B, I, scale=2.0)
    saved = z if row.saves == "z" else get(put(row.forward(z), BFLOAT16))
    out, db, room = empty((B, I), kind.dtype), empty(I, kind.sums), Room()
    on_device = [put(values, kind.dtype) for values in (given, W, saved)]
    launch = products.linear_delta(
        device(kind, processors), room, *on_device, activation,
        out, db, dropout(dropped) if dropped else None, tile,
    )  # fmt: skip
    gradient = given @ W.T
    if dropped:
        gradient = gradient * mask(dropped, gradient.shape)
    return launch, room, out, db, activation_backward(activation, gradient, saved)


def grads(kind, tile, B, I, O, share=128):  # noqa: E741
    """(launch, room, dW, expected dW)."""
    x, given = draw(B, I), draw(B, O)
    dW, room = empty((I, O), kind.sums), Room()
    launch = products.linear_grads(
        device(kind), room, put(x, kind.dtype), put(given, kind.dtype), dW, tile, share
    )
    return launch, room, dW, x.T @ given


def shapes_of(kind: Kind, tile: Tile) -> list[tuple[int, int, int]]:
    """Whose lines can be copied as the tile does."""
    if not kind.tensor or tile.copy == kind.dtype.itemsize:
        return ODD
    return EVEN if tile.copy == 16 else OF_TWO


def all_kernels() -> list[Any]:
    """What these tests run, so that it is compiled on all processors at once."""
    launches: list[Launch] = []
    for kind, tile in CASES:
        launches += [f(kind, tile, 8, 8, 8)[0] for f in (forward, delta, grads)]
    for kind in (KINDS[0], OF_TENSOR["bfloat16"]):
        tile = small_tile(kind)
        for name in ELEMENTWISE:
            launches += [f(kind, tile, 8, 8, 8, name)[0] for f in (forward, delta)]
        launches += [f(kind, tile, 8, 8, 8, "gelu", 0.3)[0] for f in (forward, delta)]
    return [launch.kernel for launch in launches]


ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build_all(all_kernels())


@case
def test_linear_forward(kind, tile):
    for shape in shapes_of(kind, tile):
        launch, a, saved, expected, kept = forward(kind, tile, *shape)
        run(launch)
        assert_close(a, expected, compute=kind.sums, terms=shape[1])
        assert_close(saved, kept, compute=kind.sums, terms=shape[1])


@case
def test_linear_delta(kind, tile):
    for shape in shapes_of(kind, tile):
        launch, room, out, db, expected = delta(kind, tile, *shape)
        run(launch)
        assert_close(out, expected, compute=kind.sums, terms=shape[2])
        assert_close(db, expected.sum(axis=0), compute=kind.sums, terms=shape[0] + shape[2])
        room.assert_left_as_found()


@case
def test_linear_grads(kind, tile):
    for shape in shapes_of(kind, tile):
        launch, room, dW, expected = grads(kind, tile, *shape)
        run(launch)
        assert_close(dW, expected, compute=kind.sums, terms=shape[0])
        room.assert_left_as_found()


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("kind", [KINDS[0], OF_TENSOR["bfloat16"]], ids=lambda kind: kind.name)
def test_every_activation(kind, name):
    tile, shape = small_tile(kind), (33, 31, 35)
    launch, a, saved, expected, kept = forward(kind, tile, *shape, name)
    run(launch)
    assert_close(a, expected, compute=kind.sums, terms=shape[1])
    assert_close(saved, kept, compute=kind.sums, terms=shape[1])
    launch, _, out, db, expected = delta(kind, tile, *shape, name)
    run(launch)
    assert_close(out, expected, compute=kind.sums, terms=shape[2])
    assert_close(db, expected.sum(axis=0), compute=kind.sums, terms=shape[0] + shape[2])


@pytest.mark.parametrize("kind", [KINDS[0], OF_TENSOR["bfloat16"]], ids=lambda kind: kind.name)
def test_dropout_is_that_of_the_reference(kind):
    tile, shape = small_tile(kind), (33, 31, 35)
    launch, a, saved, expected, kept = forward(kind, tile, *shape, "gelu", 0.3)
    run(launch)
    assert_close(a, expected, compute=kind.sums, terms=shape[1])
    assert_close(saved, kept, compute=kind.sums, terms=shape[1])
    launch, _, out, db, expected = delta(kind, tile, *shape, "gelu", 0.3)
    run(launch)
    assert_close(out, expected, compute=kind.sums, terms=shape[2])
    assert_close(db, expected.sum(axis=0), compute=kind.sums, terms=shape[0] + shape[2])


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.name)
def test_same_bits_in_every_order_of_threads_and_blocks(kind):
    tile = small_tile(kind)

    def make(room):
        # 300 rows are three shares of linear_grads and ten rows of tiles of linear_delta.
        of_forward, a, saved, *_ = forward(kind, tile, 70, 33, 35)
        of_delta, _, out, db, _ = delta(kind, tile, 300, 33, 35)
        of_grads, _, dW, _ = grads(kind, tile, 300, 33, 35)
        assert of_grads.grid[0] == 3 * 4
        return [of_forward, of_delta, of_grads], [a, saved, out, db, dW]

    assert_same_bits_in_every_order(make)


@pytest.mark.parametrize("kind", [KINDS[0], OF_TENSOR["bfloat16"]], ids=lambda kind: kind.name)
def test_sums_over_many_rows(kind):
    tile = small_tile(kind)
    launch, room, _, db, expected = delta(kind, tile, 1000, 33, 3)
    run(launch)
    assert_close(db, expected.sum(axis=0), compute=kind.sums, terms=1003)
    room.assert_left_as_found()
    for share, shares in ((1024, 1), (128, 8), (48, 21)):  # 21 are in two groups
        launch, room, dW, expected = grads(kind, tile, 1000, 33, 3, share)
        assert launch.grid[0] == 2 * shares
        for _ in range(2):  # a launch can be repeated
            run(launch)
            assert_close(dW, expected, compute=kind.sums, terms=1000)
            room.assert_left_as_found()


@pytest.mark.parametrize("kind", [KINDS[0], OF_TENSOR["bfloat16"]], ids=lambda kind: kind.name)
def test_blocks_take_turns(kind):
    """As many tiles as there are, and shares, by few blocks; rows of tiles are in two groups."""
    tile, shape = small_tile(kind), (300, 40, 70)
    of_forward, a, _, expected, _ = forward(kind, tile, *shape)
    of_delta, room, out, db, backward = delta(kind, tile, *shape)
    of_grads, _, dW, gradient = grads(kind, tile, *shape)
    for launch in (of_forward, of_delta, of_grads):
        assert launch.grid[0] > 7
        run(replace(launch, grid=(7, 1, 1)))
    assert_close(a, expected, compute=kind.sums, terms=shape[1])
    assert_close(out, backward, compute=kind.sums, terms=shape[2])
    assert_close(db, backward.sum(axis=0), compute=kind.sums, terms=shape[0] + shape[2])
    assert_close(dW, gradient, compute=kind.sums, terms=shape[0])
    room.assert_left_as_found()


@pytest.mark.parametrize("kind", [KINDS[0], OF_TENSOR["bfloat16"]], ids=lambda kind: kind.name)
def test_every_tile_is_done_once(kind):
    """What the order of tiles is for: all of a large result, and blocks beside each other near."""
    tile = small_tile(kind)
    for shape in ((32 * 9, 3, 32 * 3), (32 * 17, 3, 32)):
        launch, a, _, expected, _ = forward(kind, tile, *shape)
        run(launch)
        assert_close(a, expected, compute=kind.sums, terms=shape[1])


def test_nothing_apart_is_saved_where_nothing_is_needed():
    kind = KINDS[0]
    launch, a, saved, expected, _ = forward(kind, small_tile(kind), 33, 31, 35, apart=False)
    run(launch)
    assert_close(a, expected, compute=kind.sums, terms=31)
    assert np.isnan(saved).all()


def test_the_output_layer_of_a_16_bit_network_is_float32():
    kind = OF_TENSOR["bfloat16"]
    x, W, b = draw(33, 31), draw(31, 3), guarded(np.zeros(3, np.float32))
    a = empty((33, 3), np.float32)
    tile = small_tile(kind)
    run(products.linear_forward(
        device(kind), put(x, kind.dtype), put(W, kind.dtype), b, "identity", a, None, None, tile
    ))  # fmt: skip
    assert_close(a, x @ W, compute=kind.sums, terms=31)
