"""What a run on a GPU measures besides the cases: the device, its ceilings, operations alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from bench.cases import Case
from bench.entrant import Settings
from bench.kernels import KernelCase
from bench.peak import COPIES
from bench.peers import OURS, Peer
from bench.process import PeerFailed, Worker
from bench.progress import Progress
from bench.record import KernelResult, Record
from bench.run import PEAK_SECONDS, ask_once, measure_peaks, run_cases

DEVICE = "cuda"
# Least length of a measurement of an operation alone.
KERNEL_SECONDS = 0.05


def describe(settings: Settings) -> dict[str, Any]:
    """See `bench.machine.describe_gpu`; in a process of its own, which gives the GPU back.

    Raises:
        PeerFailed: there is no GPU that can be used; says why.
    """
    with Worker(settings.threads, DEVICE) as worker:
        return worker.ask("gpu")


def measure(
    record: Record,
    cases: Sequence[Case],
    peers: Sequence[Peer],
    kernels: Sequence[KernelCase],
    settings: Settings,
    progress: Progress,
) -> Iterator[Record]:
    """The record with the ceilings, then with one more operation or case each time."""
    precisions: list[str] = [case.precision for case in cases]
    precisions += [kernel.precision for kernel in kernels]
    peaks = measure_peaks(dict.fromkeys(precisions), settings, progress, DEVICE)
    record = replace(record, peaks=peaks, copies=measure_copies(settings, progress))
    yield record
    for kernel in measure_kernels(kernels, settings, progress):
        record = replace(record, kernels=[*record.kernels, kernel])
        yield record
    for case in run_cases(cases, peers, settings, progress):
        record = replace(record, cases=[*record.cases, case])
        yield record


def measure_copies(settings: Settings, progress: Progress) -> Mapping[str, float]:
    """Library -> GB/s of its large copy, of the libraries that are here."""
    found = {}
    for library in COPIES:
        progress.now(f"{library}'s copy")
        seconds = min(PEAK_SECONDS, settings.seconds)
        reply = ask_once(settings, DEVICE, "copy", library=library, seconds=seconds)
        if reply is not None:
            found[library] = reply["gigabytes"]
    return found


def measure_kernels(
    kernels: Sequence[KernelCase], settings: Settings, progress: Progress
) -> Iterator[KernelResult]:
    """The result of each operation, as soon as it is there."""
    progress.expect(len(kernels))
    seconds, worker = min(KERNEL_SECONDS, settings.seconds), Worker(settings.threads, DEVICE)
    try:
        for case in kernels:
            progress.now(f"{case.title}, {case.precision}")
            try:
                reply = worker.ask(
                    "kernel", case=asdict(case), repeats=settings.repeats, seconds=seconds
                )
            except PeerFailed as error:
                reply = {"times": {}, "absent": {OURS: str(error)}, "sets": 0}
                worker.close()  # after a fault a process can no longer use the GPU
                worker = Worker(settings.threads, DEVICE)
            times = {name: tuple(times) for name, times in reply["times"].items()}
            yield KernelResult(case, times, reply["absent"], reply["sets"])
            progress.advance()
    finally:
        worker.close()
