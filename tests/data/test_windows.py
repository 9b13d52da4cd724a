"""The order of an epoch over blocks, against the documented rule written plainly; the thread."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp import random
from mlp.backends.row_stream import RowLayout
from mlp.data import windows
from mlp.data.windows import WindowedRows, windows_of
from mlp.errors import InvalidInput, InvalidSetting

LAYOUT = RowLayout(2, np.dtype(np.float32), (), np.dtype(np.int64), True)
NAMES = "abcdefghijklmnopqrstuvwxyz"


def numbered(first, count):
    """Rows that hold their own number, in X, y and weights."""
    number = np.arange(first, first + count)
    X = np.stack([number, -number], axis=1).astype(np.float32)
    return X, number, number.astype(np.float32)


class Blocks:
    """Blocks of numbered rows, read in small pieces; notes who reads what."""

    def __init__(self, sizes, piece=3):
        self.sizes, self.piece = sizes, piece
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.read_by, self.begun = set(), []

    def read(self, block):
        self.begun.append(block)
        for start in range(0, self.sizes[block], self.piece):
            self.read_by.add(threading.current_thread().name)
            count = min(self.piece, self.sizes[block] - start)
            yield numbered(self.first[block] + start, count)

    def where(self, block):
        return f"block {NAMES[block]}"

    def rows(self, window_rows, **settings):
        return WindowedRows(self.sizes, self.read, self.where, LAYOUT, window_rows, 5, **settings)


def epoch_of(rows, epoch, chunk):
    """The numbers of an epoch's rows, in its order, given out a chunk at a time."""
    rows.begin_epoch(epoch)
    found = []
    for start in range(0, rows.count, chunk):
        X, y, weight = LAYOUT.empty(min(chunk, rows.count - start))
        rows.fill(X, y, weight)
        np.testing.assert_array_equal(X[:, 0], y)
        np.testing.assert_array_equal(-X[:, 1], y)
        np.testing.assert_array_equal(weight, y)
        found.append(y)
    return np.concatenate(found).tolist()


def expected_order(sizes, window_rows, seed, epoch):
    """The rule of mlp/data/windows.py, one row at a time."""
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    windows, open_ = [], []
    for block in random.permutation(seed, epoch, len(sizes), random.PURPOSE_BLOCKS):
        rows = list(range(first[block], first[block + 1]))
        if len(open_) + len(rows) > window_rows:
            windows, open_ = [*windows, open_], []
        while len(rows) > window_rows:
            windows, rows = [*windows, rows[:window_rows]], rows[window_rows:]
        open_ = open_ + rows
    order = []
    for number, window in enumerate([w for w in [*windows, open_] if w]):
        step = epoch * 2**32 + number
        places = random.permutation(seed, step, len(window), random.PURPOSE_WINDOW)
        order += [window[place] for place in places]
    return order


CASES = [
    ([10], 4), ([10], 10), ([10], 100), ([3, 3, 3], 6), ([3, 3, 3], 7), ([1] * 9, 2),
    ([5, 0, 20, 3, 7, 0], 8), ([2, 9, 2], 3), ([4, 4], 1),
]  # fmt: skip


@pytest.mark.parametrize(("sizes", "window_rows"), CASES)
def test_the_order_is_the_documented_one(sizes, window_rows):
    blocks = Blocks(sizes)
    rows = blocks.rows(window_rows)
    try:
        for epoch in (0, 1, 2, 7):
            order = expected_order(sizes, window_rows, 5, epoch)
            assert sorted(order) == list(range(sum(sizes)))
            assert epoch_of(rows, epoch, chunk=4) == order
    finally:
        rows.close()


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_windows_hold_every_row_once_and_no_more_than_allowed(sizes, window_rows, rng):
    order = list(range(len(sizes)))
    rng.shuffle(order)
    found = windows_of(sizes, window_rows, order)
    assert all(0 < sum(map(len, window)) <= window_rows for window in found)
    rows = [(p.block, row) for window in found for p in window for row in range(p.first, p.stop)]
    assert rows == [(block, row) for block in order for row in range(sizes[block])]


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
def test_the_order_does_not_depend_on_how_rows_are_asked_for(chunk):
    sizes = [7, 30, 2, 11]
    rows = Blocks(sizes, piece=chunk).rows(9)
    try:
        assert epoch_of(rows, 3, chunk) == expected_order(sizes, 9, 5, 3)
    finally:
        rows.close()


def test_without_a_shuffle_rows_come_in_their_order():
    rows = Blocks([5, 9, 2]).rows(6, shuffle=False)
    try:
        assert epoch_of(rows, 0, 4) == epoch_of(rows, 1, 5) == list(range(16))
    finally:
        rows.close()


def test_epochs_in_any_order_and_left_half_way():
    sizes = [6, 6, 6, 6]
    rows = Blocks(sizes).rows(6)
    try:
        rows.begin_epoch(4)
        rows.fill(*LAYOUT.empty(7))
        for epoch in (9, 0, 4):
            assert epoch_of(rows, epoch, 5) == expected_order(sizes, 6, 5, epoch)
        rows.close()
        assert epoch_of(rows, 4, 5) == expected_order(sizes, 6, 5, 4)
    finally:
        rows.close()


def test_no_more_than_two_windows_are_in_memory(monkeypatch):
    alive = weakref.WeakSet()

    class Counted(windows._Filled):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.add(self)
            assert len(alive) <= 2

    monkeypatch.setattr(windows, "_Filled", Counted)
    rows = Blocks([6, 6, 6, 6]).rows(6)
    try:
        for epoch in (0, 4, 1):
            rows.begin_epoch(epoch)
            rows.fill(*LAYOUT.empty(7))
        epoch_of(rows, 2, 5)
        assert len(alive) == 2
    finally:
        rows.close()
    assert not alive


def test_a_thread_reads_one_window_ahead_and_no_further():
    blocks = Blocks([4] * 6)
    rows = blocks.rows(4)
    try:
        rows.begin_epoch(0)
        rows.fill(*LAYOUT.empty(1))  # the first window is in use, so the second is being read
        rows._pending[1].result()
        assert len(blocks.begun) == 2
        rows.fill(*LAYOUT.empty(3))  # the first is used up, but its place is not asked for
        assert len(blocks.begun) == 2
        rows.fill(*LAYOUT.empty(1))
        rows._pending[1].result()
        assert len(blocks.begun) == 3
        assert blocks.read_by == {"mlp-read_0"}
    finally:
        rows.close()


def test_the_first_window_of_the_next_epoch_is_read_during_the_last():
    blocks = Blocks([4, 4])
    rows = blocks.rows(4)
    try:
        epoch_of(rows, 0, 4)
        rows._pending[1].result()
        assert len(blocks.begun) == 3
        assert epoch_of(rows, 1, 4) == expected_order([4, 4], 4, 5, 1)
        rows._pending[1].result()
        assert len(blocks.begun) == 5  # two windows, and one of epoch 2
    finally:
        rows.close()


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("mlp-read")}


def test_close_ends_the_thread_in_the_middle_of_a_block():
    entered, go_on = threading.Event(), threading.Event()

    pieces = []

    class Slow(Blocks):
        def read(self, block):
            for rows in super().read(block):
                pieces.append(block)
                entered.set()
                assert go_on.wait(10)
                yield rows

    blocks = Slow([9, 9])
    rows = blocks.rows(9)
    rows.begin_epoch(0)
    assert entered.wait(10)
    threading.Timer(0.05, go_on.set).start()
    rows.close()
    assert not threads()
    assert len(pieces) == 1
    assert rows._current is None
    assert rows._pending is None
    rows.close()  # once more does nothing


def test_an_error_of_the_thread_is_raised_where_its_rows_are_asked_for():
    class Damaged(Blocks):
        def read(self, block):
            for rows in super().read(block):
                yield rows
                if block == 1:
                    raise InvalidInput("block b is damaged")

    rows = Damaged([4, 4, 4]).rows(4, shuffle=False)
    try:
        rows.begin_epoch(0)
        rows.fill(*LAYOUT.empty(4))  # block a is whole
        with pytest.raises(InvalidInput, match="block b is damaged"):
            rows.fill(*LAYOUT.empty(1))
    finally:
        rows.close()
    assert not threads()


def test_a_block_that_became_shorter():
    blocks = Blocks([4, 4])
    rows = blocks.rows(8, shuffle=False)
    blocks.sizes = [4, 3]
    rows._sizes = [4, 4]
    rows._reader._sizes = [4, 4]
    try:
        rows.begin_epoch(0)
        with pytest.raises(InvalidInput, match="block b: has fewer than 4 rows now"):
            rows.fill(*LAYOUT.empty(8))
    finally:
        rows.close()


def test_no_plan_of_an_epoch_can_order_or_weigh_them():
    rows = Blocks([4]).rows(4)
    with pytest.raises(InvalidSetting, match="no plan"):
        rows.begin_epoch(0, order=np.arange(4))
    with pytest.raises(InvalidSetting, match="no plan"):
        rows.begin_epoch(0, weight=np.ones(4))
    assert not threads()
