"""Two threads that use one device at a time get what each would get alone."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mlp
from tests.problems import rows, target

pytestmark = pytest.mark.usefixtures("cupy")
SECONDS = 120  # after which something that should have ended hangs
LAYERS = [mlp.Dense(33, "relu", dropout=0.3), mlp.Dense(4, "softmax")]


@pytest.fixture
def hasty_switches():
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def trained(seed: int, wait=lambda: None) -> list[np.ndarray]:
    """The history and the parameters after some epochs; weighted, validated, and predicting."""
    net = mlp.Network(6, LAYERS, device="cuda", seed=seed)
    trainer = mlp.Trainer(net, "cross_entropy", mlp.AdamW(0.01), 16, clip_norm=1.0, seed=seed)
    X, y = rows(100, 6, seed), target("labels", 100, 4, seed)
    wait()
    history = trainer.fit(X, y, 8, (X[:50], y[:50], np.ones(50)), np.linspace(0.5, 1, 100))
    return [np.array(history["loss"]), *net.weights, *net.biases, net.forward(X)]


def test_two_trainings_at_once_do_not_meet(hasty_switches):
    expected = [trained(seed) for seed in (0, 1)]
    together = threading.Barrier(2, timeout=SECONDS)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: trained(seed, together.wait), (0, 1)))
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
