"""Batches that a device has no room for: the error says which size would fit, and it does."""

import pickle
import re
import weakref

import numpy as np
import pytest

import mlp
from mlp.backends.numpy import NumpyBackend
from mlp.step import Step
from tests.problems import rows, target

ROWS = 20_000
LAYERS = [mlp.Dense(64, "gelu", dropout=0.1), mlp.Dense(32, "relu"), mlp.Dense(3)]


class Small(NumpyBackend):
    """The reference with so many bytes of memory, and no more."""

    device = "small:0"

    def __init__(self, free):
        super().__init__()
        self.free = free

    def empty(self, shape, dtype):
        asked = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if asked > self.free:
            raise mlp.DeviceOutOfMemory("no room", asked, self.free)
        self.free -= asked
        array = super().empty(shape, dtype)
        weakref.finalize(array.base, self.give_back, asked)
        return array

    def give_back(self, count):
        self.free += count

    def zeros(self, shape, dtype):
        array = self.empty(shape, dtype)
        array.fill(0)
        return array


class SmallHalf(Small):
    """Stores between layers in 16 bits."""

    def compute_dtype(self, dtype):
        return np.dtype(np.float16)


def fit(backend, batch_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlp.network.get_backend", lambda *_: backend)
        net = mlp.Network(8, LAYERS)
    trainer = mlp.Trainer(net, "mse", batch_size=batch_size)
    X, y = rows(ROWS, 8).astype(np.float32), target("values", ROWS, 3)
    trainer.fit(X, y, 1, sample_weight=np.ones(ROWS))


@pytest.mark.parametrize("kind", [Small, SmallHalf])
def test_the_size_that_is_named_fits_and_is_about_the_largest(kind):
    room = 5_000_000
    with pytest.raises(mlp.DeviceOutOfMemory) as caught:
        fit(kind(room), ROWS)
    message = str(caught.value)
    pattern = (
        r"device 'small:0' has no room for batches of 20,000 rows: [\d.,]+ MiB were asked for "
        r"and [\d.,]+ MiB are free; a batch_size of ([\d,]+) would fit"
    )
    (size,) = re.fullmatch(pattern, message).groups()
    fitting = int(size.replace(",", ""))
    assert caught.value.asked > caught.value.free > 0
    fit(kind(room), fitting)
    with pytest.raises(mlp.DeviceOutOfMemory):
        fit(kind(room), int(1.3 * fitting))


def test_no_size_fits(monkeypatch):
    backend, allocate = Small(10**9), Step._allocate

    def when_almost_full(step, size):
        backend.free = 100
        return allocate(step, size)

    monkeypatch.setattr(Step, "_allocate", when_almost_full)
    with pytest.raises(mlp.DeviceOutOfMemory, match="not even a batch_size of 1 would fit"):
        fit(backend, 50)


def test_the_error_is_a_memory_error_and_can_be_pickled():
    error = mlp.DeviceOutOfMemory("no room", 20, 10)
    assert isinstance(error, MemoryError)
    assert isinstance(error, mlp.MLPError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.asked, again.free) == ("no room", 20, 10)
    assert issubclass(mlp.DeviceFault, RuntimeError)
    assert issubclass(mlp.DeviceFault, mlp.MLPError)
