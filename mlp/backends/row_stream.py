"""Rows fed to a device while it trains: what the data gives out, and what a backend makes of it.

The data side (`EpochRows`) says which rows come next in an epoch, as arrays of the host; the device
side (`RowStream`) has them where the steps read, chunk after chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from mlp.backends.protocol import Array, HostArray

# Rows (n, I), targets (n,) or (n, O), and weights (n,) or None, as the network takes them.
HostBatch: TypeAlias = tuple[HostArray, HostArray, HostArray | None]


@dataclass(frozen=True)
class RowLayout:
    """What rows look like to the network.

    Attributes:
        features: I.
        dtype: of rows, weights, and targets that are numbers.
        target_shape: of one row's target, () or (O,).
        target_dtype: int64 for labels, else dtype.
        weighted: whether there are sample weights.
    """

    features: int
    dtype: np.dtype[Any]
    target_shape: tuple[int, ...]
    target_dtype: np.dtype[Any]
    weighted: bool

    def empty(self, rows: int) -> HostBatch:
        """Arrays for so many rows, with undefined contents."""
        return (
            np.empty((rows, self.features), self.dtype),
            np.empty((rows, *self.target_shape), self.target_dtype),
            np.empty(rows, self.dtype) if self.weighted else None,
        )

    @property
    def row_bytes(self) -> int:
        return sum(array.nbytes for array in self.empty(1) if array is not None)


class EpochRows(Protocol):
    """Training rows that stay on the host, given out in the order of an epoch.

    Attributes:
        count: N.
        layout: what rows look like to the network.
    """

    count: int
    layout: RowLayout

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        """Begins an epoch (from 0), in an order of its own, or in this one, (N,) int64.

        weight (N,) is of this epoch, in place of the rows' own.
        """

    def fill(self, X: HostArray, y: HostArray, weight: HostArray | None) -> None:
        """Writes the next len(X) rows of the epoch, their targets and weights to these arrays."""

    def close(self) -> None:
        """Ends what reads ahead, and lets go of what was read; `begin_epoch` begins anew."""


class RowStream(Protocol):
    """Rows on their way to the device, in chunks of batches, ahead of the steps that take them.

    Attributes:
        rows: N.
        X, y, weight: arrays of the device that hold the rows of a few batches.
        order: int64, the places in these arrays of the epoch's rows: row i is at
            order[i mod len(order)], and no batch crosses the end of it.
    """

    rows: int
    X: Array
    y: Array
    weight: Array | None
    order: Array

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        """`EpochRows.begin_epoch`."""

    def require(self, batch: int) -> int:
        """Has the rows of a batch there when what is queued after this call runs.

        Batches are asked for in order, and all steps of earlier ones are queued before. Returns the
        first batch after it that has to be asked for again.
        """

    def close(self) -> None:
        """`EpochRows.close`."""
