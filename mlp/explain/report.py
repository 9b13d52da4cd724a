"""The shape of a worked calculation - sections, steps, lines - as data, as JSON and as text."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

from mlp.explain.notation import number, vector


@dataclass(frozen=True)
class Line:
    """One quantity: its name, the formula with numbers put in, and the result.

    Attributes:
        numbers: the right-hand side in numbers; "" where the value is all there is to say.
        value: the result, a number or a vector; not recomputed from the rounded `numbers`.
        note: a few words after the result.
        sign: what stands between name and numbers: "=" or, for an update, ":=".
    """

    name: str
    numbers: str
    value: float | tuple[float, ...]
    note: str = ""
    sign: str = "="

    def text(self, digits: int) -> str:
        value = self.value
        result = vector(value, digits) if isinstance(value, tuple) else number(value, digits)
        # "z = 6 = 6" says nothing twice.
        middle = f"{self.numbers} = " if self.numbers not in ("", result) else ""
        note = f"   ({self.note})" if self.note else ""
        return f"{self.name} {self.sign} {middle}{result}{note}"


@dataclass(frozen=True)
class Step:
    """A formula in symbols, and the lines that carry it out.

    Attributes:
        title: what is computed.
        symbols: the formula.
        lines: in numbers; `more` further ones are left out.
        why: a sentence that justifies the formula, or "".
    """

    title: str
    symbols: str
    lines: tuple[Line, ...] = ()
    more: int = 0
    why: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A titled part of a walk: sentences, then steps and tables."""

    title: str
    text: tuple[str, ...] = ()
    parts: tuple[Step | Table, ...] = ()


@dataclass(frozen=True)
class Walk:
    """A calculation worked out by hand, as a reader would want to see it.

    Attributes:
        title, sections: the working, shortened where a network is wide.
        values: every number in full, as JSON can hold it.
        digits: decimals that the text shows.
    """

    title: str
    sections: tuple[Section, ...]
    values: dict[str, Any] = field(default_factory=dict)
    digits: int = 8

    def to_json(self) -> dict[str, Any]:
        """The working and all values, of plain dicts, lists, strings and numbers."""
        return {
            "title": self.title,
            "sections": [_section_json(section) for section in self.sections],
            "values": self.values,
        }

    def text(self, width: int = 88) -> str:
        """The working as plain text of at most `width` columns; tables are as wide as they are."""
        title = _wrapped(self.title, width, "", "")
        out = [*title, "=" * max(map(len, title))]
        for section in self.sections:
            out += ["", section.title]
            for sentence in section.text:
                out += _wrapped(sentence, width, "  ", "  ")
            for part in section.parts:
                out += _table(part) if isinstance(part, Table) else self._step(part, width)
        return "\n".join(out) + "\n"

    def _step(self, step: Step, width: int) -> list[str]:
        out = _wrapped(f"{step.title}: {step.symbols}", width, "  ", "      ")
        for line in step.lines:
            out += _wrapped(line.text(self.digits), width, "    ", "        ")
        if step.more:
            out.append(f"    … {step.more} more")
        if step.why:
            out += _wrapped(step.why, width, "    ", "    ")
        return out


def _section_json(section: Section) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in section.parts:
        if isinstance(part, Table):
            parts.append({"header": list(part.header), "rows": [list(row) for row in part.rows]})
            continue
        lines = [
            {
                "name": line.name,
                "numbers": line.numbers,
                "value": list(line.value) if isinstance(line.value, tuple) else line.value,
                "note": line.note,
            }
            for line in part.lines
        ]
        parts.append(
            {
                "title": part.title,
                "symbols": part.symbols,
                "lines": lines,
                "more": part.more,
                "why": part.why,
            }
        )
    return {"title": section.title, "text": list(section.text), "parts": parts}


def _wrapped(sentence: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        sentence,
        max(width, 24),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,  # a minus sign is no place to break a number
    )


def _table(table: Table) -> list[str]:
    rows = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    # The first column names a row; numbers line up on the right.
    return [
        "    "
        + "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
