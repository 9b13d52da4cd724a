"""A record as a table in GitHub's Markdown: a row per case, a column per peer."""

from __future__ import annotations

from bench.compare import Comparison, Row
from bench.gpu_compare import compare_kernel, rows_beside
from bench.peers import GPU_PEERS, OURS, PEERS
from bench.record import Record
from bench.tables import (
    DASH,
    about,
    beside_line,
    comparisons,
    kernel_cells,
    kernel_remarks,
    number,
    peak_lines,
    ratio,
    remarks,
    speed,
    unit,
)

GPU_COLUMNS = ("ours % gemm", "ours × floor", "on a processor")


def to_markdown(record: Record, beside: Record | None = None) -> str:
    """The tables, what they were measured on, and why there are dashes.

    A GPU's table has % gemm and × floor of ours as well, and the processor's rows of `beside`.
    """
    found = list(comparisons(record))
    present = {row.peer for comparison in found for row in comparison.rows}
    peers = [name for name in (GPU_PEERS if record.gpu else PEERS) if name in present]
    peers += sorted(present - set(peers))
    lines: list[str] = []
    if found or not record.kernels:
        extra = GPU_COLUMNS if record.gpu else ()
        columns = [*peers, f"{OURS} / best peer", *extra]
        lines += [_line(["case", "", *columns]), _aligned(2, len(columns))]
        for comparison in found:
            cells = _cells(comparison, peers)
            if record.gpu:
                cells += _gpu_cells(comparison, rows_beside(comparison, beside))
            lines.append(_line(cells))
    lines += _kernel_lines(record)
    of_machines = [*peak_lines(record), *beside_line(beside)]
    lines += ["", *about(record).splitlines(), *(f"{line}." for line in of_machines)]
    notes = [f"- {c.case.name}, {remark}" for c in found for remark in remarks(c)]
    notes += [f"- {remark}" for remark in kernel_remarks(record)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _cells(comparison: Comparison, peers: list[str]) -> list[str]:
    speeds = [_speed(comparison, peer) for peer in peers]
    best = ratio(comparison.ratio)
    if comparison.ratio is not None:
        best = f"**{best}** {comparison.best}"
    return [comparison.case.title, unit(comparison), *speeds, best]


def _gpu_cells(comparison: Comparison, beside: list[Row]) -> list[str]:
    ours = comparison.row(OURS)
    share = ours.share if ours else None
    on_cpu = ", ".join(f"{row.peer[: -len(', cpu')]} {speed(comparison, row)}" for row in beside)
    return [
        DASH if share is None else f"{100 * share:.0f}",
        number(ours.over_floor if ours else None),
        on_cpu or DASH,
    ]


def _kernel_lines(record: Record) -> list[str]:
    """The operations alone, as a table of their own."""
    rows = [compare_kernel(record, result) for result in record.kernels]
    if not rows:
        return []
    contenders = list(dict.fromkeys(name for row in rows for name in row.seconds))
    columns = [*contenders, "ours / best", "TFLOP/s", "GB/s", "× floor"]
    return [
        "", _line(["operation alone, µs", "precision", *columns]), _aligned(2, len(columns)),
        *(_line([row.case.title, row.case.precision, *kernel_cells(row, contenders)])
          for row in rows),
    ]  # fmt: skip


def _aligned(left: int, right: int) -> str:
    return _line(["---"] * left + ["---:"] * right)


def _speed(comparison: Comparison, peer: str) -> str:
    row = comparison.row(peer)
    void = row is not None and row.rate is not None and row.remark is not None
    return f"({speed(comparison, row)})" if void else speed(comparison, row)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
