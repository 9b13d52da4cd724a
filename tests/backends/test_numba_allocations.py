"""A steady-state step allocates nothing: neither inside the kernels nor around them."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import mlp
from mlp.losses import get_loss
from mlp.step import Regularization, Step
from tests.backends.every_operation import dispatchers, operations
from tests.tolerances import STEADY_STATE_BYTES


@pytest.fixture(scope="module")
def steady():
    """All operations, run before, so that everything is compiled."""
    calls = operations()
    for call in calls:
        call()
    return calls


@pytest.fixture
def array_arguments(monkeypatch, steady) -> int:
    """How many arrays one pass over all operations hands to kernels."""
    count = 0

    def counting(kernel):
        def call(*arguments):
            nonlocal count
            count += sum(isinstance(argument, np.ndarray) for argument in arguments)
            return kernel(*arguments)

        return call

    with monkeypatch.context() as patch:
        for module, name, kernel in dispatchers():
            patch.setattr(module, name, counting(kernel))
        for call in steady:
            call()
    assert count > 0
    return count


def test_kernels_allocate_nothing(steady, array_arguments):
    """Numba makes one small record per array argument, and frees it on return; nothing else."""
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for call in steady:
        call()
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == array_arguments
    assert after.free - before.free == array_arguments


def test_nothing_is_allocated_around_the_kernels(steady):
    assert_little_is_allocated(lambda: [call() for call in steady])


def test_training_steps_allocate_nothing():
    """A whole epoch of the training loop's own steps, the last batch smaller than the others."""
    layers = [mlp.Dense(96, "gelu", dropout=0.2), mlp.Dense(64, "relu"), mlp.Dense(8, "softmax")]
    network = mlp.Network(50, layers, device="cpu")
    X = network.rows_to_device(np.random.default_rng(0).normal(size=(300, 50)))
    y = network.backend.from_host(np.arange(300) % 8, np.int64)
    weight = network.weight_to_device(np.linspace(0.5, 1.5, 300), 300)
    terms = Regularization(l1=1e-4, l2=1e-4, weight_decay=0.01, clip_norm=1.0)
    step = Step(network, get_loss("cross_entropy"), mlp.Adam(), terms, 64, X, y, weight, seed=0)

    def epoch():
        step.begin_epoch(np.arange(300), np.full(step.batches, 1e-3))
        tracemalloc.reset_peak()  # the start of an epoch may allocate its order and rates
        step.run(0, step.batches)

    epoch()
    assert_little_is_allocated(epoch)


def assert_little_is_allocated(work):
    """Less than the objects of a few calls: one array of the work would be more."""
    gc.collect()
    tracemalloc.start()
    try:
        work()  # once under tracing, so that its own bookkeeping is not counted
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            work()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < STEADY_STATE_BYTES
    assert peak - before < STEADY_STATE_BYTES
