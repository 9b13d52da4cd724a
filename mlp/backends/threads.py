"""Threads that run one compiled function together, and how many of them are worth having."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from mlp.errors import InvalidSetting, require_positive_int

Work = Callable[[int, int], None]  # (thread, threads)

# Work of one step that makes up for what a thread has to fetch from the others, in FLOPs.
WORTH_A_THREAD = 2e6
# Another number of threads is tried for so long, and that costs at most this share of the time.
TRIAL_SECONDS = 0.002
TRIAL_SHARE = 0.02


def thread_limit(threads: int | None = None) -> int:
    """How many threads may be used.

    Args:
        threads: the answer if given; else the processors that this process may run on, and no more
            than the environment's OMP_NUM_THREADS and NUMBA_NUM_THREADS say.

    Raises:
        InvalidSetting: a number below 1.
    """
    if threads is not None:
        return require_positive_int("threads", threads)
    limits = [_processors()]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        # OMP_NUM_THREADS may be a list, one number per level of nesting.
        value = os.environ.get(name, "").split(",")[0].strip()
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise InvalidSetting(f"the environment's {name} must be at least 1, not {value!r}")
            limits.append(int(value))
    return min(limits)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Team:
    """Runs work on several threads at once; they wait for each other, so all must run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def run(self, work: Work, threads: int) -> None:
        """Calls work(0, threads), ..., work(threads - 1, threads), each in a thread of its own.

        An interrupt of the calling thread is raised when all have finished: it can neither leave
        half a team waiting, nor an array that a thread still writes.
        """
        if threads == 1:
            work(0, 1)
            return
        with self._lock:
            try:
                self._run_in_pool(work, threads)
            except Exception:
                self._forget_pool()
                raise

    def _run_in_pool(self, work: Work, threads: int) -> None:
        done = self._pool_of(threads).submit(self._lead, work, threads)
        try:
            done.result()
        except BaseException:
            wait([done])
            raise

    def _forget_pool(self) -> None:
        """A pool that could not start a thread keeps what that should have run, for a later one."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool, self._size = None, 0

    def _pool_of(self, threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._size < threads:
            if self._pool is not None:
                self._pool.shutdown()
            self._pool, self._size = ThreadPoolExecutor(threads, "mlp"), threads
        return self._pool

    def _lead(self, work: Work, threads: int) -> None:
        # The start is given when all are there: a thread that cannot be had must not be waited for.
        start = threading.Barrier(threads)

        def follow(thread: int) -> None:
            start.wait()
            work(thread, threads)

        pool = self._pool_of(threads)
        others: list[Future[None]] = []
        try:
            others.extend(pool.submit(follow, i) for i in range(1, threads))
        except BaseException:
            start.abort()
            wait(others)
            raise
        try:
            follow(0)
        finally:
            wait(others)
        for other in others:
            other.result()


TEAM = Team()


def _forget_threads() -> None:
    global TEAM
    TEAM = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)  # a child has none of its parent's threads


class ThreadChoice:
    """How many threads to run steps with: measured, now and then again, while they run.

    The choice can follow the clock because it changes no result: every number is the same for every
    number of threads.

    Args:
        limit: the most threads.
        flops: of one step, for a first guess.
        seconds: the clock.
    """

    def __init__(
        self, limit: int, flops: float, seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self.candidates = sorted({limit, *(2**i for i in range(limit.bit_length()))})
        self.candidates = [n for n in self.candidates if n <= limit]
        guess = max(1.0, flops / WORTH_A_THREAD)
        self.best = max(n for n in self.candidates if n <= guess)
        self._seconds = seconds
        self._per_step: dict[int, float] = {}
        self._ran = 0.0  # seconds since the last trial
        self._trial_cost = 0.0
        self._upwards = False

    def run(
        self, run: Callable[[int, int, int], None], start: int, stop: int, size: int = 1
    ) -> None:
        """Runs steps start, ..., stop - 1: `run` takes the first, the last + 1, and the threads.

        `size`: how many steps of the least size each of these is, an epoch's for example.
        """
        while start < stop:
            threads, steps = self._next(stop - start, size)
            began = self._seconds()
            run(start, start + steps, threads)
            self._learn(threads, steps * size, self._seconds() - began)
            start += steps

    def _next(self, left: int, size: int) -> tuple[int, int]:
        known = self._per_step.get(self.best)
        if len(self.candidates) == 1 or not known:  # not measured, or too short for the clock
            return self.best, left
        steps = min(left, max(1, int(TRIAL_SECONDS / (known * size))))
        # What a trial costs is not known before the first: as long again, if it is half as fast.
        if max(self._trial_cost, steps * size * known) > TRIAL_SHARE * self._ran:
            return self.best, left
        return self._neighbour(), steps

    def _neighbour(self) -> int:
        """The next candidate above or below the best, in turn."""
        place = self.candidates.index(self.best)
        self._upwards = not self._upwards
        step = 1 if self._upwards else -1
        if not 0 <= place + step < len(self.candidates):
            step = -step
        other: int = self.candidates[place + step]
        return other

    def _learn(self, threads: int, steps: int, seconds: float) -> None:
        per_step = seconds / steps
        self._per_step[threads] = per_step
        if threads == self.best:
            self._ran += seconds
            return
        self._ran = 0.0
        self._trial_cost = seconds
        if per_step < self._per_step[self.best]:
            self.best = threads
