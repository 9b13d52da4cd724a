"""A record as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.compare import IDLE, Comparison, Row, Spread
from bench.gpu_compare import KernelRow, compare_in, compare_kernel, rows_beside
from bench.peak import COPY_BYTES, SIZES
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
    if comparison.gpu:
        return "µs a step" if case.kind == "train" else "µs a call"
    if case.kind == "train":
        return "samples/s"
    return "µs a row" if case.batch == 1 else "rows/s"


def speed(comparison: Comparison, row: Row | None) -> str:
    """A rate; or for single rows, and on a GPU, the time of a step or call."""
    if row is None or row.rate is None:
        return DASH
    latency = unit(comparison).startswith("µs")
    return number(1e6 * comparison.case.batch / row.rate if latency else row.rate)


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
    libraries = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = (source["commit"] or "no repository")[:12] + (
        " and changes" if source["dirty"] else ""
    )
    settings = record.settings
    cpu = f"{machine['cpu']} ({', '.join(machine['flags'])})"
    gpu = f"{_about_gpu(record.gpu)}; on " if record.gpu else ""
    return (
        f"{record.date[:10]}, {gpu}{cpu}, {machine['cores']} cores, "
        f"{machine['system']}; commit {commit}; {settings['threads']} threads, "
        f"median of {settings['repeats']} measurements of {settings['seconds']:g} s or more.\n"
        f"{libraries}."
    )


def _about_gpu(gpu: dict[str, Any]) -> str:
    """As in "GPU X, compute capability 9.0, 80 GiB, driver 580.1, CUDA 13.0, 1980 MHz"."""
    clock = f", {gpu['clock']} of at most {gpu['clock_most']}" if "clock" in gpu else ""
    driver = f", driver {gpu['driver']}" if "driver" in gpu else ""
    library = f", cublasLt {gpu['cublaslt']}" if gpu.get("cublaslt") else ""
    return (
        f"{gpu['name']}, compute capability {gpu['capability']}, {gpu['processors']} "
        f"multiprocessors, {gpu['memory_gib']:g} GiB, {gpu['cache_mib']:g} MiB of cache{driver}, "
        f"CUDA {gpu['cuda']}{library}{clock}"
    )


def peak_lines(record: Record) -> list[str]:
    """The matrix products whose best is 100 "% gemm", and the copies on a GPU."""
    size = SIZES["cuda" if record.gpu else "cpu"]
    lines = [
        f"gemm, {size} cubed, {precision}: "
        + ", ".join(f"{library} {gflops:,.0f} GFLOP/s" for library, gflops in libraries.items())
        for precision, libraries in record.peaks.items()
        if libraries
    ]
    if record.copies:
        rates = (f"{library} {rate:,.0f} GB/s" for library, rate in record.copies.items())
        lines.append(f"copy of {COPY_BYTES >> 20:,} MiB, read and written: {', '.join(rates)}")
    return lines


def beside_line(beside: Record | None) -> list[str]:
    """Where the processor's rows are from."""
    if beside is None:
        return []
    machine = beside.machine
    return [
        f"Rows named cpu: {machine['cpu']}, {machine['cores']} cores, {beside.date[:10]}; a run of "
        "its own, whose conditions were others: in no ratio"
    ]


def comparisons(record: Record) -> Iterator[Comparison]:
    for result in record.cases:
        yield compare_in(record, result)


def print_record(record: Record, console: Console, beside: Record | None = None) -> None:
    """Every table on the console; `beside` gives a GPU's cases the processor's rows."""
    for line in [about(record), *peak_lines(record), *beside_line(beside)]:
        console.print(line, markup=False, highlight=False)
    if record.kernels:
        print_kernels([compare_kernel(record, result) for result in record.kernels], console)
    for line in kernel_remarks(record):
        console.print(line, markup=False, highlight=False, style="dim")
    for comparison in comparisons(record):
        print_comparison(comparison, console, rows_beside(comparison, beside))


def kernel_remarks(record: Record) -> list[str]:
    """Why operations alone are not there, each reason once."""
    reasons: dict[str, None] = {}
    for result in record.kernels:
        for name, reason in result.absent.items():
            which = f"{result.case.title}, {result.case.precision}: " if name == OURS else ""
            reasons[f"{which}{name}: {reason}"] = None
    return list(reasons)


def new_table(title: str, first: str, headers: list[str]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left",
        box=box.SIMPLE_HEAD, padding=0, pad_edge=False,
    )  # fmt: skip
    table.add_column(first, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def print_kernels(rows: list[KernelRow], console: Console) -> None:
    """A table per precision; times of one launch in µs."""
    for precision in dict.fromkeys(row.case.precision for row in rows):
        of_it = [row for row in rows if row.case.precision == precision]
        contenders = list(dict.fromkeys(name for row in of_it for name in row.seconds))
        headers = [*contenders, "ours / best", "TFLOP/s", "GB/s", "× floor"]
        table = new_table(f"operations alone, {precision}, µs", "", headers)
        for row in of_it:
            table.add_row(row.case.title, *kernel_cells(row, contenders))
        console.print()
        console.print(table)


def kernel_cells(row: KernelRow, contenders: list[str]) -> list[str]:
    times = (row.seconds.get(name) for name in contenders)
    rate = None if row.rate is None else row.rate / (1e12 if row.case.product else 1e9)
    return [
        *(DASH if seconds is None else number(1e6 * seconds) for seconds in times),
        ratio(row.ratio), number(rate if row.case.product else None),
        number(None if row.case.product else rate), number(row.over_floor),
    ]  # fmt: skip


def print_comparison(comparison: Comparison, console: Console, beside: list[Row]) -> None:
    from rich.text import Text

    columns = _gpu_columns(comparison) if comparison.gpu else _columns(comparison)
    table = new_table(comparison.case.title, "", list(columns))
    for row in [*comparison.rows, *beside]:
        style = "bold" if row.peer == OURS else "dim" if row.remark or row in beside else ""
        table.add_row(row.peer, *(cell(row) for cell in columns.values()), style=style)
    console.print()
    console.print(table)
    for line in gpu_lines(comparison):
        console.print(Text(line, style="dim"))
    if said := conclusion(comparison):
        console.print(Text(said, style="bold"))
    for remark in remarks(comparison):
        console.print(Text(remark, style="dim"))


def gpu_lines(comparison: Comparison) -> list[str]:
    """Steps by the GPU's own clock, and what a step or call takes at least."""
    lines, batch, floor = [], comparison.case.batch, comparison.floor
    timed = {row.peer: row.device_rate for row in comparison.rows if row.device_rate}
    if timed:
        times = (f"{peer} {number(1e6 * batch / rate)}" for peer, rate in timed.items())
        lines.append(f"by the GPU's clock, {unit(comparison)}: {', '.join(times)}")
    if floor is not None:
        lines.append(
            f"floor: {number(1e6 * floor.seconds)} µs (arithmetic "
            f"{number(1e6 * floor.arithmetic)}, memory {number(1e6 * floor.memory)}); "
            f"operation by operation {number(1e6 * floor.by_operation)} µs"
        )
    return lines


Columns = dict[str, Callable[[Row], str]]


def _columns(comparison: Comparison) -> Columns:
    return {
        unit(comparison): lambda row: speed(comparison, row),
        "GFLOP/s": lambda row: number(row.gflops),
        "% gemm": _share,
        "ours / peer": lambda row: ratio(row.ratio),
        "MiB": lambda row: DASH if row.memory_mib is None else f"{row.memory_mib:,.0f}",
        "start s": _start,
        "loss": _loss,
    }


def _gpu_columns(comparison: Comparison) -> Columns:
    return {
        unit(comparison): lambda row: speed(comparison, row),
        "% gemm": _share,
        "× floor": lambda row: number(row.over_floor),
        "ours / peer": lambda row: ratio(row.ratio),
        "start": _start,
        "loss": _loss,
    }


def _share(row: Row) -> str:
    return DASH if row.share is None else f"{100 * row.share:.0f}"


def _start(row: Row) -> str:
    return DASH if row.start_s is None else f"{row.start_s:.1f}"


def _loss(row: Row) -> str:
    return DASH if row.loss is None else f"{row.loss:.4f}"
