"""Numbers, sums and indices as they are written on paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from mlp.backends.protocol import HostArray

# Up to this many units, terms or entries are all shown; of more, only a few.
ALL_SHOWN = 4
FEW = 3
ENTRIES_SHOWN = 10


def number(value: float, digits: int) -> str:
    """`value` to `digits` decimals without trailing zeros; tiny and huge ones as 1.2e-7.

    >>> number(0.25, 8), number(-2 / 3, 4), number(1.23e-9, 8)
    ('0.25', '-0.6667', '1.23e-9')
    """
    size = abs(value)
    if size == 0:
        return "0"
    if not 10.0 ** (2 - digits) <= size < 1e7:
        mantissa, _, exponent = f"{value:.{max(digits - 3, 1)}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if exponent else mantissa
    # A probability near 1 must not be written as 1: what is left of 1 - it is the point.
    gap = abs(1 - size)
    if 0 < gap < 10.0 ** (1 - digits):
        digits = 2 - math.floor(math.log10(gap))
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def factor(value: float, digits: int) -> str:
    """`value` as it stands after an operator: a negative number in parentheses."""
    text = number(value, digits)
    return f"({text})" if text.startswith("-") else text


def vector(values: Sequence[float], digits: int) -> str:
    """The first values in brackets, and how many more there are."""
    shown = len(values) if len(values) <= ENTRIES_SHOWN else ALL_SHOWN
    parts = [number(value, digits) for value in values[:shown]]
    if shown < len(values):
        parts.append(f"… {len(values) - shown} more")
    return "[" + ", ".join(parts) + "]"


def joined(terms: Iterable[str], total: int) -> str:
    """Terms with + between them; those of `total` that are left out as an ellipsis."""
    shown = list(terms)
    if total > len(shown):
        left = total - len(shown)
        shown.append(f"… ({left} more {'term' if left == 1 else 'terms'})")
    return " + ".join(shown)


def term_count(n: int) -> int:
    """How many terms of a sum of n are written out."""
    return n if n <= ALL_SHOWN else FEW


def dot(left: HostArray, right: HostArray, digits: int) -> str:
    """Σ left_i · right_i in numbers; of a long sum the first terms."""
    count = term_count(len(left))
    products = (
        f"{factor(float(p), digits)}·{factor(float(q), digits)}"
        for p, q in zip(left[:count], right[:count], strict=True)
    )
    text = joined(products, len(left))
    # The very first factor needs no parentheses.
    return text[1:].replace(")", "", 1) if text.startswith("(-") else text


def bare(text: str) -> str:
    """`text` without the one pair of parentheses around all of it, if there is one.

    >>> bare("(a - y)"), bare("(a - y) / (1 - a)")
    ('a - y', '(a - y) / (1 - a)')
    """
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if 0 < place == len(text) - 1 else text
    return text


def unit(j: int, count: int) -> str:
    """The subscript of unit j (from 0) of `count`: units are numbered from 1, an only one is bare.

    >>> unit(0, 2), unit(0, 1)
    ('_1', '')
    """
    return f"_{j + 1}" if count > 1 else ""


def entry(i: int, j: int, shape: tuple[int, ...]) -> str:
    """The subscript of entry (i, j), from 0, of a matrix: _12, or _12,5 where _125 is ambiguous."""
    if max(shape) == 1:
        return ""
    return f"_{i + 1}{',' if max(shape) > 9 else ''}{j + 1}"


def largest(values: HostArray) -> tuple[int, ...]:
    """Positions, in order, of the entries to show: all of a few, else those largest in size."""
    if len(values) <= ALL_SHOWN:
        return tuple(range(len(values)))
    chosen = np.argsort(-np.abs(values), kind="stable")[:FEW]
    return tuple(sorted(int(i) for i in chosen))
