"""How many threads BLAS may use for the steps of a run on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from mlp.backends.protocol import Steps

# FLOPs of a matrix product from which a second thread is worth its hand-over. Below, it gains a
# third at best on an idle machine; where another process keeps the other core busy, threads that
# wait for each other were seen to slow the same run down ten- to a hundredfold.
WORTH_THREADS = 4e6


def fitting_threads(steps: Steps) -> AbstractContextManager[object]:
    """A context in which BLAS keeps to one thread if all products of the steps are small."""
    if steps.largest_product >= WORTH_THREADS:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
