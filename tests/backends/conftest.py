"""What the conformance tests share: a backend joined to a dtype, and the truth."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.backends.numpy import NumpyBackend
from mlp.backends.protocol import Backend

# (B, I, O): every size of 1, 3, 31, 32, 33, 127 in each place, rows longer than a kernel's block of
# 2048 elements, blocks of several rows with a rest, and one large.
SHAPES = [
    (1, 1, 1),
    (3, 127, 32),
    (31, 3, 33),
    (32, 31, 1),
    (33, 32, 127),
    (127, 33, 3),
    (1, 33, 31),
    (3, 2100, 2100),
    (257, 300, 129),
]
# Activations for which the two largest are tried, too: they differ in no loop. One that saves z,
# one that saves a, and the one that mixes a row.
OF_LARGE_SHAPES = ("gelu", "tanh", "softmax")


def shapes_for(activation: str) -> list[tuple[int, int, int]]:
    return SHAPES if activation in OF_LARGE_SHAPES else SHAPES[:-2]


class Device:
    """A backend and a dtype: puts float64 values on the device, and gets them back as float64."""

    def __init__(self, backend: Backend, dtype: np.dtype) -> None:
        self.backend, self.dtype = backend, dtype

    def put(self, values, dtype=None):
        return self.backend.from_host(np.asarray(values), dtype or self.dtype)

    def new(self, *shape):
        """An array full of NaN, so that an element that nobody writes shows."""
        return self.put(np.full(shape, np.nan))

    def get(self, array) -> np.ndarray:
        return self.backend.to_host(array).astype(np.float64)


class Draw:
    """Random float64 values that float32 holds exactly, so that all precisions see one input."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return exact(self.rng.standard_normal(shape) * scale)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        return exact(self.rng.uniform(low, high, shape))

    def labels(self, rows: int, classes: int) -> np.ndarray:
        return self.rng.integers(0, classes, rows)


def exact(values) -> np.ndarray:
    return np.asarray(values).astype(np.float32).astype(np.float64)


def in_bfloat16(values) -> np.ndarray:
    """Numbers rounded to 8 significant bits, ties to even; of any size, as in float64."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(fraction * 256) / 256, exponent)


def in_tf32(values) -> np.ndarray:
    """Numbers rounded to 11 significant bits, ties away from zero; of any size, as in float64."""
    fraction, exponent = np.frexp(np.abs(values))
    return np.copysign(np.ldexp(np.floor(fraction * 2048 + 0.5) / 2048, exponent), values)


def in_float16(values) -> np.ndarray:
    """Numbers rounded to 11 significant bits, ties to even; for those of float16's normal range."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(fraction * 2048) / 2048, exponent)


@pytest.fixture
def device(backend: Backend, precision: np.dtype) -> Device:
    return Device(backend, precision)


@pytest.fixture
def truth() -> Device:
    """The float64 reference, itself tested against plain formulas in test_reference.py."""
    return Device(NumpyBackend(), np.dtype(np.float64))


@pytest.fixture
def draw() -> Draw:
    return Draw(7)


class AsManyAsAllowed:
    """In place of `ThreadChoice`, which goes by the clock."""

    def __init__(self, limit, flops):
        self.limit = limit

    def run(self, run, start, stop, size=1):
        run(start, stop, self.limit)


@pytest.fixture
def as_many_threads_as_allowed(monkeypatch) -> None:
    """Captured steps run on `Network(threads=...)` threads, never fewer."""
    monkeypatch.setattr("mlp.backends.threads.ThreadChoice", AsManyAsAllowed)
