"""Charts as SVG: lines, bars and points, drawn by the page itself without scripts.

Colours are classes of the page's style sheet (`s0` to `s7` for series), so that they suit light and
dark. Each picture has a title and a description for those who do not see it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlp.report.markup import Child, Markup, element
from mlp.report.scales import Scale, fitting, linear, short, thinned

WIDTH, HEIGHT = 360, 235
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 22, 34
SERIES = 8  # colours
MARKED_UP_TO = 12  # points of a line that are drawn as dots, too
_ids = itertools.count()


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points, and its colour's number; `end` labels its last point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    end: str | None = None


@dataclass(frozen=True)
class Mark:
    """A vertical line at a value, with a text."""

    x: float
    text: str


def figure(
    title: str, picture: Child, legend: Iterable[tuple[int, str]] = (), note: str = ""
) -> Markup:
    """A chart under its title, with the colours' names where there are several, and a note."""
    entries = [
        element("li", element("span", class_=f"key s{color % SERIES}"), name)
        for color, name in legend
    ]
    return element(
        "figure",
        element("figcaption", title),
        element("ul", entries, class_="legend") if entries else None,
        picture,
        element("p", note, class_="note") if note else None,
    )


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    mark: Mark | None = None,
    *,
    from_zero: bool = False,
) -> Markup:
    """Lines over whole numbers, as epochs are; upwards from 0, or as suits the values."""
    lines = [line for line in lines if any(map(math.isfinite, line.y))]
    ends = 20 if any(line.end for line in lines) else 0
    points = [value for line in lines for value in line.x] or [0.0]
    x = linear(min(points), max(points), LEFT, WIDTH - RIGHT - ends, whole=True)
    values = [0.0] if from_zero else []
    values += [value for line in lines for value in line.y]
    y = fitting(values, HEIGHT - BOTTOM, TOP, 5)
    drawn: list[Child] = [_axes(x, y, x_label)]
    if mark is not None:
        drawn.append(_mark(mark, x))
    drawn += [_line(line, x, y) for line in lines]
    drawn.append(_ends(lines, x, y))
    return _svg(title, _describe(lines, x_label), drawn)


def bar_chart(
    title: str,
    edges: Sequence[float],
    heights: Sequence[float],
    hints: Sequence[str],
    x_label: str,
    *,
    diagonal: bool = False,
) -> Markup:
    """Bars between edges (one more than bars); with `diagonal` in the unit square, with y = x."""
    x = linear(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    top = 1.0 if diagonal else max([h for h in heights if math.isfinite(h)], default=1.0)
    y = linear(0.0, top or 1.0, HEIGHT - BOTTOM, TOP, 5)
    drawn: list[Child] = [_axes(x, y, x_label)]
    for (left, right), height, hint in zip(itertools.pairwise(edges), heights, hints, strict=True):
        if math.isfinite(height) and height > 0:
            start, upper = x.at(left) + 0.5, y.at(height)
            drawn.append(
                element(
                    "rect", element("title", hint), x=_n(start), y=_n(upper),
                    width=_n(max(x.at(right) - start - 0.5, 0.5)), height=_n(y.start - upper),
                    class_="bar",
                )
            )  # fmt: skip
    if diagonal:
        drawn.append(_diagonal(x, y))
    return _svg(title, f"{len(heights)} bars over {x_label}; the numbers are in the table", drawn)


def scatter_chart(title: str, across: Sequence[float], up: Sequence[float], x_label: str) -> Markup:
    """Points on two scales of the same range, with the line y = x."""
    both = [value for value in (*across, *up) if math.isfinite(value)] or [0.0]
    x = linear(min(both), max(both), LEFT, WIDTH - RIGHT)
    y = linear(min(both), max(both), HEIGHT - BOTTOM, TOP)
    dots = [
        element("circle", cx=_n(x.at(a)), cy=_n(y.at(b)), r="2.4")
        for a, b in zip(across, up, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    drawn = [_axes(x, y, x_label), element("g", dots, class_="dots"), _diagonal(x, y)]
    return _svg(title, f"{len(dots)} points; on the dashed line both are equal", drawn)


def _svg(title: str, description: str, children: Child) -> Markup:
    name = f"chart-{next(_ids)}"
    return element(
        "svg",
        element("title", title, id=f"{name}-t"),
        element("desc", description, id=f"{name}-d"),
        children,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
    )


def _describe(lines: Sequence[Line], x_label: str) -> str:
    """Each line's first, last, lowest and highest finite value."""
    parts = []
    for line in lines:
        finite = [value for value in line.y if math.isfinite(value)]
        parts.append(
            f"{line.name}: from {short(finite[0])} to {short(finite[-1])} over {len(line.y):,} "
            f"{x_label}s, lowest {short(min(finite))}, highest {short(max(finite))}"
        )
    return "; ".join(parts) or "no values"


def _axes(x: Scale, y: Scale, x_label: str) -> Markup:
    grid, texts = [], []
    for tick, label in zip(y.ticks, y.labels, strict=True):
        at = _n(y.at(tick))
        grid.append(element("path", d=f"M{_n(x.start)} {at}H{_n(x.end)}"))
        texts.append(element("text", label, x=_n(x.start - 6), y=at, dy=".32em", class_="y"))
    for tick, label in zip(x.ticks, x.labels, strict=True):
        at = _n(x.at(tick))
        grid.append(element("path", d=f"M{at} {_n(y.start)}v4", class_="tick"))
        texts.append(element("text", label, x=at, y=_n(y.start + 16)))
    texts.append(
        element("text", x_label, x=_n((x.start + x.end) / 2), y=HEIGHT - 3, class_="label")
    )
    base = element("path", d=f"M{_n(x.start)} {_n(y.start)}H{_n(x.end)}", class_="base")
    return element("g", element("g", grid, class_="grid"), base, texts, class_="axes")


def _line(line: Line, x: Scale, y: Scale) -> Markup:
    """A path that is broken where a value is not finite; few points are drawn as dots, too."""
    xs, ys = thinned(line.x, line.y)
    steps, drawing = [], False
    for a, b in zip(xs, ys, strict=True):
        if math.isfinite(b):
            # A point without neighbours shows as a dot: the ends of a line are round.
            steps.append(
                f"L{_n(x.at(a))} {_n(y.at(b))}" if drawing else f"M{_n(x.at(a))} {_n(y.at(b))}h0"
            )
        drawing = math.isfinite(b)
    path = element("path", d="".join(steps), class_=f"line s{line.color % SERIES}")
    if len(xs) > MARKED_UP_TO:
        return path
    dots = [
        element(
            "circle", element("title", f"{line.name}: {short(b)} at {short(a)}"),
            cx=_n(x.at(a)), cy=_n(y.at(b)), r="3.5", class_=f"dot s{line.color % SERIES}",
        )
        for a, b in zip(xs, ys, strict=True)
        if math.isfinite(b)
    ]  # fmt: skip
    return element("g", path, dots)


def _ends(lines: Sequence[Line], x: Scale, y: Scale) -> Markup:
    """The texts at the ends of lines, moved apart where they would touch."""
    wanted = []
    for line in lines:
        finite = [value for value in line.y if math.isfinite(value)]
        if line.end:
            wanted.append((y.at(finite[-1]), line.end))
    texts, free = [], y.start + 12.0
    for at, text in sorted(wanted, reverse=True):  # from the lowest in the picture upwards
        at = min(at, free - 11)
        free = at
        texts.append(element("text", text, x=_n(x.end + 8), y=_n(at), dy=".32em", class_="end"))
    return element("g", texts)


def _mark(mark: Mark, x: Scale) -> Markup:
    at = x.at(mark.x)
    to_the_left = at > (x.start + x.end) / 2
    text = element(
        "text", mark.text, x=_n(at - 5 if to_the_left else at + 5), y=TOP - 9,
        text_anchor="end" if to_the_left else "start",
    )  # fmt: skip
    line = element("path", d=f"M{_n(at)} {TOP - 18}V{HEIGHT - BOTTOM}")
    return element("g", line, text, class_="mark")


def _diagonal(x: Scale, y: Scale) -> Markup:
    return element(
        "path", d=f"M{_n(x.start)} {_n(y.start)}L{_n(x.end)} {_n(y.end)}", class_="diagonal"
    )


def _n(value: float) -> str:
    """A coordinate: one decimal is a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
