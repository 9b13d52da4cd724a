"""Which of several ways was measured to be the fastest, as data: keys, tables, nearest entries.

Nothing here measures: see `mlp.backends.cuda.choices`.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
FOLDER = Path(__file__).parent / "tuned"

# Sizes beyond this fill any device, and the best tile no longer changes with them.
MOST_SIZE = 1 << 15
# An entry farther away than this, in powers of two over all three sizes, says nothing about a
# product: it may have eight times its tiles, or an eighth.
FARTHEST = 3.0
# How much farther an entry is whose operands are copied otherwise.
OTHER_COPY = 1.0

_PRODUCT = re.compile(r"(\w+) (\d+)x(\d+)x(\d+) (\w+) by (\d+)")


@dataclass(frozen=True)
class ProductKey:
    """A class of products that share a choice; `str` is its key in a table.

    Rows and columns decide how many tiles there are, so they are rounded to a power of two or one
    and a half of one, by at most 23%; the depth, along which each tile goes, to a power of two.

    Attributes:
        operation: linear_forward, linear_delta or linear_grads.
        rows, columns, depth: of the product, rounded.
        numbers: float64, float32, tf32, bfloat16 or float16.
        copy: bytes by which the lines of both operands can be copied.
    """

    operation: str
    rows: int
    columns: int
    depth: int
    numbers: str
    copy: int

    @classmethod
    def of(cls, operation: str, sizes: tuple[int, int, int], numbers: str, copy: int) -> ProductKey:
        """The class of a product of these (rows, columns, depth)."""
        rows, columns, depth = sizes
        return cls(operation, _half_step(rows), _half_step(columns), _step(depth), numbers, copy)

    @classmethod
    def parse(cls, text: str) -> ProductKey | None:
        """The key that reads like this; None if it is no product's."""
        found = _PRODUCT.fullmatch(text)
        if found is None:
            return None
        operation, rows, columns, depth, numbers, copy = found.groups()
        return cls(operation, int(rows), int(columns), int(depth), numbers, int(copy))

    def __str__(self) -> str:
        sizes = f"{self.rows}x{self.columns}x{self.depth}"
        return f"{self.operation} {sizes} {self.numbers} by {self.copy}"

    def distance(self, other: ProductKey) -> float:
        """How unlike two products are; infinite for other operations or numbers."""
        if (self.operation, self.numbers) != (other.operation, other.numbers):
            return math.inf
        pairs = zip(self._sizes, other._sizes, strict=True)
        away = sum(abs(math.log2(mine / theirs)) for mine, theirs in pairs)
        return away + OTHER_COPY * (self.copy != other.copy)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.rows, self.columns, self.depth


def _step(size: int) -> int:
    """The nearest power of two, by ratio, from 8 on."""
    return int(min(max(2 ** round(math.log2(max(size, 1))), 8), MOST_SIZE))


def _half_step(size: int) -> int:
    """The nearest power of two or 1.5 times one, by ratio, from 8 on."""
    size = min(max(size, 8), MOST_SIZE)
    low = 2 ** int(math.log2(size))
    return int(min((low, low * 3 // 2, low * 2), key=lambda step: abs(math.log2(step / size))))


@dataclass(frozen=True)
class Measured:
    """What a measurement found.

    Attributes:
        choice: the name of the fastest.
        microseconds: of each that was tried, by its name.
        date: when, as YYYY-MM-DD.
    """

    choice: str
    microseconds: Mapping[str, float]
    date: str

    def best_of(self, names: Iterable[str]) -> str | None:
        """The choice, or the fastest of what can be had; None if none of them was tried."""
        names = set(names)
        if self.choice in names:
            return self.choice
        tried = [name for name in self.microseconds if name in names]
        return min(tried, key=self.microseconds.__getitem__, default=None)


@dataclass
class Table:
    """Measurements on one device; a JSON file holds one.

    Attributes:
        device: its name.
        capability: its compute capability.
        kernels: digest of the kernels that were measured.
        entries: by key.
    """

    device: str
    capability: tuple[int, int]
    kernels: str
    entries: dict[str, Measured] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What a file holds, as JSON's types; the same table gives the same text."""
        return {
            "format": FORMAT,
            "device": self.device,
            "capability": list(self.capability),
            "kernels": self.kernels,
            "entries": {
                key: {
                    "choice": entry.choice,
                    "microseconds": {k: round(v, 3) for k, v in entry.microseconds.items()},
                    "date": entry.date,
                }
                for key, entry in sorted(self.entries.items())
            },
        }

    @classmethod
    def from_json(cls, value: Any) -> Table:
        """The table that a file holds; ValueError where it holds none of this format."""
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}, not {FORMAT}")
            entries = {
                str(key): Measured(
                    str(entry["choice"]),
                    {str(name): float(time) for name, time in entry["microseconds"].items()},
                    str(entry["date"]),
                )
                for key, entry in value["entries"].items()
            }
            major, minor = map(int, value["capability"])
            return cls(str(value["device"]), (major, minor), str(value["kernels"]), entries)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a table of choices ({error!r})") from error

    def nearest(self, key: str) -> tuple[str, Measured] | None:
        """The entry of the nearest key, if any is near; of a key that is no product's, its own."""
        if key in self.entries:
            return key, self.entries[key]
        wanted = ProductKey.parse(key)
        if wanted is None:
            return None
        others = ((other, ProductKey.parse(other)) for other in sorted(self.entries))
        near = [(wanted.distance(parsed), other) for other, parsed in others if parsed is not None]
        distance, best = min(near, default=(math.inf, ""))
        return (best, self.entries[best]) if distance <= FARTHEST else None


def read_table(path: Path) -> Table:
    """The table in a file; raises OSError, or ValueError, which names it, where it is broken."""
    try:
        return Table.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


@functools.cache
def shipped_tables() -> tuple[Table, ...]:
    """The tables of all devices that were measured; none yet may be there."""
    return tuple(read_table(path) for path in sorted(FOLDER.glob("*.json")))


def tables_for(device: str, capability: tuple[int, int]) -> tuple[Table, ...]:
    """Shipped tables that say something about a device: its own, then those of its generation."""
    found = [table for table in shipped_tables() if table.capability[0] == capability[0]]
    return tuple(sorted(found, key=lambda each: (each.device != device, each.device)))
