"""The process of one peer in one case: requests as JSON lines on stdin, replies on stdout.

Alone in its process, a peer cannot disturb another's threads, and its peak memory is its own.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO, cast

from bench.cases import Case
from bench.data import Problem
from bench.peak import copy_gigabytes, product_gflops
from bench.peers import load_peer
from bench.peers.protocol import Prediction, Training
from bench.reference import ROWS, mean_loss, training_loss
from bench.system import busy_seconds, peak_memory_mib

# Epochs, or predictions of all rows, before the first measurement: on a GPU PyTorch's compiled code
# runs once as it is and is then recorded, and only what comes after it is at speed.
WARM_UPS = {"cpu": 1, "cuda": 3}
# By how much a run that was too short grows at most.
MOST_GROWTH = 100


class Session:
    """What the process holds between two requests: the peer, ready to run."""

    subject: Training | Prediction
    case: Case
    problem: Problem
    device: str
    long_run = 1  # epochs of a long run, as many as the last one needed

    def start(
        self, module: str, case: dict[str, Any], problem: str, threads: int, device: str
    ) -> Any:
        """Imports the peer, takes its first step on one batch, then prepares it for all rows.

        Returns:
            import_s: seconds of the import.
            first_step_s: seconds from there to the end of an epoch of one batch, or of one call.
        """
        started = time.perf_counter()
        peer = load_peer(module)
        imported = time.perf_counter()
        self.case, self.problem = Case.from_json(case), Problem.load(Path(problem))
        self.device = device
        make = peer.Training if self.case.kind == "train" else peer.Prediction
        ready = time.perf_counter()
        self.subject = make(self.case, self.problem.head(self.case.batch), threads, device)
        self._run(epochs=1)
        first_step = time.perf_counter() - ready
        del self.subject  # its memory, before more is asked for
        self.subject = make(self.case, self.problem, threads, device)
        for _ in range(WARM_UPS[device]):
            self._run(epochs=1)
        return {"import_s": imported - started, "first_step_s": first_step}

    def measure(self, seconds: float) -> Any:
        """Trains or predicts for `seconds` or more; see `_laps` and `_long_run` for how.

        Returns:
            rate: rows per second.
            device_rate: the same by the device's own clock, or None where the peer has no timer.
            loss: of one lap's weights, or of the probabilities predicted.
            others: cores that other processes used meanwhile, or None if the system does not tell.
        """
        gc.collect()
        began, used, busy = time.perf_counter(), time.process_time(), busy_seconds()
        steady = self.device != "cpu" and self.case.kind == "train"
        reply = self._long_run(seconds) if steady else self._laps(seconds)
        others = None
        if busy is not None:
            others = (busy_seconds() or 0) - busy - (time.process_time() - used)
            others = max(others / (time.perf_counter() - began), 0)
        return {**reply, "others": others}

    def _laps(self, seconds: float) -> dict[str, Any]:
        """Whole laps, each from the initial weights; the loss is the last one's."""
        laps, total = 0, 0.0
        while laps == 0 or total < seconds:
            self._reset()
            total += self._timed(self.case.epochs)
            laps += 1
        rows = laps * self.case.epochs * self.case.rows
        return {"rate": rows / total, "device_rate": None, "loss": self._finite_loss()}

    def _long_run(self, seconds: float) -> dict[str, Any]:
        """One lap from the initial weights, for the loss; then a run in one call, for the rate.

        A lap of a small network is over before a GPU's clocks have risen, and beginning it takes
        longer than its steps.
        """
        self._reset()
        self._run(self.case.epochs)
        loss = self._finite_loss()
        timer = getattr(self.subject, "timer", None)
        while True:
            if timer is not None:
                timer.start()
            total = self._timed(self.long_run)
            on_device = None if timer is None else timer.stop()
            if total >= seconds:
                break
            growth = 1.2 * seconds / max(total, 1e-9)
            self.long_run = math.ceil(self.long_run * min(max(growth, 1.2), MOST_GROWTH))
        rows = self.long_run * self.case.rows
        device_rate = None if on_device is None else rows / on_device
        return {"rate": rows / total, "device_rate": device_rate, "loss": loss}

    def finish(self) -> Any:
        """Peak memory since the process began, in MiB; None where the system does not tell."""
        return {"memory_mib": peak_memory_mib()}

    def product(
        self, library: str, precision: str, threads: int, seconds: float, device: str
    ) -> Any:
        """The best rate of a large matrix product, in GFLOP/s."""
        return {"gflops": product_gflops(library, precision, threads, seconds, device)}

    def copy(self, library: str, seconds: float) -> Any:
        """The best rate of a large copy on the GPU, in GB/s read and written."""
        return {"gigabytes": copy_gigabytes(library, seconds)}

    def gpu(self) -> Any:
        """What is measured on: see `bench.machine.describe_gpu`."""
        from bench.machine import describe_gpu

        return describe_gpu()

    def kernel(self, case: dict[str, Any], repeats: int, seconds: float) -> Any:
        """One kernel beside the library: see `bench.kernel_runs`."""
        from bench.kernel_runs import measure_kernel
        from bench.kernels import KernelCase

        return measure_kernel(KernelCase(**case), repeats, seconds)

    def _reset(self) -> None:
        if self.case.kind == "train":
            cast(Training, self.subject).reset()

    def _timed(self, epochs: int) -> float:
        """Seconds of a run; resetting is not timed."""
        started = time.perf_counter()
        self._run(epochs)
        return time.perf_counter() - started

    def _run(self, epochs: int) -> None:
        if self.case.kind == "train":
            cast(Training, self.subject).run(epochs)
        else:
            cast(Prediction, self.subject).run()

    def _finite_loss(self) -> float:
        loss = self._loss()
        if not math.isfinite(loss):
            raise ArithmeticError(f"the loss after the measurement is {loss}")
        return loss

    def _loss(self) -> float:
        if self.case.kind == "train":
            return training_loss(self.problem, *cast(Training, self.subject).parameters())
        p = cast(Prediction, self.subject).probabilities()[:ROWS]
        return mean_loss(p, self.problem.y[-self.case.batch :][: len(p)])


def reason(error: BaseException) -> str:
    """Why the peer has no result, in one line."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name.split('.')[0]} is not installed"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # mlp's own errors are sentences that need no type before them.
    own = type(error).__module__.startswith("mlp.")
    return lines[0] if own else f"{type(error).__name__}: {lines[0]}"


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answers each request until there are no more."""
    session = Session()
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(session, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": reason(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    threads = int(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):  # what counts cores then counts these
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # What a library prints goes to stderr; the replies have the old stdout to themselves.
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
