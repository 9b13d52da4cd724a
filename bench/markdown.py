"""A record as a table in GitHub's Markdown: a row per case, a column per peer."""

from __future__ import annotations

from bench.compare import Comparison
from bench.peers import OURS, PEERS
from bench.record import Record
from bench.tables import about, comparisons, peak_lines, ratio, remarks, speed, unit


def to_markdown(record: Record) -> str:
    """The table, what it was measured on, and why there are dashes."""
    found = list(comparisons(record))
    present = {row.peer for comparison in found for row in comparison.rows}
    peers = [name for name in PEERS if name in present]
    peers += sorted(present - set(peers))
    header = ["case", "", *peers, f"{OURS} / best peer"]
    aligned = ["---", "---", *("---:" for _ in peers), "---:"]
    lines = [_line(header), _line(aligned)]
    lines += [_line(_cells(comparison, peers)) for comparison in found]
    lines += ["", *about(record).splitlines(), *(f"{line}." for line in peak_lines(record))]
    notes = [f"- {c.case.name}, {remark}" for c in found for remark in remarks(c)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _cells(comparison: Comparison, peers: list[str]) -> list[str]:
    speeds = [_speed(comparison, peer) for peer in peers]
    best = ratio(comparison.ratio)
    if comparison.ratio is not None:
        best = f"**{best}** {comparison.best}"
    return [comparison.case.title, unit(comparison), *speeds, best]


def _speed(comparison: Comparison, peer: str) -> str:
    row = comparison.row(peer)
    void = row is not None and row.rate is not None and row.remark is not None
    return f"({speed(comparison, row)})" if void else speed(comparison, row)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
