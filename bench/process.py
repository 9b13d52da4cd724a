"""The parent's side of a worker: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB")


class PeerFailed(Exception):
    """A worker that has no answer, and why, in one line."""


def environment(threads: int, device: str = "cpu") -> dict[str, str]:
    """Of a worker: what this process can import, so many threads, and no GPU but for "cuda"."""
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    for library in THREADS:
        variables[f"{library}_NUM_THREADS"] = str(threads)
    # By its name, so that JAX says what is missing, and does not take the other one.
    variables |= {"NPROC": str(threads), "JAX_PLATFORMS": device}
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    else:
        # Peers share the GPU's memory: JAX must not take three quarters of it beforehand.
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if threads == 1:
        flags = f"{variables.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
        variables["XLA_FLAGS"] = flags.strip()
    return variables


class Worker:
    """A process that runs `bench.worker`; between two requests it sleeps on its stdin."""

    def __init__(self, threads: int, device: str = "cpu") -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        # A session of its own: an interrupt at the terminal reaches this process alone, and what
        # the worker starts - compilers - ends with it.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=environment(threads, device), start_new_session=True,
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The worker's reply to one request.

        Raises:
            PeerFailed: it replied with an error, or ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except OSError:  # it has ended; its last words say why
            pass
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailed(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerFailed(reply["error"])
        return reply

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with code {code}" + (f": {said[-1]}" if said else "")

    def close(self) -> None:
        """Ends the process and everything that it started."""
        if self.process.poll() is None and os.name == "posix":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
