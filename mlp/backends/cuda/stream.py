"""Training rows that are too many for the device: they stay on the host, and are fed to it.

The device has room for two chunks of batches. While the steps of one run, the rows of the next are
gathered on the host into pinned memory and copied on a stream of their own. The steps know nothing
of it: a row's place in this ring, its place in the epoch modulo the ring's size, is what they take
for the epoch's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlp import random
from mlp.backends.protocol import Array, HostArray, HostRows
from mlp_kernels.cuda import control

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

# Bytes of rows in a chunk: many enough that a copy runs at full speed, few enough to be pinned.
CHUNK_BYTES = 64 * 2**20
# How much of what is free both chunks may take, where that is little.
SHARE_OF_CHUNKS = 0.5


class Ring:
    """One array of the data: two chunks of it on the device, and the pinned memory that feeds them.

    Args:
        backend: whose device it is.
        rows: of a chunk.
        shape: of one row.
        dtype: on the device.
    """

    def __init__(
        self, backend: CupyBackend, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._rows, self._on = rows, backend.on
        self.array = backend.empty((2 * rows, *shape), dtype)
        self._pinned = [backend.on.pinned((rows, *shape), dtype) for _ in range(2)]

    def feed(self, slot: int, rows: HostArray, stream: Any) -> None:
        """Queues the copy of a chunk's rows to its half."""
        count = len(rows)
        pinned = self._pinned[slot][:count]
        pinned[...] = rows
        first = slot * self._rows
        self._on.upload(pinned, self.array[first : first + count], stream)


class RowStream:
    """See `mlp.backends.protocol.RowStream`.

    Args:
        backend: whose device is fed.
        rows: the data.
        dtype: of rows and values on the device.
        batch_size: rows in a batch.
        seed: of the shuffles.
    """

    def __init__(
        self,
        backend: CupyBackend,
        rows: HostRows,
        dtype: np.dtype[Any],
        batch_size: int,
        seed: int,
    ) -> None:
        self._on, self._rows, self._seed = backend.on, rows, seed
        self._count = len(rows.X)
        batch = min(batch_size, self._count)
        row_bytes = rows.X.shape[1] * dtype.itemsize
        chunk_bytes = min(CHUNK_BYTES, int(SHARE_OF_CHUNKS / 2 * backend.on.free_bytes))
        self._batches = max(chunk_bytes // (batch * row_bytes), 1)
        chunk = self._chunk = min(self._batches * batch, self._count)
        of_target = dtype if rows.y.dtype.kind == "f" else rows.y.dtype
        self._rings = [
            Ring(backend, chunk, rows.X.shape[1:], dtype),
            Ring(backend, chunk, rows.y.shape[1:], of_target),
        ]
        if rows.weight is not None:
            self._rings.append(Ring(backend, chunk, (), dtype))
        self.X, self.y = self._rings[0].array, self._rings[1].array
        self.weight: Array | None = self._rings[2].array if rows.weight is not None else None
        self.order = backend.empty((self._count,), np.int64)
        backend.on.submit(control.fill_in_turn(self.order, 2 * chunk))
        self._stream = backend.on.new_stream()
        self._copied = [backend.on.event() for _ in range(2)]
        self._used = [backend.on.event() for _ in range(2)]
        self._now: int | None = None
        self._last_slot = 0
        self._order: HostArray = np.empty(0, np.int64)

    def begin_epoch(self, epoch: int) -> None:
        self._order = random.permutation(self._seed, epoch, self._count)
        self._now = None

    def require(self, batch: int) -> None:
        chunk = batch // self._batches
        if chunk == self._now:
            return
        slot, on = chunk % 2, self._on
        # All steps that read the chunk before this one are queued by now.
        on.record(self._used[self._last_slot])
        on.wait_on_host(self._copied[slot])  # until then its pinned memory is still read
        on.wait(self._used[slot], self._stream)
        try:
            for ring, rows in zip(self._rings, self._gathered(chunk), strict=True):
                ring.feed(slot, rows, self._stream)
            on.record(self._copied[slot], self._stream)
            on.wait(self._copied[slot])
        except BaseException:
            # Nothing waits for a copy that was begun, and its memory may be given away.
            self._stream.synchronize()
            raise
        self._now, self._last_slot = chunk, slot

    def _gathered(self, chunk: int) -> list[HostArray]:
        """The chunk's rows on the host: of X as the network takes them, of y and the weights."""
        index = self._order[chunk * self._chunk : (chunk + 1) * self._chunk]
        rows = self._rows
        found = [rows.prepare(rows.X[index]), rows.y[index]]
        if rows.weight is not None:
            found.append(rows.weight[index])
        return found
