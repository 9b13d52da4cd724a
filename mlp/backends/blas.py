"""How many threads BLAS may use for the steps of a run on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlp.backends.protocol import Steps

# FLOPs of a matrix product from which a second thread is worth its hand-over. Below, it gained two
# fifths at best on an idle machine; beside another process that uses BLAS, threads that wait for
# each other slowed the same run down ten- to a hundredfold (bench/LOG.md).
WORTH_THREADS = 4e6

# BLAS has one number of threads per process, so of runs that overlap the first one in limits it,
# and the last one out restores what was.
_lock = threading.Lock()
_runs = 0
_limits: Any = None


@contextmanager
def fitting_threads(steps: Steps) -> Iterator[None]:
    """A context in which BLAS keeps to one thread if all products of the steps are small."""
    if steps.largest_product >= WORTH_THREADS:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _runs, _limits
    from threadpoolctl import threadpool_limits

    with _lock:
        if _runs == 0:
            _limits = threadpool_limits(limits=1, user_api="blas")
        _runs += 1


def _leave() -> None:
    global _runs
    with _lock:
        _runs -= 1
        if _runs == 0:
            _limits.restore_original_limits()
