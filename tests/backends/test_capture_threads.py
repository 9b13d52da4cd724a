"""Compiled steps among other threads: two trainings at once, an interrupt, a forked process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mlp
from tests.backends.captured import Problem
from tests.problems import rows, target

pytestmark = pytest.mark.usefixtures("as_many_threads_as_allowed")

ROOT = Path(__file__).parents[2]
LAYERS = [mlp.Dense(33, "relu", dropout=0.3), mlp.Dense(17, "tanh"), mlp.Dense(4, "softmax")]
SECONDS = 60  # after which something that should have ended hangs


def trained(
    seed: int, threads: int, validated: bool = False, wait=lambda: None
) -> list[np.ndarray]:
    """The history and the parameters after some epochs."""
    net = mlp.Network(6, LAYERS, device="cpu", seed=seed, threads=threads)
    trainer = mlp.Trainer(net, "cross_entropy", mlp.AdamW(0.01), 16, clip_norm=1.0, seed=seed)
    X, y = rows(200, 6, seed), target("labels", 200, 4, seed)
    wait()
    validation = (X[:50], y[:50]) if validated else None  # else in whole epochs
    history = trainer.fit(X, y, 20, validation)
    return [np.array(history["loss"]), *net.weights, *net.biases]


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_two_trainings_at_once_do_not_meet(threads, validated):
    expected = [trained(seed, threads, validated) for seed in (0, 1)]
    together = threading.Barrier(2, timeout=SECONDS)
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(lambda seed: trained(seed, threads, validated, together.wait), (0, 1))
        )
    for ours, theirs in zip(found, expected, strict=True):
        for array, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(array, other)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to one thread here")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_waits_for_the_slice(threads):
    """It is raised when all of the slice's steps are done, so that nothing goes on afterwards."""
    problem = Problem(rows=20_000, batch_size=1)
    step = problem.step(problem.network("cpu", threads))
    step.begin_epoch(0, problem.rates(step))
    ended = threading.Event()

    def interrupt_when_running():
        while step.totals[0] == 0 and not ended.is_set():
            time.sleep(0)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def run_the_rest(run):
        try:
            run(1, step.batches)
        finally:
            ended.set()
            other.join()

    with step.backend.capture(step) as run:
        run(0, 1)  # compiled now
        step.totals[:] = 0
        gc.collect()  # an interrupt that comes while garbage is finalised is lost
        other = threading.Thread(target=interrupt_when_running)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            run_the_rest(run)
        assert step.counters.tolist()[1:] == [20_000, 19_999, 0]
        before = step.flat.parameters.copy()
        step.begin_epoch(1, problem.rates(step))
        run(0, 10)  # goes on as if nothing had been
    assert step.counters.tolist()[1:] == [20_010, 9, 0]
    assert (step.flat.parameters != before).any()


FORK = """
import os, signal, sys
from mlp.backends import threads
from tests.backends.conftest import AsManyAsAllowed
from tests.backends.test_capture_threads import SECONDS, trained

threads.ThreadChoice = AsManyAsAllowed
first = trained(0, 2)  # the parent now has threads, of which a child has none
child = os.fork()
if child == 0:
    signal.alarm(SECONDS // 2)  # ends a child that hangs
again = trained(0, 2)
same = all((a == b).all() for a, b in zip(first, again, strict=True))
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if same and status == 0 else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
def test_a_forked_process_trains_as_its_parent():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
