"""Kernels that gather, copy, convert and add up rows, on the host, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS, activation_backward
from mlp_kernels.cuda import activations, columns, control, convert, gather
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NAMES,
    NUMBERS,
    Room,
    assert_close,
    assert_same_bits_in_every_order,
    computed_in,
    draw,
    get,
    in_blocks,
    put,
    run_all,
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import DEVICE, empty, guarded
from tests.cuda_host.run import run

pytestmark = pytest.mark.usefixtures("everywhere")

each_number = pytest.mark.parametrize("dtype", NUMBERS, ids=NAMES.get)
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
# (rows, width): rows of 1, 3, 31, 32, 33, 127 numbers, some of which take 16-byte accesses.
SHAPES = [(1, 1), (3, 127), (33, 3), (127, 31), (32, 32), (5, 33), (700, 8), (2, 300)]

# (gradient, saved, out): one type, and a 16-bit network's output layer.
DELTA_TYPES = [
    (FLOAT64, FLOAT64, FLOAT64),
    (FLOAT32, FLOAT32, FLOAT32),
    (BFLOAT16, FLOAT32, BFLOAT16),
    (FLOAT16, FLOAT16, FLOAT16),
]
DATA = (np.bool_, np.int8, np.uint8, np.int16, np.int32, np.int64, *NUMBERS)
CONVERSIONS = [
    (FLOAT32, BFLOAT16), (FLOAT32, FLOAT16), (BFLOAT16, FLOAT32), (FLOAT16, FLOAT32),
    (FLOAT64, FLOAT32), (FLOAT32, FLOAT32), (np.int64, FLOAT32), (np.uint8, FLOAT64),
]  # fmt: skip


def activation_case(name, types, shape=(3, 5)):
    """(launch, out, expected)."""
    gradient, saved, out = types
    z = draw(*shape, scale=2.0)
    row = ACTIVATIONS[name]
    kept = get(put(z if row.saves == "z" else row.forward(z), BFLOAT16))
    g, result = draw(*shape, seed=1), empty(shape, out)
    launch = activations.activation_delta(put(g, gradient), put(kept, saved), name, result)
    return launch, result, activation_backward(name, g, kept)


def data(dtype, *shape):
    """Numbers of a type of data, in float64, and in a guarded array."""
    dtype = np.dtype(dtype)
    if dtype in NUMBERS:
        values = draw(*shape, scale=30.0)
        return values, put(values, dtype)
    low, high = (0, 2) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.random.default_rng(3).integers(low, high, shape, np.int64).astype(dtype)
    return values.astype(np.float64), guarded(values)


def all_kernels():
    room, two = Room(), (2, 2)
    launches = [activation_case(name, DELTA_TYPES[1])[0] for name in ELEMENTWISE]
    launches += [activation_case("gelu", types)[0] for types in DELTA_TYPES]
    for dtype in NUMBERS:
        array = empty(two, dtype)
        launches.append(columns.column_sums(array, empty(2, computed_in(dtype)), room))
        launches.append(convert.count_not_finite(array, empty(1, np.int64), room))
    for i, dtype in enumerate(DATA):
        launches.append(convert.standardise(empty(two, dtype), empty(two, NUMBERS[i % 4])))
    launches += [convert.convert(empty(two, a), empty(two, b)) for a, b in CONVERSIONS]
    return [launch.kernel for launch in launches]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build_all(all_kernels())


# --- control ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 1), (10, 3), (700, 300), (2000, 1999)])
def test_begin_step(rows, batch_size):
    order = np.random.default_rng(rows).permutation(rows)
    batches = -(-rows // batch_size)
    rates = np.arange(batches) + 0.25
    counters, scalars = guarded([9, 41, -1, 2], np.int64), guarded([7.0, 0.5, 1.0])
    room, index = Room(), empty(batch_size, np.int64)
    on_device = guarded(rates), scalars, guarded(order)
    for batch in range(batches):
        part = order[batch * batch_size :][:batch_size]
        run(control.begin_step(counters, *on_device, index[: len(part)], batch_size, room))
        np.testing.assert_array_equal(counters, [9, 42 + batch, batch, 2])
        np.testing.assert_array_equal(scalars, [rates[batch], 1.0, 0.0])
        np.testing.assert_array_equal(index[: len(part)], part)
    room.assert_left_as_found()


def test_begin_step_in_every_order_of_blocks():
    def make(room):
        counters, scalars = guarded([9, 41, 0, 2], np.int64), empty(3, np.float64)
        index = empty(1000, np.int64)
        launch = control.begin_step(
            counters, guarded([0.1, 0.2]), scalars, guarded(np.arange(2000)), index, 1000, room
        )
        assert launch.grid[0] > 2
        return [launch], [counters, scalars, index]

    assert_same_bits_in_every_order(make)


def test_begin_epoch():
    counters, totals = guarded([9, 41, 5, 2], np.int64), guarded([3.0, 4.0])
    run(control.begin_epoch(counters, totals))
    np.testing.assert_array_equal(counters, [9, 41, -1, 2])
    np.testing.assert_array_equal(totals, [0, 0])


@pytest.mark.parametrize(("size", "rows"), [(1, 1), (33, 7), (3000, 1000)])
def test_fill_in_turn(size, rows):
    order = empty(size, np.int64)
    run(control.fill_in_turn(order, rows))
    np.testing.assert_array_equal(order, np.arange(size) % rows)


# --- gathering and converting -------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [16, DEVICE])
@pytest.mark.parametrize(
    "types", [(FLOAT64, FLOAT64), (FLOAT32, FLOAT32), (BFLOAT16, BFLOAT16), (FLOAT32, BFLOAT16),
              (FLOAT64, FLOAT16)], ids=lambda types: "-".join(map(NAMES.get, types)),
)  # fmt: skip
def test_gather_rows(types, alignment):
    for rows, width in SHAPES:
        values = draw(7, width)
        index = np.random.default_rng(rows).integers(0, 7, rows)
        source = guarded(put(values, types[0]), alignment=alignment)
        out = empty((rows, width), types[1], alignment)
        run(gather.gather_rows(source, guarded(index), out))
        np.testing.assert_array_equal(get(out), values[index])


def test_gather_rows_that_begin_at_an_odd_place():
    values, index = draw(9, 8), np.array([3, 0, 7])
    flat = put(np.append(0.0, values.ravel()), FLOAT32)
    out = empty((3, 8), FLOAT32)
    run(gather.gather_rows(flat[1:].reshape(9, 8), guarded(index), out))
    np.testing.assert_array_equal(get(out), values[index])


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_gather_batch(labels, weighted):
    X, weight = draw(50, 33), draw(50)
    y = np.arange(50) * 2**33 if labels else draw(50, 3)
    index = np.random.default_rng(0).integers(0, 50, 40)
    x, w = empty((40, 33), BFLOAT16), empty(40, FLOAT32)
    target = empty((40, *y.shape[1:]), np.int64 if labels else FLOAT32)
    pairs = [(put(X, FLOAT32), x), (guarded(y) if labels else put(y, FLOAT32), target)]
    if weighted:
        pairs.append((put(weight, FLOAT32), w))
    run(gather.gather_batch(guarded(index), *pairs))
    np.testing.assert_array_equal(get(x), X[index])
    np.testing.assert_array_equal(target, y[index])
    if weighted:
        np.testing.assert_array_equal(w, weight[index])


@pytest.mark.parametrize(("source", "to"), CONVERSIONS)
def test_convert(source, to):
    for size in (1, 3, 31, 32, 33, 127, 5000):
        values, array = data(source, size)
        if source == FLOAT32:  # numbers that 16 bits do not hold, ties, and what is no number
            values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
            values[: size // 3] = np.float32(1) + np.float32(2.0**-8) * np.arange(size // 3)
            values[-1] = np.nan
            array = guarded(values)
        out = empty(size, to)
        run(convert.convert(array, out))
        np.testing.assert_array_equal(get(out), get(put(values, to)))


@pytest.mark.parametrize("i", range(len(DATA)), ids=[np.dtype(t).name for t in DATA])
def test_standardise(i):
    to = NUMBERS[i % 4]
    for rows, width in SHAPES:
        values, X = data(DATA[i], rows, width)
        mean, scale = draw(width), np.abs(draw(width, seed=1)) + max(1.0, np.abs(values).max() / 99)
        out = empty((rows, width), to)
        run(convert.standardise(X, out, guarded(mean), guarded(scale)))
        assert_close(out, (values - mean) / scale)
    small, array = data(np.int8, 3, 5)
    run(convert.standardise(array, out := empty((3, 5), FLOAT32)))
    np.testing.assert_array_equal(out, small)


@each_number
def test_count_not_finite(dtype):
    for size in (1, 3, 33, 5000):
        values, count, room = draw(size), empty(1, np.int64), Room()
        run(convert.count_not_finite(put(values, dtype), count, room))
        assert count[0] == 0
        places = sorted({0, size // 2, size - 1})
        values[places] = [np.nan, np.inf, -np.inf][: len(places)]
        array = put(values, dtype)

        def make(room, array=array):
            count = empty(1, np.int64)
            return [convert.count_not_finite(array, count, room)], [count]

        assert_same_bits_in_every_order(make)
        launches, (count,) = make(room)
        run_all(launches)
        assert count[0] == len(places)


def test_few_blocks_take_turns():
    values, index = draw(99, 33), np.random.default_rng(0).integers(0, 99, 200)
    X, order = put(values, FLOAT32), empty(1000, np.int64)
    out, same = empty((200, 33), FLOAT32), empty((99, 33), FLOAT32)
    run(in_blocks(gather.gather_rows(X, guarded(index), out), 2))
    np.testing.assert_array_equal(out, values[index])
    run(in_blocks(convert.standardise(X, same), 2))
    np.testing.assert_array_equal(same, values)
    run(in_blocks(convert.convert(X, same := empty((99, 33), FLOAT32)), 2))
    np.testing.assert_array_equal(same, values)
    run(in_blocks(control.fill_in_turn(order, 7), 2))
    np.testing.assert_array_equal(order, np.arange(1000) % 7)
    room, count = Room(), empty(1, np.int64)
    X[[0, 50, 98], [0, 7, 32]] = np.nan
    run(in_blocks(convert.count_not_finite(X, count, room), 2))
    assert count[0] == 3


# --- the backward pass --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_delta(name):
    for shape in [(1, 1), (33, 127), (2, 2100)]:
        launch, out, expected = activation_case(name, DELTA_TYPES[1], shape)
        run(launch)
        assert_close(out, expected)


@pytest.mark.parametrize("types", DELTA_TYPES, ids=lambda types: NAMES[types[0]])
def test_activation_delta_of_every_type(types):
    for shape in [(1, 1), (31, 3), (33, 127)]:
        launch, out, expected = activation_case("gelu", types, shape)
        run(launch)
        assert_close(out, expected)


def test_activation_delta_in_place_and_of_nan():
    gradient, saved = draw(5, 7), np.abs(draw(5, 7, seed=1))
    gradient[2, 3] = np.nan
    array = put(gradient, FLOAT32)
    run(activations.activation_delta(array, put(saved, FLOAT32), "relu", array))
    np.testing.assert_array_equal(get(array), gradient * (saved > 0))


@each_number
def test_column_sums(dtype):
    for rows, width in [*SHAPES, (3000, 1), (1000, 10), (600, 67)]:
        delta, room = draw(rows, width), Room()
        sums = empty(width, computed_in(dtype))
        run(columns.column_sums(put(delta, dtype), sums, room))
        room.assert_left_as_found()
        assert_close(sums, delta.sum(axis=0), terms=rows, scale=np.abs(delta).max())


def test_column_sums_in_every_order():
    delta = guarded(np.random.default_rng(0).standard_normal((1000, 67)).astype(np.float32))

    def make(room):
        sums = empty(67, FLOAT32)
        launch = columns.column_sums(delta, sums, room)
        assert min(launch.grid[:2]) > 2
        return [launch, launch], [sums]  # a launch can be repeated

    assert_same_bits_in_every_order(make)


def test_what_does_not_fit_is_refused():
    x, index = empty((3, 4), FLOAT32), guarded([0, 1])
    with pytest.raises(ValueError, match="out must be of shape"):
        gather.gather_rows(x, index, empty((2, 5), FLOAT32))
    with pytest.raises(TypeError, match="index must be of int64"):
        gather.gather_rows(x, index.astype(np.int32), empty((2, 4), FLOAT32))
    with pytest.raises(TypeError, match="not int64"):
        gather.gather_rows(x, index, empty((2, 4), np.int64))
    with pytest.raises(ValueError, match="softmax"):
        activations.activation_delta(x, x, "softmax", x)
    with pytest.raises(TypeError, match="sums must be of float32"):
        columns.column_sums(x, empty(4, FLOAT64), Room())
