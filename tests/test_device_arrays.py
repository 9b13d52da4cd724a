"""Arrays that live on a GPU: used where they are, or refused in one sentence."""

import numpy as np
import pytest

import mlp
from mlp.backends.numpy import NumpyBackend
from mlp.errors import InvalidInput
from mlp.losses import get_loss
from tests.problems import rows, target

LAYERS = [mlp.Dense(5, "tanh"), mlp.Dense(3, "softmax")]
SENTENCE = "lives on a GPU; use device='cuda' or copy it to the host"


class OnGPU:
    """What CuPy's arrays say of themselves."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (4, 4), "typestr": "<f4", "data": (0, False), "version": 3}

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("copied to the host in silence")


class OfDLPack:
    def __init__(self, kind):
        self.kind = kind

    def __dlpack_device__(self):
        return self.kind, 0

    def __array__(self, dtype=None, copy=None):
        return np.zeros((1, 4))


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("value", [OnGPU(), OfDLPack(2), OfDLPack(13)], ids=["cuda", "2", "13"])
def test_the_processor_refuses_them(device, value):
    net = mlp.Network(4, LAYERS, device=device)
    with pytest.raises(InvalidInput, match=f"^X {SENTENCE}$"):
        net.forward(value)
    X, y = rows(6, 4), target("labels", 6, 3)
    trainer = mlp.Trainer(net, "cross_entropy")
    with pytest.raises(InvalidInput, match=f"^y {SENTENCE}$"):
        trainer.fit(X, value, 1)
    with pytest.raises(InvalidInput, match=f"^sample_weight {SENTENCE}$"):
        trainer.fit(X, y, 1, sample_weight=value)
    with pytest.raises(InvalidInput, match=f"^validation X {SENTENCE}$"):
        trainer.fit(X, y, 1, validation=(value, y))


def test_an_array_of_the_processor_by_dlpack_is_taken():
    net = mlp.Network(4, LAYERS, device="numpy")
    assert net.forward(OfDLPack(1)).shape == (1, 3)


# --- a device that has them -----------------------------------------------------------------------


class Held:
    """An array of the made-up device."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("copied to the host in silence")


class Holder(NumpyBackend):
    """The reference, taking each `Held` as an array of its device."""

    def device_array(self, value):
        return value.array if isinstance(value, Held) else None


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr("mlp.network.get_backend", lambda *_: Holder())
    return mlp.Network(4, LAYERS)


def test_rows_of_the_right_dtype_are_used_as_they_are(net):
    X = rows(6, 4).astype(np.float32)
    held = Held(X)
    assert net.rows_to_device(held, borrow=True) is held.array
    own = net.rows_to_device(held)
    assert not np.shares_memory(own, held.array)
    np.testing.assert_array_equal(own, X)
    np.testing.assert_array_equal(net.forward(held), net.forward(X))
    one = net.rows_to_device(Held(X[2]), borrow=True)
    np.testing.assert_array_equal(one, X[2:3])


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", "bool"])
def test_rows_of_another_dtype_are_converted(net, dtype):
    X = (3 * rows(6, 4) ** 2).astype(dtype)
    found = net.rows_to_device(Held(X), borrow=True)
    np.testing.assert_array_equal(found, X.astype(np.float32), strict=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_rows_are_standardised_on_the_device(net, dtype):
    X = (100 * rows(30, 4) + 1e4).astype(dtype)
    net.preprocessing = mlp.Standardizer.fit(X)
    expected = (X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)) / net.preprocessing.scale
    found = net.rows_to_device(Held(X), borrow=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found, net.rows_to_device(X))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 4)), r"X is empty: its shape is \(0, 4\)"),
        (np.zeros((2, 3)), "X has 3 features per row, but the network takes 4"),
        (np.zeros((1, 2, 4)), "X must have 2 dimensions"),
        (np.full((2, 4), np.nan, np.float32), "X has numbers that are not finite in float32"),
        (np.full((2, 4), np.inf), "X has numbers that are not finite in float32"),
        (np.full((2, 4), 1j), "X must hold real numbers, not complex128"),
    ],
)
def test_rows_that_cannot_be_used(net, X, message):
    with pytest.raises(InvalidInput, match=message):
        net.forward(Held(X))


def test_rows_beyond_the_range_of_the_network(net):
    with np.errstate(over="ignore"), pytest.raises(InvalidInput, match="not finite in float32"):
        net.forward(Held(np.full((2, 4), 1e300)))


def test_targets_and_weights_are_used_as_they_are(net):
    labels, weight = Held(target("labels", 6, 3)), Held(np.arange(6, dtype=np.float32))
    loss = get_loss("cross_entropy")
    assert net.target_to_device(labels, 6, loss) is labels.array
    assert net.weight_to_device(weight, 6) is weight.array
    values = Held(target("values", 6, 3).astype(np.float32))
    assert net.target_to_device(values, 6, get_loss("mse")) is values.array


def test_targets_and_weights_that_have_to_be_changed(net):
    loss = get_loss("cross_entropy")
    small = Held(target("labels", 6, 3).astype(np.int32))
    found = net.target_to_device(small, 6, loss)
    np.testing.assert_array_equal(found, small.array.astype(np.int64), strict=True)
    weight = net.weight_to_device(Held(np.arange(6.0)), 6)
    np.testing.assert_array_equal(weight, np.arange(6, dtype=np.float32), strict=True)
    net.classes = (2, 0, 1)  # codes of the same dtype and shape as the labels
    encoded = net.target_to_device(Held(np.array([2, 0, 1, 1, 0, 2])), 6, loss)
    np.testing.assert_array_equal(encoded, [0, 1, 2, 2, 1, 0])


def test_targets_and_weights_are_checked(net):
    with pytest.raises(InvalidInput, match="3 outputs take the labels 0 to 2"):
        net.target_to_device(Held(np.array([0, 3])), 2, get_loss("cross_entropy"))
    with pytest.raises(InvalidInput, match="validation y has 2 rows, but X has 3"):
        net.target_to_device(Held(np.array([0, 1])), 3, get_loss("cross_entropy"), "validation y")
    with pytest.raises(InvalidInput, match="weights must be >= 0"):
        net.weight_to_device(Held(np.array([1.0, -1.0])), 2)


def test_training_is_what_it_is_on_the_same_numbers_of_the_host(net, monkeypatch):
    X, y, w = rows(20, 4), target("labels", 20, 3), np.linspace(0.5, 2, 20)
    start = net.state()
    trained = []
    for wrap in (Held, np.asarray):
        copy = mlp.Network.from_state(start)
        trainer = mlp.Trainer(copy, "cross_entropy", batch_size=7)
        validation = (wrap(X), wrap(y), wrap(w))
        history = trainer.fit(wrap(X), wrap(y), 3, validation, wrap(w))
        trained.append((history["loss"], history["validation_score"], copy.parameters.flat))
    for ours, theirs in zip(*trained, strict=True):
        np.testing.assert_array_equal(ours, theirs)
