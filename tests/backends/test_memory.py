"""Memory operations and capture, of every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tolerances import assert_close


@pytest.mark.parametrize("shape", [(1,), (33,), (3, 31), (0, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_new_arrays(backend, shape, dtype):
    for array in (backend.empty(shape, dtype), backend.zeros(shape, dtype)):
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
    assert (backend.to_host(backend.zeros(shape, dtype)) == 0).all()


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_arrays_start_on_256_bytes(name):
    from mlp.backends import get_backend

    backend = get_backend(name)
    arrays = [backend.empty((size,), np.float32) for size in (1, 3, 33, 1000)]
    arrays += [backend.zeros((3, 3), np.float64), backend.from_host(np.ones(7), np.float32)]
    assert [array.ctypes.data % 256 for array in arrays] == [0] * len(arrays)


def test_from_host_and_back(backend, precision):
    host = np.arange(12.0).reshape(3, 4)[:, ::2]  # not contiguous
    array = backend.from_host(host, precision)
    assert array.dtype == precision
    assert array.flags.c_contiguous
    back = backend.to_host(array)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, host)
    back[:] = 0
    np.testing.assert_array_equal(backend.to_host(array), host)  # a copy, not a view


def test_copy(device, draw):
    values = draw.normal(3, 31)
    out = device.new(3, 31)
    device.backend.copy(device.put(values), out)
    np.testing.assert_array_equal(device.get(out), values)


@pytest.mark.parametrize(("source", "out"), [("float64", "float32"), ("float32", "float64")])
def test_copy_rounds_to_the_nearest(backend, draw, source, out):
    values = draw.rng.standard_normal((3, 31)).astype(source)
    result = backend.zeros((3, 31), out)
    backend.copy(backend.from_host(values, source), result)
    np.testing.assert_array_equal(backend.to_host(result), values.astype(out), strict=True)


def test_the_compute_dtype_is_the_dtype_itself_unless_a_precision_has_16_bits(device):
    assert device.backend.compute_dtype(device.dtype) == device.dtype


@pytest.mark.parametrize("source", ["float64", "float32", "float16", "int64", "int8", "bool"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (127, 33)])
def test_convert_rows(device, draw, source, shape):
    X = (20 * draw.normal(*shape) + 5).astype(source)
    mean, scale = draw.normal(shape[1]) * 5, draw.uniform(shape[1], low=0.5, high=3.0)
    rows = device.put(X, source)
    out = device.new(*shape)
    device.backend.convert_rows(rows, out)
    np.testing.assert_array_equal(device.get(out), device.get(device.put(X)))
    device.backend.convert_rows(
        rows, out, device.put(mean, np.float64), device.put(scale, np.float64)
    )
    expected = ((X.astype(np.float64) - mean) / scale).astype(device.dtype)
    assert_close(device.get(out), expected, device.dtype)
    np.testing.assert_array_equal(device.get(rows), X)  # only read


def test_convert_rows_subtracts_before_it_rounds(backend):
    X = np.array([[1e8 + 1.5, 3.0]])
    out = backend.zeros((1, 2), np.float32)
    numbers = (np.array([1e8, 1.0]), np.array([1.0, 4.0]))
    backend.convert_rows(
        backend.from_host(X, np.float64), out, *(backend.from_host(n, np.float64) for n in numbers)
    )
    np.testing.assert_array_equal(backend.to_host(out), [[1.5, 0.5]])


@pytest.mark.parametrize("shape", [(1,), (33, 31), (100_003,)])
def test_is_finite(device, draw, shape):
    values = draw.normal(*shape)
    assert device.backend.is_finite(device.put(values)) is True
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, values.size // 2, values.size - 1):
            spoilt = values.copy()
            spoilt.flat[place] = bad
            assert device.backend.is_finite(device.put(spoilt)) is False


def test_is_finite_of_numbers_whose_sum_is_not(device):
    assert device.backend.is_finite(device.put(np.full(9, np.finfo(device.dtype).max)))
    assert not device.backend.is_finite(device.put([np.inf, -np.inf]))


@pytest.mark.parametrize("value", [np.zeros(3), [1.0], 3, None])
def test_what_lives_on_the_host_is_no_device_array(backend, value):
    assert backend.device_array(value) is None


@pytest.mark.parametrize("width", [None, 1, 3, 33, 127])
def test_gather_rows(device, draw, width):
    shape = (50,) if width is None else (50, width)
    X = draw.normal(*shape)
    for rows in (1, 32, 127):
        index = draw.labels(rows, 50)
        index[0], index[-1] = 49, 0
        out = device.new(rows, *shape[1:])
        device.backend.gather_rows(device.put(X), device.put(index, np.int64), out)
        np.testing.assert_array_equal(device.get(out), X[index])


def test_gather_labels(backend):
    labels = backend.from_host(np.array([5, 2**40, -1]), np.int64)
    out = backend.zeros((2,), np.int64)
    backend.gather_rows(labels, backend.from_host(np.array([1, 0]), np.int64), out)
    np.testing.assert_array_equal(backend.to_host(out), [2**40, 5])


class Recorder:
    largest_product = 1

    def __init__(self):
        self.ran = []

    def run(self, start, stop):
        self.ran += range(start, stop)


def test_the_reference_captures_steps_as_they_are():
    """What other backends make of them is in test_capture.py."""
    from mlp.backends import get_backend

    steps = Recorder()
    with get_backend("numpy").capture(steps) as captured:
        captured(0, 3)
        captured(3, 4)
    assert steps.ran == [0, 1, 2, 3]
