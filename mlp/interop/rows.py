"""Rows to compare two forms of a network on: random ones, and the edges of what it may be given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp import random
from mlp.backends.protocol import HostArray
from mlp.data.arrow import require_pyarrow
from mlp.data.columns import Column
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.network import Network

EDGE_ROWS = 8
TINY = 1e-30
# In standard deviations. So far out that every unit is at one of its ends, where numbers half as
# large would put some of them in between, with no digit of theirs left to compare.
HUGE = 1e15
UNSEEN = "not seen in training"


@dataclass(frozen=True)
class Rows:
    """Some rows in every form that they are needed in; all numbers are exact in float32.

    Attributes:
        kind: "random", "zeros", "tiny", "negative", "huge"; of tables also "missing", "unseen".
        X: as the network takes them: an array (N, I), or a table.
        feeds: by input of an ONNX file: float64 (N, I) or (N, 1), NaN where missing; or text
            (N, 1), "" where missing.
    """

    kind: str
    X: Any
    feeds: dict[str, HostArray]

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))


def comparison_rows(network: Network, count: int, seed: int) -> Iterator[Rows]:
    """`count` random rows around the mean of the training rows, and a few of each edge."""
    found = network.preprocessing
    kinds = {"random": count, "zeros": 1, **dict.fromkeys(("tiny", "negative", "huge"), EDGE_ROWS)}
    if isinstance(found, TablePreprocessor):
        kinds |= {"missing": 1}
        if not found.takes_arrays:
            kinds |= {"unseen": EDGE_ROWS}
        for kind, rows in kinds.items():
            yield _table_rows(kind, rows, found, seed)
        return
    width = network.spec.inputs
    mean, scale = (0.0, 1.0) if found is None else (found.mean, found.scale)
    for kind, rows in kinds.items():
        drawn = random.normal(seed, random.PURPOSE_CHECK, 0, rows * width).reshape(rows, width)
        X = _numbers(kind, drawn, mean, scale)
        yield Rows(kind, X, {"X": X})


def _numbers(kind: str, drawn: HostArray, mean: Any, scale: Any) -> HostArray:
    """Raw numbers of a kind, from standard normal ones."""
    made = mean + scale * drawn
    if kind in ("zeros", "tiny"):
        made = drawn * (TINY if kind == "tiny" else 0)
    elif kind == "negative":
        made = -np.abs(made)
    elif kind == "huge":
        made = HUGE * np.minimum(scale, 1) * drawn
    elif kind == "missing":
        made = np.full(drawn.shape, np.nan)
    exact: HostArray = made.astype(np.float32).astype(np.float64)
    return exact


def _table_rows(kind: str, rows: int, found: TablePreprocessor, seed: int) -> Rows:
    values = {
        column.name: _column(kind, rows, column, seed, i) for i, column in enumerate(found.columns)
    }
    feeds = {name: of_column[:, None] for name, of_column in values.items()}
    if found.takes_arrays:
        return Rows(kind, np.column_stack([*values.values()]), feeds)
    return Rows(kind, _table(found.columns, values), feeds)


def _column(kind: str, rows: int, column: Column, seed: int, number: int) -> HostArray:
    """Raw values (N,); where training had missing ones, about a tenth of the random ones are."""
    uniform = random.uniform(seed, random.PURPOSE_CHECK, 2 * number, rows)
    values: HostArray
    if column.kind == "category":
        choices = {"missing": [""], "unseen": [UNSEEN]}.get(kind, [*column.categories])
        picked = [choices[int(u * len(choices))] for u in uniform]
        values = np.array(picked, dtype=object)
    elif column.kind == "boolean":
        values = np.full(rows, np.nan) if kind == "missing" else (uniform < 0.5).astype(np.float64)
    else:
        raw = (column.mean, column.scale) == (0, 1)  # taken as they are
        drawn = random.normal(seed, random.PURPOSE_CHECK, 2 * number, rows)
        values = _numbers(kind, drawn, column.fill if raw else column.mean, column.scale)
    if kind == "random" and column.missing:
        absent = random.uniform(seed, random.PURPOSE_CHECK, 2 * number + 1, rows) < 0.1
        values[absent] = "" if column.kind == "category" else np.nan
    return values


def _table(columns: Sequence[Column], values: dict[str, HostArray]) -> Any:
    pyarrow = require_pyarrow()
    arrays = []
    for column in columns:
        of_column = values[column.name]
        if column.kind == "category":
            # "" is a missing value unless it is a category itself.
            texts = [v if v or "" in column.categories else None for v in of_column]
            arrays.append(pyarrow.array(texts, type=pyarrow.string()))
        else:
            arrays.append(pyarrow.array(of_column, from_pandas=True))  # NaN as missing
    return pyarrow.table(arrays, names=[column.name for column in columns])
