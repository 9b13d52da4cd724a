"""From raw repeats to what a table shows: medians, ratios with their spread, and void rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.cases import Case
from bench.floors import Floor
from bench.peers import OURS
from bench.record import CaseResult, PeerResult

# Peers shuffle differently, so their losses differ, but by no more than this from the median of
# all: a share of it, or a number where it is small. Else a row is void.
RELATIVE, ABSOLUTE = 0.10, 0.02
# Cores that other processes may use before a table says that the machine was not idle.
IDLE = 0.05


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        numbers = list(values)
        return cls(statistics.median(numbers), min(numbers), max(numbers))


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> Spread:
    """Our rate over the peer's, repeat by repeat: what disturbed both at a time cancels."""
    return Spread.of(a / b for a, b in zip(ours, peer, strict=True))


def void_reasons(losses: Mapping[str, float]) -> dict[str, str]:
    """Peer -> why its row does not count, of those whose final loss is not that of the others."""
    if not losses:
        return {}
    median = statistics.median(losses.values())
    allowed = max(RELATIVE * median, ABSOLUTE)
    return {
        peer: f"void: its loss {loss:.4g} is not the others' {median:.4g}"
        for peer, loss in losses.items()
        if abs(loss - median) > allowed
    }


@dataclass(frozen=True)
class Row:
    """A peer's line in the table of a case; None is shown as a dash.

    Attributes:
        rate: rows per second, the median of the repeats.
        gflops: GFLOP/s of the network's matrix products at that rate.
        share: of the best library's large matrix product, measured in the same run.
        ratio: ours over this peer.
        memory_mib: peak memory of the peer's process.
        start_s: from the beginning of the import to the end of the first step.
        loss: median at the end of a measurement.
        others: cores that other processes used during its measurements, the median.
        remark: why the peer is absent, or why its row is void.
        device_rate: as rate, by the GPU's own clock.
        over_floor: its time over the least that there can be, on a GPU.
    """

    peer: str
    rate: float | None = None
    gflops: float | None = None
    share: float | None = None
    ratio: Spread | None = None
    memory_mib: float | None = None
    start_s: float | None = None
    loss: float | None = None
    others: float | None = None
    remark: str | None = None
    device_rate: float | None = None
    over_floor: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A case as the tables show it.

    Attributes:
        gpu: whether on a GPU.
        floor: there, if the ceilings are known.
        best: the fastest of the others that counts, or None.
        ratio: ours over the best; None where ours or all others are absent or void.
    """

    case: Case
    rows: list[Row]
    best: str | None
    ratio: Spread | None
    gpu: bool = False
    floor: Floor | None = None

    def row(self, peer: str) -> Row | None:
        return next((row for row in self.rows if row.peer == peer), None)


def compare(result: CaseResult, peaks: Mapping[str, Mapping[str, float]]) -> Comparison:
    measured = {name: peer for name, peer in result.peers.items() if peer.absent is None}
    void = void_reasons({name: statistics.median(peer.losses) for name, peer in measured.items()})
    counted = {name: peer for name, peer in measured.items() if name not in void}
    ours = counted.get(OURS)
    ratios = {
        name: paired_ratio(ours.rates, peer.rates)
        for name, peer in counted.items()
        if ours is not None and name != OURS
    }
    others = {name: statistics.median(p.rates) for name, p in counted.items() if name != OURS}
    best = max(others, key=others.__getitem__) if others else None
    peak = max(peaks.get(result.case.precision, {}).values(), default=None)
    rows = [
        _row(name, peer, result.case, peak, ratios.get(name), void.get(name))
        for name, peer in result.peers.items()
    ]
    return Comparison(result.case, rows, best, ratios.get(best) if best else None)


def _row(
    name: str,
    peer: PeerResult,
    case: Case,
    peak: float | None,
    ratio: Spread | None,
    void: str | None,
) -> Row:
    if peer.absent is not None:
        return Row(name, remark=peer.absent)
    rate = statistics.median(peer.rates)
    gflops = rate * case.flops_per_row / 1e9
    start = None
    if peer.import_s is not None and peer.first_step_s is not None:
        start = peer.import_s + peer.first_step_s
    others = _median(peer.others)
    return Row(
        name, rate, gflops, gflops / peak if peak else None, ratio,
        peer.memory_mib, start, statistics.median(peer.losses), others, void,
        _median(peer.device_rates),
    )  # fmt: skip


def _median(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
