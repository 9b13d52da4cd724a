"""The measurements: each peer warm in a process of its own, then all of them in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.data import make_problem
from bench.entrant import Entrant, Settings
from bench.peak import PRODUCTS
from bench.peers import Peer
from bench.process import PeerFailed, Worker
from bench.progress import Progress
from bench.record import CaseResult

PEAK_SECONDS = 1.0


def run_cases(
    cases: Iterable[Case], peers: Iterable[Peer], settings: Settings, progress: Progress
) -> Iterator[CaseResult]:
    """The result of each case, as soon as it is there."""
    plan = [(case, [peer for peer in peers if peer.takes(case)]) for case in cases]
    progress.expect(sum(len(taking_part) for _, taking_part in plan) * (1 + settings.repeats))
    for case, taking_part in plan:
        yield measure_case(case, taking_part, settings, progress)


def measure_case(
    case: Case, peers: Iterable[Peer], settings: Settings, progress: Progress
) -> CaseResult:
    """Starts every peer, measures them in turn, `settings.repeats` times, and ends them."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        problem = Path(folder) / "problem.npz"
        make_problem(case).save(problem)
        entrants = [stack.enter_context(Entrant(peer, case, problem, settings)) for peer in peers]
        for entrant in entrants:
            progress.now(f"{case.name}: starting {entrant.peer.name}")
            entrant.start()
            progress.advance()
        for repeat in range(settings.repeats):
            for entrant in entrants:
                progress.now(
                    f"{case.name}: {entrant.peer.name}, {repeat + 1} of {settings.repeats}"
                )
                entrant.measure()
                progress.advance()
        return CaseResult(case, {entrant.peer.name: entrant.finish() for entrant in entrants})


def measure_peaks(
    precisions: Iterable[str], settings: Settings, progress: Progress, device: str = "cpu"
) -> Mapping[str, Mapping[str, float]]:
    """Precision -> library -> GFLOP/s of its matrix product, of the libraries that are here."""
    peaks: dict[str, dict[str, float]] = {}
    seconds = min(PEAK_SECONDS, settings.seconds)
    for precision in precisions:
        peaks[precision] = {}
        for library in PRODUCTS[device][precision]:
            progress.now(f"{library}'s {precision} matrix product")
            reply = ask_once(
                settings, device, "product", library=library, precision=precision,
                threads=settings.threads, seconds=seconds, device=device,
            )  # fmt: skip
            if reply is not None:  # that the library is missing is said in its rows
                peaks[precision][library] = reply["gflops"]
    return peaks


def ask_once(settings: Settings, place: str, do: str, **request: Any) -> dict[str, Any] | None:
    """The reply of a worker that was started for it, or None if it has none."""
    with Worker(settings.threads, place) as worker:
        try:
            return worker.ask(do, **request)
        except PeerFailed:
            return None
