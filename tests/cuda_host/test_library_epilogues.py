"""What follows a library's product, and lists of work with such products, against float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS, activation_backward
from mlp.random import dropout_mask, dropout_threshold
from mlp_kernels.cuda import library
from mlp_kernels.cuda.epilogues import delta_epilogue, forward_epilogue
from mlp_kernels.cuda.launch import LibraryProduct
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device
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

pytestmark = pytest.mark.usefixtures("everywhere")

SEED, STEP = 2**40 + 7, 5


@dataclass(frozen=True)
class Kind:
    """Number types of a product and of what is made of it."""

    product: np.dtype
    result: np.dtype


KINDS = {
    "float64": Kind(FLOAT64, FLOAT64),
    "float32": Kind(FLOAT32, FLOAT32),
    "bfloat16": Kind(FLOAT32, BFLOAT16),
    "float16": Kind(FLOAT32, FLOAT16),
    "bfloat16 rounded": Kind(BFLOAT16, BFLOAT16),
}
SOME = KINDS["bfloat16"]
# Lines of whole packs and not, more rows than a block takes at a time, and more blocks across.
SHAPES = [(1, 1), (3, 31), (33, 32), (127, 3), (65, 136), (10, 1030), (700, 8)]


def dropout(rate: float) -> DropoutNumbers | None:
    counters = guarded(np.array([SEED, STEP, 0, 0], np.int64))
    return DropoutNumbers(dropout_threshold(rate), 1 / (1 - rate), 1, counters) if rate else None


def dropped(values: np.ndarray, rate: float) -> np.ndarray:
    if not rate:
        return values
    return values * dropout_mask(SEED, STEP, 1, values.shape, rate) / (1 - rate)


def forward(kind, shape, activation="tanh", rate=0.0, apart=True, inside=False):
    """(launch, a, saved, expected a, expected saved); `inside`: a is z."""
    z, b = draw(*shape), draw(shape[1], seed=1)
    product = put(z, kind.product)
    a = product if inside else empty(shape, kind.result)
    saved = empty(shape, kind.result)
    launch = forward_epilogue(
        product, put(b, computed_in(kind.product)), activation, a, saved if apart else None,
        dropout(rate),
    )  # fmt: skip
    row = ACTIVATIONS[activation]
    g = row.forward(z + b)
    return launch, a, saved, dropped(g, rate), z + b if row.saves == "z" else g


def delta(kind, shape, activation="tanh", rate=0.0, inside=False):
    """(launch, room, out, db, expected out)."""
    row = ACTIVATIONS[activation]
    z, before = draw(*shape), draw(*shape, scale=2.0, seed=2)
    kept = before if row.saves == "z" else get(put(row.forward(before), BFLOAT16))
    product, room = put(z, kind.product), Room()
    out = product if inside else empty(shape, kind.result)
    db = empty(shape[1], computed_in(kind.product))
    launch = delta_epilogue(
        room, product, put(kept, kind.result), activation, out, db, dropout(rate)
    )
    return launch, room, out, db, activation_backward(activation, dropped(z, rate), kept)


ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """On all processors at once."""
    launches = [f(kind, (8, 8))[0] for kind in KINDS.values() for f in (forward, delta)]
    launches += [f(SOME, (8, 8), name)[0] for name in ELEMENTWISE for f in (forward, delta)]
    launches += [f(KINDS["float64"], (8, 8), "gelu", 0.3)[0] for f in (forward, delta)]
    launches += [f(SOME, (8, 8), "gelu", 0.3)[0] for f in (forward, delta)]
    launches.append(forward(SOME, (8, 8), apart=False)[0])
    build_all(launch.kernel for launch in launches)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_forward(kind):
    for shape in SHAPES:
        launch, a, saved, expected, kept = forward(kind, shape)
        run(launch)
        assert_close(a, expected)
        assert_close(saved, kept)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_delta(kind):
    for shape in SHAPES:
        launch, room, out, db, expected = delta(kind, shape)
        run(launch)
        assert_close(out, expected)
        assert_close(db, expected.sum(axis=0), terms=shape[0])
        room.assert_left_as_found()


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("kind", [SOME, KINDS["float64"]], ids=["bfloat16", "float64"])
def test_activations_and_dropout(kind, rate):
    names = ("gelu",) if rate or kind is not SOME else ELEMENTWISE
    for name in names:
        for shape in ((33, 31), (65, 136)):  # elements one by one, and four of a random call
            launch, a, saved, expected, kept = forward(kind, shape, name, rate)
            run(launch)
            assert_close(a, expected)
            assert_close(saved, kept)
            launch, _, out, db, expected = delta(kind, shape, name, rate)
            run(launch)
            assert_close(out, expected)
            assert_close(db, expected.sum(axis=0), terms=shape[0])


@pytest.mark.parametrize("kind", [KINDS["float32"], KINDS["float64"]], ids=["float32", "float64"])
def test_results_may_take_the_place_of_the_product(kind):
    launch, a, saved, expected, kept = forward(kind, (65, 33), inside=True)
    run(launch)
    assert_close(a, expected)
    assert_close(saved, kept)
    launch, _, out, db, expected = delta(kind, (65, 33), inside=True)
    run(launch)
    assert_close(out, expected)
    assert_close(db, expected.sum(axis=0), terms=65)


def test_nothing_apart_is_saved_where_nothing_is_needed():
    launch, a, saved, expected, _ = forward(SOME, (33, 31), apart=False)
    run(launch)
    assert_close(a, expected)
    assert np.isnan(get(saved)).all()


def test_same_bits_in_every_order_of_threads_and_blocks():
    def make(room):
        of_forward, a, saved, *_ = forward(SOME, (70, 33))
        of_delta, own_room, out, db, _ = delta(SOME, (700, 33))
        assert of_delta.grid[1] > 2
        room.counters += own_room.counters
        return [of_forward, of_delta], [a, saved, out, db]

    assert_same_bits_in_every_order(make)


def test_arrays_that_begin_anywhere():
    shape = (33, 32)
    z, b = draw(*shape), draw(32, seed=1)
    product = empty(33 * 32 + 1, np.float32)[1:].reshape(shape)
    product[...] = z
    a = empty(shape, np.uint16)
    run(forward_epilogue(product, put(b, np.float32), "tanh", a, None))
    assert_close(a, np.tanh(z + b))


# --- the lists of work ----------------------------------------------------------------------------


def multiply(product: LibraryProduct) -> None:
    """What the library does."""
    left, right = (
        get(each).T if turned else get(each)
        for each, turned in zip((product.left, product.right), product.transposed, strict=True)
    )
    product.out[...] = put(left @ right, product.out.dtype)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32, BFLOAT16], ids=str)
def test_lists_of_work(dtype, rounded):
    B, I, O = 300, 33, 40  # noqa: E741
    device, room, sums = Device((9, 0), 132), Room(), computed_in(dtype)
    x, W, b = draw(B, I), draw(I, O, scale=I**-0.5), draw(O)
    x_there, W_there = put(x, dtype), put(W, dtype)
    a, saved = empty((B, O), dtype), empty((B, O), dtype)
    product, epilogue = library.linear_forward(
        device, room, x_there, W_there, put(b, sums), "tanh", a, saved, rounded=rounded
    )
    assert product.sizes == (B, O, I)
    assert product.out.dtype == (dtype if rounded else sums)
    assert (product.out is a) == (rounded or dtype == sums)
    multiply(product)
    run(epilogue)
    twice = {"scale": 3.0} if rounded and dtype == BFLOAT16 else {}
    if not twice:
        assert_close(a, np.tanh(x @ W + b), terms=I)
        assert_close(saved, np.tanh(x @ W + b), terms=I)
    else:  # two roundings to 8 bits, of numbers below 4 and then below 1
        assert np.abs(get(a) - np.tanh(x @ W + b)).max() < 2**-6

    given, kept = draw(B, O), get(put(np.tanh(draw(B, I)), BFLOAT16))
    out, db = empty((B, I), dtype), empty(I, sums)
    product, epilogue = library.linear_delta(
        device, room, put(given, dtype), W_there, put(kept, dtype), "tanh", out, db, rounded=rounded
    )
    assert product.sizes == (B, I, O)
    multiply(product)
    run(epilogue)
    expected = given @ W.T * (1 - kept**2)
    if not twice:
        assert_close(out, expected, terms=O)
        assert_close(db, expected.sum(axis=0), terms=B + O)
    room.assert_left_as_found()

    dW = empty((I, O), sums)
    (product,) = library.linear_grads(device, room, x_there, put(given, dtype), dW)
    assert product.sizes == (I, O, B)
    multiply(product)
    assert_close(dW, x.T @ given, terms=B)


def test_shapes_that_do_not_fit():
    x, W = (empty(shape, np.float32) for shape in ((3, 4), (5, 6)))
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(5, 6\) cannot be multiplied into"):
        LibraryProduct(x, W, empty((3, 6), np.float32))
    with pytest.raises(TypeError, match="W must be of float32"):
        library.linear_forward(
            Device((9, 0), 132), Room(), x, empty((4, 6), np.float64), None, "tanh", x, None
        )
