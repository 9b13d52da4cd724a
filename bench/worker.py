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
from bench.peak import product_gflops
from bench.peers import load_peer
from bench.peers.protocol import Prediction, Training
from bench.reference import ROWS, mean_loss, training_loss
from bench.system import busy_seconds, peak_memory_mib


class Session:
    """What the process holds between two requests: the peer, ready to run."""

    subject: Training | Prediction
    case: Case
    problem: Problem

    def start(self, module: str, case: dict[str, Any], problem: str, threads: int) -> Any:
        """Imports the peer, takes its first step on one batch, then prepares it for all rows.

        Returns:
            import_s: seconds of the import.
            first_step_s: seconds from there to the end of an epoch of one batch, or of one call.
        """
        started = time.perf_counter()
        peer = load_peer(module)
        imported = time.perf_counter()
        self.case, self.problem = Case.from_json(case), Problem.load(Path(problem))
        make = peer.Training if self.case.kind == "train" else peer.Prediction
        ready = time.perf_counter()
        self.subject = make(self.case, self.problem.head(self.case.batch), threads)
        self._run(epochs=1)
        first_step = time.perf_counter() - ready
        self.subject = make(self.case, self.problem, threads)
        self._run(epochs=1)
        return {"import_s": imported - started, "first_step_s": first_step}

    def measure(self, seconds: float) -> Any:
        """Whole laps, each from the initial weights, until they have taken `seconds` or more.

        Returns:
            rate: rows per second.
            loss: that of the last lap's weights, or of the probabilities predicted.
            others: cores that other processes used meanwhile, or None if the system does not tell.
        """
        gc.collect()
        began, used, busy = time.perf_counter(), time.process_time(), busy_seconds()
        laps, total = 0, 0.0
        while laps == 0 or total < seconds:
            if self.case.kind == "train":
                cast(Training, self.subject).reset()
            started = time.perf_counter()
            self._run(self.case.epochs)
            total += time.perf_counter() - started
            laps += 1
        others = None
        if busy is not None:
            others = (busy_seconds() or 0) - busy - (time.process_time() - used)
            others = max(others / (time.perf_counter() - began), 0)
        loss = self._loss()
        if not math.isfinite(loss):
            raise ArithmeticError(f"the loss after the measurement is {loss}")
        rows = laps * self.case.epochs * self.case.rows
        return {"rate": rows / total, "loss": loss, "others": others}

    def finish(self) -> Any:
        """Peak memory since the process began, in MiB; None where the system does not tell."""
        return {"memory_mib": peak_memory_mib()}

    def product(self, library: str, precision: str, threads: int, seconds: float) -> Any:
        """The best rate of a large matrix product, in GFLOP/s."""
        return {"gflops": product_gflops(library, precision, threads, seconds)}

    def _run(self, epochs: int) -> None:
        if self.case.kind == "train":
            cast(Training, self.subject).run(epochs)
        else:
            cast(Prediction, self.subject).run()

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
