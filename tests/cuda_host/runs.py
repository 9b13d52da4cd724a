"""Short trainings that the tests of the GPU backend's runs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import mlp
import mlp.backends
from tests.cuda_host.cupy_stand_in import installed
from tests.cuda_host.cupy_stand_in.arrays import ndarray
from tests.cuda_host.cupy_stand_in.kernels import RawKernel
from tests.cuda_host.cupy_stand_in.memory import DeviceMemory
from tests.cuda_host.cupy_stand_in.streams import Graph, Stream
from tests.problems import parameters

COSTLY = {
    "captures": (Stream, "end_capture"),
    "graphs": (Graph, "launch"),
    "launches": (RawKernel, "__call__"),
    "downloads": (ndarray, "get"),
    "uploads": (ndarray, "set"),
    "allocations": (DeviceMemory, "__init__"),
    "waits": (Stream, "synchronize"),
}
PRECISIONS = ["float64", "float32", "tf32", "bfloat16", "float16"]


@contextmanager
def machine(**properties: Any) -> Iterator[Any]:
    """A machine of its own under device "cuda"; see `cupy_stand_in.device.Machine`."""
    mlp.backends._make.cache_clear()
    try:
        with installed(**properties) as cupy:
            yield cupy
    finally:
        mlp.backends._make.cache_clear()


def digits(rows: int = 1797) -> tuple[np.ndarray, np.ndarray]:
    """Rows in [0, 1], (N, 64) float32, and labels."""
    X, y = load_digits(return_X_y=True)
    return (X[:rows] / 16).astype(np.float32), y[:rows]


def classifier(
    device: str = "cuda", precision: str = "float32", hidden: int = 128, dropout: float = 0.1
) -> mlp.Network:
    """A network for the digits."""
    layers = [mlp.Dense(hidden, "relu", dropout=dropout), mlp.Dense(10, "softmax")]
    return mlp.Network(64, layers, device=device, precision=precision, seed=0)


def trainer_of(net: mlp.Network, **settings: Any) -> mlp.Trainer:
    """Adam on batches of 128, unless said otherwise."""
    chosen = {"optimizer": mlp.Adam(5e-3), "batch_size": 128, "seed": 1, **settings}
    return mlp.Trainer(net, "cross_entropy", **chosen)


def assert_same_network(ours: mlp.Network, theirs: mlp.Network) -> None:
    """Bit for bit."""
    for a, b in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often the stand-in is asked for what costs time: by the names of `COSTLY`."""
    counts: Counter[str] = Counter()

    def counting(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, (kind, method) in COSTLY.items():
            patch.setattr(kind, method, counting(name, getattr(kind, method)))
        yield counts
