"""Training rows that stay on the host, in the order of an epoch: those that are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlp import random
from mlp.backends.protocol import HostArray
from mlp.backends.row_stream import RowLayout


class ShuffledRows:
    """Rows in memory, all of them shuffled; see `mlp.backends.row_stream.EpochRows`.

    The order is that of training on the device, `mlp.random.permutation` of the seed and the epoch.

    Args:
        X: rows (N, I), an array of any dtype, or a sparse matrix.
        prepare: makes of some rows what the network takes, (n, I).
        y: targets, labels (N,) int64 or numbers (N, O).
        weight: sample weights (N,), or None.
        dtype: of the network.
        seed: of the order.
        shuffle: False gives the rows in their order.
    """

    def __init__(
        self,
        X: Any,
        prepare: Callable[[Any], HostArray],
        y: HostArray,
        weight: HostArray | None,
        dtype: np.dtype[Any],
        seed: int,
        *,
        shuffle: bool = True,
    ) -> None:
        of_target = dtype if y.dtype.kind == "f" else y.dtype
        self.layout = RowLayout(X.shape[1], dtype, y.shape[1:], of_target, weight is not None)
        self.count = len(y)
        self._X, self._prepare, self._y, self._weight = X, prepare, y, weight
        self._seed, self._shuffle = seed, shuffle
        self._order: HostArray | None = None
        self._weight_now = weight
        self._given = 0

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        if order is None and self._shuffle:
            order = random.permutation(self._seed, epoch, self.count)
        self._order, self._given = order, 0
        self._weight_now = self._weight if weight is None else weight

    def fill(self, X: HostArray, y: HostArray, weight: HostArray | None) -> None:
        rows: Any = slice(self._given, self._given + len(X))
        if self._order is not None:
            rows = self._order[rows]
        X[...] = self._prepare(self._X[rows])
        y[...] = self._y[rows]
        if weight is not None and self._weight_now is not None:
            weight[...] = self._weight_now[rows]
        self._given += len(X)

    def close(self) -> None:
        self._order = None
