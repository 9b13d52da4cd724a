"""Rows and their targets, as every source gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.splitting import split_rows, take
from mlp.data.targets import Task
from mlp.errors import InvalidInput, InvalidSetting


@dataclass(frozen=True)
class Dataset:
    """Rows and their targets.

    Attributes:
        name: the bundled name, the file's path, or "the table".
        X: (N, I), finite numbers; or a pyarrow.Table of N rows, without the target.
        y: class labels (N,), or numbers (N,) or (N, O); None where the source has none.
        task: what y asks for; None without y.
        classes: the distinct labels, sorted, of a classification; else None.
        note: why a target that was there but not asked for could not be read; else "".
        target: the names of y's columns in a table; else none.
        how: how the target of a table was read, for people; else "".
    """

    name: str
    X: Any
    y: HostArray | None
    task: Task | None
    classes: tuple[Any, ...] | None
    note: str = ""
    target: tuple[str, ...] = ()
    how: str = ""

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Rows to train on, and a share of the rows to hold out, by class where there are classes.

        The same rows as `mlp train` takes with the same --validation and --seed.

        Raises:
            InvalidInput: there is no target, too few rows, or a class with a single one.
            InvalidSetting: the share is not in (0, 1).
        """
        if not 0 < share < 1:
            raise InvalidSetting(f"share must be between 0 and 1, not {share!r}")
        y = self.y
        if y is None:
            raise InvalidInput(f"{self.name}: without a target there is nothing to hold out")
        train, rest = (
            replace(self, X=take(self.X, index), y=y[index])
            for index in split_rows(self.name, y, share, seed, self.classes)
        )
        return train, rest


def as_task(data: Dataset, task: Task | None) -> Dataset:
    """The data of arrays, its target read for a task instead of by its dtype; None: as it is.

    Raises:
        InvalidInput: the target does not go with the task.
    """
    y = data.y
    if task is None or y is None or task == data.task:
        return data
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise InvalidInput(f"{data.name}: y holds text, but a regression takes numbers")
        return replace(data, y=y.astype(np.float64), task=task, classes=None)
    if y.ndim == 2:  # a share of each class
        return replace(data, task=task, classes=None)
    if not np.array_equal(y, np.floor(y)):
        raise InvalidInput(f"{data.name}: y holds fractions, which cannot name classes")
    y = y.astype(np.int64)
    return replace(data, y=y, task=task, classes=tuple(np.unique(y).tolist()))
