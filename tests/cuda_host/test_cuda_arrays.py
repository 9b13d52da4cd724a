"""Arrays that a user has on the GPU: read where they are, converted there, or refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import mlp
from mlp.errors import InvalidInput
from mlp.losses import get_loss
from tests.backends.conftest import in_bfloat16
from tests.cuda_host.runs import counted, machine
from tests.problems import parameters, rows, target

LAYERS = [mlp.Dense(5, "tanh"), mlp.Dense(3, "softmax")]
ROWS = 24


def network(precision="float32", layers=LAYERS):
    return mlp.Network(4, layers, device="cuda", precision=precision, seed=0)


@pytest.fixture
def net(cupy):
    return network()


def host(net, array):
    """A copy, once all that the network has asked for is done."""
    return net.backend.to_host(array)


@pytest.fixture
def put(cupy):
    """A function that makes an array of the device."""

    def make(values):
        values = np.ascontiguousarray(values)
        array = cupy.empty(values.shape, values.dtype)
        array.set(values)
        return array

    return make


class Interface:
    """What Numba's arrays offer."""

    def __init__(self, array):
        self.__cuda_array_interface__ = array.__cuda_array_interface__
        self._held = array


class DLPack:
    """What PyTorch's and JAX's arrays offer; some fail when asked for the other attribute."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("not to be asked for")

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **settings):
        return self.array


@pytest.fixture(
    params=[lambda array: array, Interface, DLPack], ids=["cupy", "interface", "dlpack"]
)
def wrap(request):
    """A way in which an array comes."""
    return request.param


# --- where they are -------------------------------------------------------------------------------


def test_rows_are_read_where_they_are(net, put, wrap):
    X = rows(ROWS, 4).astype(np.float32)
    array = put(X)
    found = net.rows_to_device(wrap(array), borrow=True)
    assert found.data.ptr == array.data.ptr
    own = net.rows_to_device(wrap(array))  # which may be written
    assert own.data.ptr != array.data.ptr
    np.testing.assert_array_equal(host(net, own), X)
    np.testing.assert_array_equal(net.forward(wrap(array)), net.forward(X))


def test_targets_and_weights_are_read_where_they_are(net, put, wrap):
    labels, values = put(target("labels", ROWS, 3)), put(np.float32(target("values", ROWS, 3)))
    weight = put(np.arange(ROWS, dtype=np.float32))
    found = [
        (net.target_to_device(wrap(labels), ROWS, get_loss("cross_entropy")), labels),
        (net.target_to_device(wrap(values), ROWS, get_loss("mse")), values),
        (net.weight_to_device(wrap(weight), ROWS), weight),
    ]
    for array, given in found:
        assert array.data.ptr == given.data.ptr


def test_no_row_goes_to_the_host(net, put):
    array = put(rows(ROWS, 4).astype(np.float32))
    with counted() as counts:
        net.rows_to_device(array, borrow=True)
    assert counts["downloads"] == 1  # of a flag: whether all numbers are finite
    assert counts["uploads"] == 0


# --- of other types -------------------------------------------------------------------------------

TYPES = ["float64", "float16", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
TYPES += ["int64", "uint64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("standardised", [False, True], ids=["as_they_are", "standardised"])
def test_rows_of_any_type_are_converted_on_the_device(net, put, dtype, standardised):
    """Among them uint16, of which the kernels would make the bits of bfloat16."""
    X = (40 * rows(ROWS, 4) ** 2).astype(dtype)
    if standardised:
        net.preprocessing = mlp.Standardizer.fit(X)
    array = put(X)
    with counted() as counts:
        found = net.rows_to_device(array, borrow=True)
    assert counts["downloads"] == 1
    np.testing.assert_array_equal(host(net, found), host(net, net.rows_to_device(X)), strict=True)
    np.testing.assert_array_equal(array.get(), X)


@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "bool"])
def test_targets_and_weights_of_any_type(net, put, dtype):
    labels, weight = (n.astype(dtype) for n in (target("labels", ROWS, 3), np.arange(ROWS) % 9))
    found = net.target_to_device(put(labels), ROWS, get_loss("cross_entropy"))
    np.testing.assert_array_equal(host(net, found), labels.astype(np.int64), strict=True)
    values = np.repeat(labels[:, None], 3, axis=1)
    found = net.target_to_device(put(values), ROWS, get_loss("mse"))
    np.testing.assert_array_equal(host(net, found), values.astype(np.float32), strict=True)
    found = net.weight_to_device(put(weight), ROWS)
    np.testing.assert_array_equal(host(net, found), weight.astype(np.float32), strict=True)


def test_large_whole_numbers_of_16_bits(net, put):
    X = np.uint16([[0, 1, 2**15, 2**16 - 1]])
    np.testing.assert_array_equal(host(net, net.rows_to_device(put(X))), X.astype(np.float32))


def test_rows_of_bfloat16(net, put):
    """Of ml_dtypes: NumPy, and so the stand-in, has no such dtype but by that package."""

    def in_16_bits(values):
        array = put((values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))
        array.dtype = SimpleNamespace(name="bfloat16")
        return array

    X = in_bfloat16(rows(ROWS, 4))
    np.testing.assert_array_equal(host(net, net.rows_to_device(in_16_bits(X))), X)
    found = net.target_to_device(in_16_bits(X[:, :3]), ROWS, get_loss("mse"))
    np.testing.assert_array_equal(host(net, found), X[:, :3])


def test_one_row_and_rows_with_gaps(net, put):
    X = rows(ROWS, 9).astype(np.float32)
    array = put(X)
    np.testing.assert_array_equal(host(net, net.rows_to_device(array[3, 2:6])), X[3:4, 2:6])
    np.testing.assert_array_equal(host(net, net.rows_to_device(array[:, 2:6])), X[:, 2:6])
    np.testing.assert_array_equal(net.forward(array[:, 2:6]), net.forward(X[:, 2:6]))
    assert net.forward(array[3, 2:6]).shape == (1, 3)


# --- that cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.float32([[0, np.nan, 0, 0]]), r"X has numbers that are not finite in float32 \(NaN"),
        (np.full((2, 4), np.inf), "X has numbers that are not finite in float32"),
        (np.full((2, 4), 1e300), "X has numbers that are not finite in float32"),
        (np.zeros((2, 3)), "X has 3 features per row, but the network takes 4"),
        (np.zeros((0, 4)), r"X is empty: its shape is \(0, 4\)"),
        (np.zeros((2, 2, 4)), "X must have 2 dimensions"),
        (np.zeros((2, 4), complex), "X must hold real numbers, not complex128"),
        (np.zeros((2, 4), np.complex64), "X must hold real numbers, not complex64"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(net, put, wrap, X, message):
    before = parameters(net)
    y = target("labels", len(X), 3) if len(X) else []
    with pytest.raises(InvalidInput, match=message):
        net.forward(wrap(put(X)))
    with pytest.raises(InvalidInput, match=message):
        net.gradients(wrap(put(X)), y, "cross_entropy")
    with pytest.raises(InvalidInput, match=message):
        mlp.Trainer(net, "cross_entropy").fit(wrap(put(X)), y, 1)
    for a, b in zip(parameters(net), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_targets_and_weights_that_cannot_be_used(net, put, wrap):
    cross_entropy, mse = get_loss("cross_entropy"), get_loss("mse")
    for y, loss, message in [
        (np.array([0, 3]), cross_entropy, "3 outputs take the labels 0 to 2"),
        (np.array([0]), cross_entropy, "y has 1 rows, but X has 2"),
        (np.full((2, 3), np.nan), mse, "y holds nan at row 0, column 0"),
        (np.full((2, 3), 1e300), mse, "y has numbers that are not finite in float32"),
        (np.full((2, 3), 1j), mse, "y must hold real numbers, not complex128"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            net.target_to_device(wrap(put(y)), 2, loss)
    with pytest.raises(InvalidInput, match=r"sample_weight holds -1\.0 at row 1"):
        net.weight_to_device(wrap(put(np.array([1.0, -1.0]))), 2)


def test_the_validation_set_is_named(net, put):
    X, y = rows(ROWS, 4).astype(np.float32), target("labels", ROWS, 3)
    broken = X.copy()
    broken[5, 2] = np.nan
    trainer = mlp.Trainer(net, "cross_entropy")
    with pytest.raises(InvalidInput, match="validation X has numbers that are not finite"):
        trainer.fit(put(X), put(y), 1, validation=(put(broken), put(y)))


def test_an_array_of_another_device():
    with machine(count=2) as cupy:
        net = network()
        with cupy.cuda.Device(1):
            array = cupy.empty((3, 4), np.float32)
            array.data.memset_async(0, array.nbytes)
        sentence = "an array on CUDA device 1 cannot be used on device 0; copy it there, or use its"
        for value in (array, DLPack(array)):
            with pytest.raises(InvalidInput, match=sentence):
                net.forward(value)
        there = mlp.Network(4, LAYERS, device="cuda:1", seed=0)
        assert there.device == "cuda:1"
        np.testing.assert_array_equal(there.forward(array), net.forward(np.zeros((3, 4))))


def test_an_array_that_its_library_does_not_hand_over(net, put):
    class Kept(DLPack):
        def __dlpack__(self, **settings):
            raise BufferError("it requires a gradient; detach it first")

    with pytest.raises(InvalidInput, match=r"GPU \(Kept\) cannot be read: it requires a gradient"):
        net.forward(Kept(put(rows(2, 4))))


# --- trainings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_that_on_the_same_numbers_of_the_host(put, wrap, precision):
    X, y, w = rows(ROWS, 4).astype(np.float32), target("labels", ROWS, 3), np.linspace(0.5, 2, ROWS)
    found = []
    for form in (lambda array: wrap(put(array)), np.asarray):
        net = network(precision)
        trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(0.02), 7)
        data = [form(array) for array in (X, y, w)]
        history = trainer.fit(data[0], data[1], 3, tuple(data), data[2])
        assert not trainer.streams
        scores = history["loss"], history["validation_loss"], history["validation_score"]
        gradients = net.gradients(*data[:2], "cross_entropy", data[2])
        found.append([*scores, *parameters(net), net.predict(data[0]), *gradients.weights])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_that_are_still_being_written(put):
    """Another stream's work is waited for before the first step."""
    X, y = rows(ROWS, 4).astype(np.float32), target("labels", ROWS, 3)
    import cupy

    other = cupy.cuda.Stream(non_blocking=True)
    late = put(np.zeros_like(X))
    with other:
        late.data.copy_from_device_async(put(X).data, X.nbytes, other)
    found = network().forward(late)
    np.testing.assert_array_equal(found, network().forward(X))
    assert network().gradients(late, y, "cross_entropy").loss > 0
