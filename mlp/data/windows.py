"""The order of an epoch over rows that are read in blocks, and a thread that reads ahead.

The rule, for blocks of known sizes and windows of W rows:

1. The blocks are put in the order `mlp.random.permutation(seed, epoch, blocks, PURPOSE_BLOCKS)`.
2. In that order they are joined to windows: a block belongs to the window before it as long as that
   has then no more than W rows. A block of more than W rows is cut, from its first row on, into
   windows of W rows; what is left over of it begins the next window.
3. The rows of window w are put in the order of `permutation(seed, epoch * 2^32 + w, rows,
   PURPOSE_WINDOW)`.
4. Batches are cut from the windows one after another, across their borders.

So the order depends on (seed, epoch, sizes, W) alone: not on the backend, not on any timing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mlp import random
from mlp.backends.protocol import HostArray
from mlp.backends.row_stream import HostBatch, RowLayout
from mlp.errors import InvalidInput, InvalidSetting


@dataclass(frozen=True)
class Part:
    """Rows first, ..., stop - 1 of a block."""

    block: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


Window: TypeAlias = list[Part]


def windows_of(sizes: Sequence[int], window_rows: int, order: Sequence[int]) -> list[Window]:
    """Blocks in an order, joined and cut to windows of at most `window_rows` rows.

    >>> [[(p.block, p.first, p.stop) for p in w] for w in windows_of([3, 2, 7], 5, [0, 1, 2])]
    [[(0, 0, 3), (1, 0, 2)], [(2, 0, 5)], [(2, 5, 7)]]
    """
    windows: list[Window] = [[]]
    for block in order:
        size = sizes[block]
        room = window_rows - sum(map(len, windows[-1]))
        if windows[-1] and size > room:
            windows.append([])
        for first in range(0, size, window_rows):
            if first:
                windows.append([])
            windows[-1].append(Part(block, first, min(first + window_rows, size)))
    return [window for window in windows if window]


class _Closed(Exception):
    """What was being read is not wanted any more."""


class WindowedRows:
    """Rows of a source in the order above; see `mlp.backends.row_stream.EpochRows`.

    While the rows of one window are given out, a thread reads the next one, of the next epoch if it
    was the last: two windows are in memory at most. What goes wrong in the thread is raised where
    its rows are asked for.

    Args:
        sizes: rows of each block.
        read: a block's rows in order, prepared, in pieces; called in the thread.
        where: what to call a block in an error.
        layout: of the rows that `read` yields.
        window_rows: the most rows of a window.
        seed: of the order.
        shuffle: False gives blocks and rows in their order.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        read: Callable[[int], Iterator[HostBatch]],
        where: Callable[[int], str],
        layout: RowLayout,
        window_rows: int,
        seed: int,
        *,
        shuffle: bool = True,
    ) -> None:
        self.count, self.layout = sum(sizes), layout
        self._sizes, self._window_rows = sizes, window_rows
        self._seed, self._shuffle = seed, shuffle
        self._reader = _BlockReader(sizes, read, where)
        self._free: list[_Filled] = []
        self._pool: ThreadPoolExecutor | None = None
        self._pending: tuple[tuple[int, int], Future[_Filled]] | None = None
        self._stop = threading.Event()
        self._windows: list[Window] = []
        self._now: tuple[int, int] = (0, -1)
        self._current: _Filled | None = None
        self._given = 0

    def begin_epoch(
        self, epoch: int, order: HostArray | None = None, weight: HostArray | None = None
    ) -> None:
        if order is not None or weight is not None:
            raise InvalidSetting(
                "rows that are read in blocks have an order and weights of their own: no plan of "
                "an epoch can set them"
            )
        self._drop_current()
        self._windows = self._windows_of(epoch)
        self._now = (epoch, -1)
        self._ask_for(epoch, 0)

    def fill(self, X: HostArray, y: HostArray, weight: HostArray | None) -> None:
        done = 0
        while done < len(X):
            if self._current is None or self._given == self._current.count:
                self._advance()
            assert self._current is not None
            take = slice(done, min(done + self._current.count - self._given, len(X)))
            part = self._current.order[self._given : self._given + take.stop - done]
            wanted = (X, y, weight)
            for source, out in zip(self._current.arrays, wanted, strict=True):
                if source is not None and out is not None:
                    # Row numbers are known to be right; else NumPy would gather in a buffer first.
                    np.take(source, part, axis=0, out=out[take], mode="clip")
            done, self._given = take.stop, self._given + take.stop - done

    def close(self) -> None:
        """Ends the thread, and lets go of what was read."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._reader.close()
        self._pool, self._pending, self._current = None, None, None
        self._free.clear()
        self._stop.clear()

    def _windows_of(self, epoch: int) -> list[Window]:
        blocks = np.arange(len(self._sizes))
        if self._shuffle:
            blocks = random.permutation(self._seed, epoch, len(blocks), random.PURPOSE_BLOCKS)
        return windows_of(self._sizes, self._window_rows, blocks.tolist())

    def _advance(self) -> None:
        """Makes the next window the current one, and has the one after it read."""
        epoch, number = self._now[0], self._now[1] + 1
        self._drop_current()
        self._ask_for(epoch, number)
        assert self._pending is not None
        self._current = self._pending[1].result()
        self._pending, self._now, self._given = None, (epoch, number), 0
        if number + 1 < len(self._windows):
            self._ask_for(epoch, number + 1)
        else:
            self._ask_for(epoch + 1, 0)

    def _drop_current(self) -> None:
        if self._current is not None:
            self._free.append(self._current)
        self._current = None

    def _ask_for(self, epoch: int, number: int) -> None:
        """Has a window read, unless that is what is being read already."""
        if self._pending is not None:
            if self._pending[0] == (epoch, number):
                return
            self.close()  # an epoch was left before its end, or begun that was not the next
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "mlp-read")
        windows = self._windows if self._now[0] == epoch else self._windows_of(epoch)
        filled = self._free.pop() if self._free else _Filled(self.layout, self._most_rows())
        future = self._pool.submit(self._load, windows[number], epoch, number, filled)
        self._pending = (epoch, number), future

    def _most_rows(self) -> int:
        return min(self._window_rows, self.count)

    def _load(self, window: Window, epoch: int, number: int, filled: _Filled) -> _Filled:
        """In the thread: reads the rows of a window, and draws their order."""
        filled.count = 0
        for part in window:
            for rows in self._reader.rows(part):
                if self._stop.is_set():
                    raise _Closed
                filled.append(rows)
        filled.order = np.arange(filled.count)
        if self._shuffle:
            step = epoch << 32 | number
            filled.order = random.permutation(self._seed, step, filled.count, random.PURPOSE_WINDOW)
        return filled


class _Filled:
    """Memory for a window: its rows as they were read, how many, and their order."""

    def __init__(self, layout: RowLayout, rows: int) -> None:
        self.arrays = layout.empty(rows)
        self.count = 0
        self.order: HostArray = np.empty(0, np.int64)

    def append(self, rows: HostBatch) -> None:
        stop = self.count + len(rows[0])
        for array, new in zip(self.arrays, rows, strict=True):
            if array is not None and new is not None:
                array[self.count : stop] = new
        self.count = stop


class _BlockReader:
    """Parts of blocks, read in turn: a block that is cut goes on where its last part ended."""

    def __init__(
        self,
        sizes: Sequence[int],
        read: Callable[[int], Iterator[HostBatch]],
        where: Callable[[int], str],
    ) -> None:
        self._sizes, self._read, self._where = sizes, read, where
        self._place = (-1, 0)  # block, and row in it, that come next
        self._pieces: Iterator[HostBatch] = iter(())
        self._left: HostBatch | None = None

    def rows(self, part: Part) -> Iterator[HostBatch]:
        """The rows of a part, in pieces."""
        if self._place != (part.block, part.first):
            self.close()
            self._pieces, self._place = self._read(part.block), (part.block, 0)
            for _ in self._next(part.block, part.first):
                pass  # rows before the part
        yield from self._next(part.block, len(part))

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._pieces, self._left, self._place = iter(()), None, (-1, 0)

    def _next(self, block: int, count: int) -> Iterator[HostBatch]:
        while count > 0:
            left = self._left
            while left is None or len(left[0]) == 0:
                left = next(self._pieces, None)
                if left is None:
                    raise InvalidInput(
                        f"{self._where(block)}: has fewer than {self._sizes[block]:,} rows now; "
                        "do not change files while they are read"
                    )
            head = _slice(left, 0, count)
            self._left = _slice(left, len(head[0]), len(left[0]))
            self._place = block, self._place[1] + len(head[0])
            count -= len(head[0])
            yield head


def _slice(rows: HostBatch, first: int, stop: int) -> HostBatch:
    X, y, weight = rows
    return X[first:stop], y[first:stop], None if weight is None else weight[first:stop]
