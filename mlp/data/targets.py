"""What a column of a table asks for, if it is the target: classes or values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import Table, Values, kind_of, numbers, quoted, require_pyarrow, texts
from mlp.errors import InvalidInput, InvalidSetting, lookup

Task: TypeAlias = Literal["classification", "regression"]

# Whole numbers are classes if there are at most so many, each in that many rows on average.
MOST_CLASSES = 20
ROWS_PER_CLASS = 2


@dataclass(frozen=True)
class ReadTarget:
    """A target and how it was read.

    Attributes:
        y: labels (N,), or numbers (N,) or (N, O) float64.
        task: what it asks for.
        classes: the distinct labels, sorted, of a classification; else None.
        how: what it was found to be and what it is taken for, as half a sentence.
    """

    y: HostArray
    task: Task
    classes: tuple[Any, ...] | None
    how: str


def check_task(task: str | None) -> Task | None:
    """The task itself, or None for whatever the target asks for; else InvalidSetting."""
    if task is None:
        return None
    return lookup("task", task, {name: name for name in get_args(Task)})


def read_target(table: Table, names: Sequence[str], task: Task | None) -> ReadTarget:
    """The target of a table.

    Args:
        names: its columns; several are values that are learned together.
        task: None to go by the column: text, booleans and dictionaries name classes. Whole numbers
            do if there are at most 20 different ones, each in two rows on average; other numbers
            are values.

    Raises:
        InvalidInput: a target that cannot be used, is missing in a row, or does not go with the
            task.
    """
    if len(names) > 1:
        return _several(table, names, task)
    name = names[0]
    values = table.column(name)
    kind = kind_of(name, values.type)
    if kind is None:
        raise InvalidInput(f"the target '{name}' has no value in any row")
    if kind == "number":
        return _numbers(name, values, task)
    if task == "regression":
        held = "text" if kind == "category" else "booleans"
        raise InvalidInput(f"the target '{name}' holds {held}, but a regression takes numbers")
    if kind == "boolean":
        x = numbers(values)
        _require_known(name, np.isnan(x))
        return _classes(name, x == 1, "booleans")
    text = texts(values)
    _require_known(name, np.asarray(text.is_null().to_numpy(zero_copy_only=False), dtype=bool))
    return _classes(name, np.asarray(text.to_pylist()), "text")


def _several(table: Table, names: Sequence[str], task: Task | None) -> ReadTarget:
    if task == "classification":
        raise InvalidSetting("a classification has one target; for several, use regression")
    columns = []
    for name in names:
        values = table.column(name)
        if kind_of(name, values.type) != "number":
            raise InvalidInput(
                f"the target '{name}' holds {values.type}; of several targets, all must be numbers"
            )
        columns.append(_finite(name, values))
    how = f"targets {quoted([*names])}: numbers, learned as values"
    return ReadTarget(np.column_stack(columns), "regression", None, how)


def _numbers(name: str, values: Values, task: Task | None) -> ReadTarget:
    x = _finite(name, values)
    # Integers as they are: float64 would take some large ones for the same.
    integers = require_pyarrow().types.is_integer(values.type)
    y = np.asarray(values.to_numpy()) if integers else x
    whole = bool((x == np.floor(x)).all())
    distinct = len(np.unique(y))
    few = distinct <= MOST_CLASSES and distinct * ROWS_PER_CLASS <= len(x)
    if task == "classification" or (task is None and whole and few):
        if not whole:
            raise InvalidInput(f"the target '{name}' holds fractions, which cannot name classes")
        hint = "; --task regression if they are values" if task is None else ""
        labels = y if integers else y.astype(np.int64)
        return _classes(name, labels, f"{distinct} different whole numbers", hint)
    hint = "; --task classification if they name classes" if whole and task is None else ""
    how = f"target '{name}': {'whole ' if whole else ''}numbers, learned as values{hint}"
    return ReadTarget(x, "regression", None, how)


def _classes(name: str, y: HostArray, found: str, hint: str = "") -> ReadTarget:
    classes = tuple(np.unique(y).tolist())
    how = f"target '{name}': {found}, learned as classes{hint}"
    return ReadTarget(y, "classification", classes, how)


def _finite(name: str, values: Values) -> HostArray:
    x = numbers(values)
    _require_known(name, np.isnan(x))
    if np.isinf(x).any():
        row = int(np.isinf(x).argmax())
        raise InvalidInput(f"the target '{name}' holds {x[row]} at row {row}, not a finite number")
    return x


def _require_known(name: str, missing: HostArray) -> None:
    count = int(np.count_nonzero(missing))
    if count:
        rows = "1 row" if count == 1 else f"{count:,} rows"
        raise InvalidInput(
            f"the target '{name}' is missing in {rows}, first in row {int(missing.argmax())}; fill "
            "it in or remove such rows"
        )
