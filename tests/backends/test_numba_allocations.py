"""A steady-state step allocates nothing: neither inside the kernels nor around them."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from tests.backends.every_operation import (
    dispatchers,
    operations,
    training_step,
    whole_runs,
)
from tests.tolerances import STEADY_STATE_BYTES, TEAM_START_BYTES


@pytest.fixture(scope="module")
def steady():
    """All operations, run before, so that everything is compiled."""
    return run_before(operations())


@pytest.fixture(scope="module")
def steady_runs():
    return run_before(whole_runs())


def run_before(calls):
    for call in calls:
        call()
    return calls


def arrays_in(argument) -> int:
    if isinstance(argument, tuple):
        return sum(map(arrays_in, argument))
    return isinstance(argument, np.ndarray)


@pytest.fixture
def array_arguments(monkeypatch, steady) -> int:
    """How many arrays one pass over all operations hands to kernels."""
    count = 0

    def counting(kernel):
        def call(*arguments):
            nonlocal count
            count += arrays_in(arguments)
            return kernel(*arguments)

        return call

    with monkeypatch.context() as patch:
        for module, name, kernel in dispatchers():
            patch.setattr(module, name, counting(kernel))
        for call in steady:
            call()
    assert count > 0
    return count


def allocations(work) -> int:
    """How many records and arrays Numba's runtime makes; all are freed again."""
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    work()
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free
    made: int = after.alloc - before.alloc
    return made


def test_kernels_allocate_nothing(steady, array_arguments):
    """Numba makes one small record per array argument, and frees it on return; nothing else."""
    assert allocations(lambda: [call() for call in steady]) == array_arguments


def test_captured_steps_allocate_nothing(as_many_threads_as_allowed):
    """What a call makes, of its arguments, does not depend on how many steps it runs."""
    step = training_step()
    step.begin_epoch(0, np.full(step.batches, 1e-3))
    with step.backend.capture(step) as run:
        run(0, 1)
        one = allocations(lambda: run(1, 2))
        assert allocations(lambda: run(2, step.batches)) == one


def test_nothing_is_allocated_around_the_kernels(steady, steady_runs):
    """Around single operations, around a captured epoch, and around a prediction."""
    for call in steady:
        assert_little_is_allocated(call, STEADY_STATE_BYTES)
    for call in steady_runs:
        assert_little_is_allocated(call, TEAM_START_BYTES)


def assert_little_is_allocated(work, limit, times=10):
    """Less than the objects of a few calls: one array of the work would be more."""
    gc.collect()
    gc.freeze()  # what is there now need not be looked at again: collections are quick
    tracemalloc.start()
    try:
        work()  # once under tracing, so that its own bookkeeping is not counted
        before = traced_memory()
        for _ in range(times):
            start = traced_memory()
            work()
            _, peak = tracemalloc.get_traced_memory()
            assert peak - start < limit
        assert traced_memory() - before < limit
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def traced_memory() -> int:
    """Bytes in use; Numba's look at a named tuple leaves some 160 until garbage is collected."""
    gc.collect()
    tracemalloc.reset_peak()
    return tracemalloc.get_traced_memory()[0]
