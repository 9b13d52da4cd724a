"""Rows held out for validation: which, and how they are taken from arrays and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import shown
from mlp.errors import InvalidInput


def split_rows(
    name: str, y: HostArray, share: float, seed: int, classes: Sequence[Any] | None
) -> tuple[HostArray, HostArray]:
    """The rows to train on and those to hold out, shuffled; the same for the same seed.

    Args:
        name: of the data, for errors.
        y: targets (N,) or (N, O).
        share: of the rows to hold out, in (0, 1).
        seed: of the shuffle.
        classes: of y, if it has classes: then each is held out in proportion.

    Returns:
        Row numbers, int64.

    Raises:
        InvalidInput: too few rows, or a class with a single one.
    """
    from sklearn.model_selection import train_test_split  # deferred: slow to import

    rows = len(y)
    held_out = math.ceil(share * rows)
    if classes is not None:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < 2:
            label = shown(labels[counts.argmin()])
            text = labels.dtype.kind in "OU"
            named, values = (f"'{label}'", "") if text else (label, ", or --loss mse for values")
            raise InvalidInput(
                f"{name}: only one row has the class {named}, of {len(labels)} classes, so none "
                f"can be held out; give it more rows, or pass --validation 0{values}"
            )
    least = 1 if classes is None else len(np.unique(y))
    if min(held_out, rows - held_out) < least:
        raise InvalidInput(
            f"{name}: {share:g} of {rows:,} {'row' if rows == 1 else 'rows'} leaves too few on one "
            "side; change --validation"
        )
    train, test = train_test_split(
        np.arange(rows), test_size=share, random_state=seed % 2**32,
        stratify=None if classes is None else y,
    )  # fmt: skip
    return train, test


def take(rows: Any, index: HostArray) -> Any:
    """Some rows of an array or of a pyarrow.Table."""
    return rows[index] if isinstance(rows, np.ndarray) else rows.take(index)
