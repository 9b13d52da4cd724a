"""A record as a picture: cases beside the fastest of the others, operations over their floors."""

from __future__ import annotations

import io
from typing import Any

from bench.compare import Comparison
from bench.gpu_compare import KernelRow, ceilings_of, compare_kernel
from bench.peers import OURS
from bench.record import Record
from bench.tables import comparisons

FASTER, SLOWER, LINE, TEXT = "#4269d0", "#e07b54", "#bbbbbb", "#444444"
# One marker and one colour per peer, so that they can be told apart without colours too.
MARKS = {
    "torch-eager": ("o", "#ff725c"),
    "torch-compile": ("s", "#a463f2"),
    "torch-graph": ("P", "#ff8ab7"),
    "jax": ("D", "#3ca951"),
    "sklearn": ("^", "#efb118"),
    "cupy-loop": ("X", "#97bbf5"),
    "cublaslt": ("s", "#ff725c"),
    "cublaslt-rounded": ("D", "#efb118"),
}
OTHER = ("v", "#9c9c9c")
BAR_HEIGHT = 0.5


def draw(record: Record) -> bytes | None:
    """PNG bytes, or None where there is nothing to compare."""
    from matplotlib.figure import Figure

    shown = [comparison for comparison in comparisons(record) if comparison.ratio is not None]
    rows = [compare_kernel(record, result) for result in record.kernels]
    alone = [row for row in rows if row.over_floor is not None]
    heights = [count * size for count, size in ((len(shown), 0.42), (len(alone), 0.24)) if count]
    if not heights:
        return None
    figure = Figure(figsize=(8.5, 1.1 + 0.6 * len(heights) + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if shown:
        _draw_cases(panels[0], shown)
    if alone:
        _draw_kernels(panels[-1], record, alone)
    once: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        once |= dict(zip(labels, handles, strict=True))
    figure.legend(
        once.values(), once.keys(), loc="outside lower center", ncols=min(len(once), 6),
        frameon=False,
    )  # fmt: skip
    on = f"{record.machine['cpu']}, threads: {record.settings['threads']}"
    if record.gpu is not None:
        on = record.gpu["name"]
    panels[-1].set_xlabel(f"{on}, {record.date[:10]}", color=TEXT)
    png = io.BytesIO()
    # Without matplotlib's version in the file, equal records give equal pictures.
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return png.getvalue()


def _draw_cases(axes: Any, shown: list[Comparison]) -> None:
    for place, comparison in enumerate(shown):
        _draw_case(axes, place, comparison)
    _decorate(axes, [comparison.case.name for comparison in shown])
    axes.set_title(
        "Speed beside the fastest other library (bar: ours, marks: the others)", fontsize=11
    )


def _draw_kernels(axes: Any, record: Record, rows: list[KernelRow]) -> None:
    """The time of each contender over the least that there can be."""
    for place, row in enumerate(rows):
        ceilings = ceilings_of(record, row.case.precision)
        assert ceilings is not None
        floor = row.case.work.floor(ceilings)
        for name, seconds in row.seconds.items():
            marker, face = ("o", FASTER) if name == OURS else MARKS.get(name, OTHER)
            axes.plot(
                seconds / floor, place, marker, color=face, markeredgecolor="white", markersize=7,
                label=name, linestyle="none", zorder=5 if name == OURS else 4, clip_on=False,
            )  # fmt: skip
    _decorate(axes, [f"{row.case.title}, {row.case.precision}" for row in rows])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title("Operations alone: time over floor", fontsize=11)


def _draw_case(axes: Any, place: int, comparison: Comparison) -> None:
    """Ours as a bar from the best peer at 1, the spread on it, the other peers as marks."""
    ratio = comparison.ratio
    assert ratio is not None
    color = FASTER if ratio.median >= 1 else SLOWER
    axes.barh(place, ratio.median - 1, left=1, height=BAR_HEIGHT, color=color, zorder=2)
    axes.plot([ratio.low, ratio.high], [place, place], color="black", linewidth=1, zorder=3)
    axes.annotate(
        f"{ratio.median:.2f}", (max(ratio.high, 1), place), xytext=(7, 0),
        textcoords="offset points", va="center", weight="bold", color=color,
    )  # fmt: skip
    best = next(row.rate for row in comparison.rows if row.peer == comparison.best)
    for row in comparison.rows:
        if row.peer == OURS or row.rate is None or row.remark or best is None:
            continue
        marker, face = MARKS.get(row.peer, OTHER)
        axes.plot(
            row.rate / best, place, marker, color=face, markeredgecolor="white", markersize=7,
            label=row.peer, linestyle="none", zorder=4, clip_on=False,
        )  # fmt: skip


def _decorate(axes: Any, names: list[str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.axvline(1, color=TEXT, linewidth=1, zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color=LINE, linewidth=0.5, zorder=0)
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
