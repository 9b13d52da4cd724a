"""A steady-state step allocates nothing: neither inside the kernels nor around them."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

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
    gc.collect()
    tracemalloc.start()
    try:
        for call in steady:  # once under tracing, so that its own bookkeeping is not counted
            call()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            for call in steady:
                call()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < STEADY_STATE_BYTES
    assert peak - before < STEADY_STATE_BYTES
