"""One peer in one case: its process, and what came of it so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.cases import Case
from bench.peers import Peer
from bench.process import PeerFailed, Worker
from bench.record import PeerResult

# Threads of a peer that has just run wait for work by spinning; by then they sleep.
SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class Settings:
    """Of a run.

    Attributes:
        threads: that each peer may use, one peer at a time.
        repeats: measurements of each peer in each case.
        seconds: that a measurement lasts at least.
    """

    threads: int
    repeats: int
    seconds: float


class Entrant:
    """A peer that fails at any time is absent from then on, with the reason in its result."""

    def __init__(self, peer: Peer, case: Case, problem: Path, settings: Settings) -> None:
        self.peer, self.settings = peer, settings
        self.request = {
            "module": peer.module, "case": case.to_json(), "problem": str(problem),
            "threads": settings.threads, "device": peer.device,
        }  # fmt: skip
        self.result = PeerResult()
        self.worker: Worker | None = None

    def start(self) -> None:
        """Ready for its first measurement, all code compiled."""
        self.worker = Worker(self.settings.threads, self.peer.device)
        self._ask("start", **self.request)
        if self.worker and self.peer.keeps_compiled:
            # The first start filled the cache; the start that counts finds it full.
            self.worker.close()
            self.worker = Worker(self.settings.threads, self.peer.device)
            self._ask("start", **self.request)

    def measure(self) -> None:
        if self.worker:
            time.sleep(SETTLE_SECONDS)
            self._ask("measure", seconds=self.settings.seconds)

    def finish(self) -> PeerResult:
        if self.worker:
            self._ask("finish")
        self.close()
        return self.result

    def close(self) -> None:
        if self.worker:
            self.worker.close()
            self.worker = None

    def _ask(self, do: str, **arguments: Any) -> None:
        """Puts the worker's reply into the result."""
        assert self.worker is not None
        try:
            reply = self.worker.ask(do, **arguments)
        except PeerFailed as error:
            self.result = PeerResult(absent=str(error))
            self.close()
            return
        if do == "measure":
            so_far = self.result
            reply = {
                "rates": (*so_far.rates, reply["rate"]),
                "device_rates": (*so_far.device_rates, reply["device_rate"]),
                "losses": (*so_far.losses, reply["loss"]),
                "others": (*so_far.others, reply["others"]),
            }
        self.result = replace(self.result, **reply)

    def __enter__(self) -> Entrant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
