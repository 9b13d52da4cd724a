"""What a run on a GPU adds to a comparison: floors, operations alone, and the processor's rows."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from bench.compare import Comparison, Row, Spread, compare, paired_ratio
from bench.floors import Ceilings, Floor
from bench.kernels import KernelCase
from bench.peers import OURS
from bench.record import CaseResult, KernelResult, Record


def ceilings_of(record: Record, precision: str) -> Ceilings | None:
    """The best matrix product of a precision and the best copy of a run on a GPU."""
    peak = max(record.peaks.get(precision, {}).values(), default=None)
    copied = max(record.copies.values(), default=None)
    return Ceilings(peak * 1e9, copied * 1e9) if peak and copied else None


def compare_in(record: Record, result: CaseResult) -> Comparison:
    """A case of a record; on a GPU with its floor."""
    comparison = compare(result, record.peaks)
    if record.gpu is None:
        return comparison
    ceilings = ceilings_of(record, result.case.precision)
    if ceilings is None:
        return replace(comparison, gpu=True)
    floor, batch = Floor.of(result.case, ceilings), result.case.batch
    rows = [
        replace(row, over_floor=None if row.rate is None else batch / row.rate / floor.seconds)
        for row in comparison.rows
    ]
    return replace(comparison, gpu=True, floor=floor, rows=rows)


def rows_beside(comparison: Comparison, beside: Record | None) -> list[Row]:
    """Ours and the best of the others on the processor, in the same case, if it was measured."""
    results = beside.cases if beside is not None else []
    for result in results:
        if beside is not None and result.case == comparison.case:
            found = compare(result, beside.peaks)
            shown = [row for row in found.rows if row.peer in (OURS, found.best)]
            return [
                Row(f"{row.peer}, cpu", row.rate, start_s=row.start_s, loss=row.loss)
                for row in shown
            ]
    return []


@dataclass(frozen=True)
class KernelRow:
    """An operation alone as the table shows it.

    Attributes:
        seconds: contender -> median of one launch.
        best: the fastest of the others.
        ratio: its time over ours, repeat by repeat.
        over_floor: ours over the least that there can be.
        rate: of ours, FLOP/s of a product, else bytes/s.
    """

    case: KernelCase
    seconds: dict[str, float]
    best: str | None
    ratio: Spread | None
    over_floor: float | None
    rate: float | None


def compare_kernel(record: Record, result: KernelResult) -> KernelRow:
    seconds = {name: statistics.median(times) for name, times in result.times.items()}
    ours, work = seconds.get(OURS), result.case.work
    others = {name: median for name, median in seconds.items() if name != OURS}
    best = min(others, key=others.__getitem__) if others else None
    ratio = None
    if best is not None and ours is not None:
        ratio = paired_ratio(result.times[best], result.times[OURS])
    ceilings = ceilings_of(record, result.case.precision)
    over_floor = rate = None
    if ours is not None:
        rate = (work.flops if result.case.product else work.bytes) / ours
        over_floor = ours / work.floor(ceilings) if ceilings else None
    return KernelRow(result.case, seconds, best, ratio, over_floor, rate)
