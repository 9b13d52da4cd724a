"""A record as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.compare import IDLE, Comparison, Row, Spread, compare
from bench.peak import SIZE
from bench.peers import OURS
from bench.record import Record

if TYPE_CHECKING:
    from rich.console import Console

DASH = "-"


def number(value: float | None) -> str:
    """Three digits, and all before the point: 1,234,567, 123, 12.3, 0.123."""
    if value is None:
        return DASH
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def ratio(spread: Spread | None) -> str:
    """As in "2.31 (2.25–2.40)": the median, the smallest and the largest."""
    if spread is None:
        return DASH
    digits = 2 if spread.high < 10 else 1 if spread.high < 100 else 0
    middle, low, high = (
        f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high)
    )
    return f"{middle} ({low}–{high})"


def unit(comparison: Comparison) -> str:
    """What `speed` counts."""
    case = comparison.case
    if case.kind == "train":
        return "samples/s"
    return "µs a row" if case.batch == 1 else "rows/s"


def speed(comparison: Comparison, row: Row | None) -> str:
    """A rate, or for single rows the latency."""
    if row is None or row.rate is None:
        return DASH
    return number(1e6 / row.rate if unit(comparison) == "µs a row" else row.rate)


def conclusion(comparison: Comparison) -> str:
    """One sentence: ours beside the fastest of the others that counts."""
    if comparison.ratio is None:
        return ""
    return f"{OURS}: {ratio(comparison.ratio)} times the best peer, {comparison.best}"


def remarks(comparison: Comparison) -> list[str]:
    """Why peers are absent or void, and whether the machine was busy with something else."""
    said = [f"{row.peer}: {row.remark}" for row in comparison.rows if row.remark]
    busy = [row.others for row in comparison.rows if row.others is not None and row.others > IDLE]
    if busy:
        said.append(f"other processes used up to {max(busy):.2f} cores: not an idle machine")
    return said


def about(record: Record) -> str:
    """Machine, versions and settings, in two lines."""
    machine, source = record.machine, record.source
    flags = ", ".join(machine["flags"])
    libraries = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = (source["commit"] or "no repository")[:12] + (
        " and changes" if source["dirty"] else ""
    )
    settings = record.settings
    return (
        f"{record.date[:10]}, {machine['cpu']} ({flags}), {machine['cores']} cores, "
        f"{machine['system']}; commit {commit}; {settings['threads']} threads, "
        f"median of {settings['repeats']} measurements of {settings['seconds']:g} s or more.\n"
        f"{libraries}."
    )


def peak_lines(record: Record) -> list[str]:
    """The matrix products whose best is 100 "% gemm"."""
    return [
        f"gemm, {SIZE} cubed, {precision}: "
        + ", ".join(f"{library} {gflops:,.0f} GFLOP/s" for library, gflops in libraries.items())
        for precision, libraries in record.peaks.items()
        if libraries
    ]


def comparisons(record: Record) -> Iterator[Comparison]:
    for result in record.cases:
        yield compare(result, record.peaks)


def print_record(record: Record, console: Console) -> None:
    """Every case's table, on the console."""
    console.print(about(record), markup=False, highlight=False)
    for line in peak_lines(record):
        console.print(line, markup=False, highlight=False)
    for comparison in comparisons(record):
        print_comparison(comparison, console)


def print_comparison(comparison: Comparison, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(comparison.case.title, style="bold"), title_justify="left",
        box=box.SIMPLE_HEAD, padding=0, pad_edge=False,
    )  # fmt: skip
    table.add_column("", no_wrap=True)
    for header in (
        unit(comparison), "GFLOP/s", "% gemm", "ours / peer", "MiB", "start s", "loss",
    ):  # fmt: skip
        table.add_column(header, justify="right", no_wrap=True)
    for row in comparison.rows:
        style = "bold" if row.peer == OURS else "dim" if row.remark else ""
        table.add_row(row.peer, *_cells(comparison, row), style=style)
    console.print()
    console.print(table)
    if said := conclusion(comparison):
        console.print(Text(said, style="bold"))
    for remark in remarks(comparison):
        console.print(Text(remark, style="dim"))


def _cells(comparison: Comparison, row: Row) -> list[str]:
    share = DASH if row.share is None else f"{100 * row.share:.0f}"
    loss = DASH if row.loss is None else f"{row.loss:.4f}"
    memory = DASH if row.memory_mib is None else f"{row.memory_mib:,.0f}"
    start = DASH if row.start_s is None else f"{row.start_s:.1f}"
    return [
        speed(comparison, row), number(row.gflops), share,
        ratio(row.ratio), memory, start, loss,
    ]  # fmt: skip
