"""Training rows that are too many for the device: they stay on the host, and are fed to it.

The device has room for two chunks of batches. While the steps of one run, the rows of the next are
gathered on the host into pinned memory and copied on a stream of their own. The steps know nothing
of it: a row's place in this ring, its place in the epoch modulo the ring's size, is what they take
for the epoch's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.protocol import Array, HostArray
from mlp.backends.row_stream import EpochRows
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

    def pinned(self, slot: int, count: int) -> HostArray:
        """The host's side of a half, for so many rows."""
        return self._pinned[slot][:count]

    def feed(self, slot: int, count: int, stream: Any) -> None:
        """Queues the copy of what `pinned` holds to its half."""
        first = slot * self._rows
        self._on.upload(self.pinned(slot, count), self.array[first : first + count], stream)


class RowStream:
    """See `mlp.backends.row_stream.RowStream`.

    Args:
        backend: whose device is fed.
        rows: the data.
        batch_size: rows in a batch.
    """

    def __init__(self, backend: CupyBackend, rows: EpochRows, batch_size: int) -> None:
        self._on, self._rows, self.rows = backend.on, rows, rows.count
        layout, batch = rows.layout, min(batch_size, rows.count)
        chunk_bytes = min(CHUNK_BYTES, int(SHARE_OF_CHUNKS / 2 * backend.on.free_bytes))
        row_bytes = layout.features * layout.dtype.itemsize
        self._batches = max(chunk_bytes // (batch * row_bytes), 1)
        chunk = self._chunk = min(self._batches * batch, rows.count)
        self._rings = [
            Ring(backend, chunk, (layout.features,), layout.dtype),
            Ring(backend, chunk, layout.target_shape, layout.target_dtype),
        ]
        if layout.weighted:
            self._rings.append(Ring(backend, chunk, (), layout.dtype))
        self.X, self.y = self._rings[0].array, self._rings[1].array
        self.weight: Array | None = self._rings[2].array if layout.weighted else None
        self.order = backend.empty((2 * chunk,), np.int64)
        backend.on.submit(control.fill_in_turn(self.order, 2 * chunk))
        self._stream = backend.on.new_stream()
        self._copied = [backend.on.event() for _ in range(2)]
        self._used = [backend.on.event() for _ in range(2)]
        self._now: int | None = None
        self._last_slot = 0

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        self._rows.begin_epoch(epoch, order, weight)
        self._now = None

    def require(self, batch: int) -> int:
        chunk = batch // self._batches
        if chunk != self._now:
            self._feed(chunk)
        return (chunk + 1) * self._batches

    def close(self) -> None:
        self._rows.close()

    def _feed(self, chunk: int) -> None:
        slot, on = chunk % 2, self._on
        # All steps that read the chunk before this one are queued by now.
        on.record(self._used[self._last_slot])
        on.wait_on_host(self._copied[slot])  # until then its pinned memory is still read
        on.wait(self._used[slot], self._stream)
        count = min(self._chunk, self.rows - chunk * self._chunk)
        X, y, *weight = (ring.pinned(slot, count) for ring in self._rings)
        self._rows.fill(X, y, weight[0] if weight else None)
        try:
            for ring in self._rings:
                ring.feed(slot, count, self._stream)
            on.record(self._copied[slot], self._stream)
            on.wait(self._copied[slot])
        except BaseException:
            # Nothing waits for a copy that was begun, and its memory may be given away.
            self._stream.synchronize()
            raise
        self._now, self._last_slot = chunk, slot
