"""Training rows that the network does not take as they are, fed to steps on the processor."""

from __future__ import annotations

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.backends.row_stream import EpochRows

# Bytes of rows in a chunk: few enough to stay in a cache until the steps read them.
CHUNK_BYTES = 2 * 2**20


class HostStream:
    """See `mlp.backends.row_stream.RowStream`: one chunk of batches, filled when its turn comes.

    Args:
        rows: the data.
        batch_size: rows in a batch.
    """

    def __init__(self, rows: EpochRows, batch_size: int) -> None:
        self._rows, self.rows = rows, rows.count
        batch = min(batch_size, rows.count)
        self._batches = max(CHUNK_BYTES // (batch * rows.layout.row_bytes), 1)
        self._chunk = min(self._batches * batch, rows.count)
        self.X, self.y, self.weight = rows.layout.empty(self._chunk)
        self.order = np.arange(self._chunk)
        self._now: int | None = None

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        self._rows.begin_epoch(epoch, order, weight)
        self._now = None

    def require(self, batch: int) -> int:
        chunk = batch // self._batches
        if chunk != self._now:
            count = min(self._chunk, self.rows - chunk * self._chunk)
            weight = None if self.weight is None else self.weight[:count]
            self._rows.fill(self.X[:count], self.y[:count], weight)
            self._now = chunk
        return (chunk + 1) * self._batches

    def close(self) -> None:
        self._rows.close()
