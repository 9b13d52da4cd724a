"""Which kernels are chosen on a device, and where each choice comes from: for people and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.cuda.choices import TABLE
from mlp.backends.cuda.products import LIBRARY, SIZES, ranked_tiles
from mlp_kernels.cuda.compile import TENSOR_CORES
from mlp_kernels.cuda.tune import ProductKey, Table, tables_for

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

# (rows, columns, depth) of products that are listed in any case.
TYPICAL = ((128, 128, 768), (8192, 1024, 1024), (8192, 8192, 8192))
NUMBERS = {
    "float64": np.float64,
    "float32": np.float32,
    "tf32": np.float32,
    "bfloat16": np.uint16,
    "float16": np.float16,
}


# What `listing` tells.
LISTED = (
    "device", "capability", "library", "measuring", "file", "choices", "remarks", "table",
)  # fmt: skip


def listing(backend: CupyBackend) -> dict[str, Any]:
    """What `mlp devices --kernels` says, as JSON's types.

    `table` is what a file of mlp_kernels/cuda/tuned holds, of all that was measured here.
    """
    on, choices = backend.on, backend.choices
    kept = choices.kept
    measured = kept.table if kept else Table(on.name, on.capability, "")
    return {
        "device": on.name,
        "capability": list(on.capability),
        "library": {
            "name": LIBRARY,
            "version": None if on.library.reason else on.library.version,
            "reason": on.library.reason,
        },
        "measuring": choices.allowed,
        "file": str(kept.path) if kept and kept.path else None,
        "choices": [_row(backend, key) for key in _keys(backend, measured)],
        "remarks": choices.remarks,
        "table": measured.to_json(),
    }


def _keys(backend: CupyBackend, measured: Table) -> Iterator[str]:
    """What was measured here, what the device's own table has, then typical products."""
    own = (t for t in tables_for(backend.on.name, backend.on.capability))
    shipped = [key for table in own if table.device == backend.on.name for key in table.entries]
    numbers = [n for n in NUMBERS if n != "tf32" or backend.on.capability >= TENSOR_CORES]
    typical = [
        str(ProductKey.of(operation, sizes, each, 16))
        for operation, each, sizes in product(SIZES, numbers, TYPICAL)
    ]
    yield from dict.fromkeys((*sorted(measured.entries), *sorted(shipped), *typical))


def _row(backend: CupyBackend, key: str) -> dict[str, Any]:
    choice = asdict(backend.choices.choose(key, _names(backend, key)))
    parsed = ProductKey.parse(key)
    return choice if parsed is None else choice | {"product": asdict(parsed)}


def _names(backend: CupyBackend, key: str) -> tuple[str, ...]:
    """The candidates of a key: of a product's, all; of another's, those that were measured."""
    parsed = ProductKey.parse(key)
    if parsed is None or parsed.numbers not in NUMBERS:
        kept = backend.choices.kept
        tables = (kept.table if kept else None, *tables_for(backend.on.name, backend.on.capability))
        entry = next(table.entries[key] for table in tables if table and key in table.entries)
        return tuple(entry.microseconds) or (entry.choice,)
    device = replace(backend.products.device, tf32=parsed.numbers == "tf32")
    sizes = parsed.rows, parsed.columns, parsed.depth
    tiles = ranked_tiles(device, parsed.operation, sizes, NUMBERS[parsed.numbers], parsed.copy)
    return (*tiles, *(() if backend.on.library.reason else (LIBRARY,)))


def in_words(found: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    capability = ".".join(map(str, found["capability"]))
    library = found["library"]
    lines = [f"{found['device']}, compute capability {capability}"]
    if library["reason"]:
        lines.append(f"{library['name']} is not among the candidates: {library['reason']}")
    else:
        lines.append(f"{library['name']} {library['version']} is among the candidates")
    if found["measuring"]:
        lines.append("what was not measured is measured when a step with it is first recorded")
        lines.append(f"measured choices are kept in {found['file']}")
    else:
        lines.append("MLP_CUDA_TUNE=0: nothing is measured, and what was measured is not used")
    lines += ["", *_table([_cells(row) for row in found["choices"]])]
    return lines + [f"note: {remark}" for remark in found["remarks"]]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    time = "-" if row["microseconds"] is None else f"{row['microseconds']:.1f} us"
    source = " ".join(filter(None, (row["source"], row["date"])))
    if row["note"] and row["source"] != TABLE:
        source += f" ({row['note']})"
    return row["key"], row["name"], time, source


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    rows = [("what", "choice", "time", "from"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        "  ".join((*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]))
        for row in rows
    ]
