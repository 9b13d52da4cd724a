"""Training rows that are not placed on the device as a whole: which are not, and how they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.backends.row_stream import EpochRows, HostBatch, RowLayout
from mlp.data.arrays import as_rows, finite_in, require_finite_in, require_rows
from mlp.data.blocks import ArrayBlocks, Piece, RowBlocks, first_rows, is_sparse
from mlp.data.epoch_rows import ShuffledRows
from mlp.data.memory import default_limit, in_words, resident_bytes
from mlp.data.placing import encode_table, preparation, size_on_host
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.data.windows import WindowedRows
from mlp.errors import InvalidInput, InvalidSetting
from mlp.losses import Loss
from mlp.network import Network

# What a process holds before there are any rows. Measured on Linux: 180 MB with kernels from the
# cache, 330 MB where they are compiled, and 70 MB more with pyarrow.
PROCESS_BYTES = 400 * 10**6
# The rows of a window: as many as fill this, or a part of a tight limit. It must not depend on what
# happens to be in memory, since the order of training does on it.
WINDOW_BYTES = 128 * 2**20
LEAST_WINDOW_BYTES = 2**20
SHARE_OF_WINDOW = 0.25
# Of validation rows, what is kept rather than read again.
KEPT_BYTES = 64 * 2**20
# Rows that are read and prepared at once, as float64.
PIECE_BYTES = 8 * 2**20
# Parameters are held so many times: themselves, gradients, two of the optimizer, the best so far.
COPIES_OF_PARAMETERS = 5


def rows_to_stream(
    network: Network,
    loss: Loss,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    planned: bool,
    limit: int | None,
) -> EpochRows | None:
    """The rows to stream, or None for rows that can be on the device as a whole.

    Args:
        network, loss: as they are trained.
        X, y, sample_weight: as `Trainer.fit` takes them.
        batch_size, seed, shuffle: of training.
        planned: whether epochs may have orders of their own, as rows that are read in blocks
            cannot.
        limit: bytes that the process may hold; None for half of the memory.

    Raises:
        InvalidInput: rows or targets that cannot be used, as far as they are looked at now.
        InvalidSetting: a limit that has no room for a window of rows.
    """
    if isinstance(X, RowBlocks):
        if y is not None or sample_weight is not None:
            raise InvalidInput("rows in blocks bring their own y and sample_weight: pass None")
        return windowed(network, loss, X, batch_size, seed, limit, shuffle=shuffle)
    if has_room(network, X, limit):
        return None
    if isinstance(X, np.memmap) and not planned and bytes_needed(network, X) > _room(limit):
        source = ArrayBlocks(X, y, sample_weight)
        return windowed(network, loss, source, batch_size, seed, limit, shuffle=shuffle)
    return _in_memory(network, loss, X, y, sample_weight, seed, shuffle=shuffle)


def has_room(network: Network, X: Any, limit: int | None) -> bool:
    """Whether these rows can be on the device as a whole; sparse ones are not made dense."""
    if is_sparse(X):
        return False
    return bytes_needed(network, X) <= _room(limit) and network.backend.has_room_for(
        size_on_host(X, network.dtype, network.spec.inputs)
    )


def _room(limit: int | None) -> int:
    """What a limit leaves for everything that is not the program."""
    return max((default_limit() if limit is None else limit) - PROCESS_BYTES, 0)


def room_to_keep(limit: int | None) -> int:
    """How many bytes of rows that come in blocks are kept for the next evaluation."""
    return min(KEPT_BYTES, _room(limit) // 8)


def bytes_needed(network: Network, X: Any) -> int:
    """What rows take on the device as a whole, beside what X is in memory: 0 if X itself is used.

    A mapped file's pages count once they are read.
    """
    if not isinstance(X, np.ndarray):
        return 0
    as_it_is = X.dtype == network.dtype and network.preprocessing is None and X.flags.carray
    mapped = X.nbytes if isinstance(X, np.memmap) else 0
    return mapped + (0 if as_it_is else X.size * network.dtype.itemsize)


def _in_memory(
    network: Network, loss: Loss, X: Any, y: Any, sample_weight: Any, seed: int, *, shuffle: bool
) -> ShuffledRows:
    """Rows of which a chunk at a time is converted, standardised, or made dense."""
    preprocessing = network.preprocessing
    if isinstance(preprocessing, TablePreprocessor):
        # A table's columns are next to each other; its rows have to be, to be taken in any order.
        rows = encode_table(X, network.spec.inputs, preprocessing, network.dtype, "X")
        preprocessing = None
    elif is_sparse(X):
        X = X.tocsr()
        require_rows(X.shape, network.spec.inputs, "X")
        if not np.isfinite(X.data).all():
            raise InvalidInput("X holds numbers that are not finite")
        rows = X
    else:
        rows = as_rows(X, network.spec.inputs)
    target = network.check_target(y, rows.shape[0], loss)
    weight = network.check_weight(sample_weight, rows.shape[0])
    for name, values in (("y", target), ("sample_weight", weight)):
        if values is not None and values.dtype.kind == "f":
            require_finite_in(network.dtype, name, finite_in(values, network.dtype))
    convert = preparation(preprocessing, network.dtype, "X")

    def prepare(some: Any) -> HostArray:
        return convert(some.toarray() if is_sparse(some) else some)

    return ShuffledRows(rows, prepare, target, weight, network.dtype, seed, shuffle=shuffle)


# --- blocks ---------------------------------------------------------------------------------------


def windowed(
    network: Network,
    loss: Loss,
    source: RowBlocks,
    batch_size: int,
    seed: int,
    limit: int | None,
    *,
    shuffle: bool,
) -> WindowedRows:
    """The rows of a source, read ahead in windows as large as the limit allows."""
    prepared = PreparedBlocks(network, loss, source)
    window = window_bytes(network, prepared.layout, batch_size, limit, source.reading_bytes)
    rows = max(window // prepared.layout.row_bytes, 1)
    return WindowedRows(
        source.sizes, prepared.read, source.where, prepared.layout, rows, seed, shuffle=shuffle
    )


def window_bytes(
    network: Network, layout: RowLayout, batch_size: int, limit: int | None, reading: int
) -> int:
    """How many bytes of rows a window has.

    Raises:
        InvalidSetting: the limit has no room for a window beside all else.
    """
    # Each row of a batch has its activations, what is saved of them, and deltas.
    batch = 3 * batch_size * sum(network.spec.widths) * network.dtype.itemsize
    own = COPIES_OF_PARAMETERS * network.layout.size * network.dtype.itemsize + batch
    least = max(LEAST_WINDOW_BYTES, layout.row_bytes * batch_size)
    fixed = PROCESS_BYTES + own + reading
    needed = fixed + int(least / SHARE_OF_WINDOW)
    if limit is None:
        return max(WINDOW_BYTES, least)
    if limit < needed:
        raise InvalidSetting(
            f"a memory limit of {in_words(limit)} is too small: about {in_words(PROCESS_BYTES)} "
            f"are taken by the program itself, {in_words(own)} by the network and a batch of "
            f"{batch_size:,} rows, {in_words(needed - PROCESS_BYTES - own)} by reading and rows on "
            f"their way; at least {in_words(needed)} are needed"
        )
    window = int(min(WINDOW_BYTES, SHARE_OF_WINDOW * (limit - fixed)))
    held = resident_bytes()
    if held + 2 * window > limit:
        raise InvalidSetting(
            f"a memory limit of {in_words(limit)} is too small here: the process holds "
            f"{in_words(held)} already, and rows on their way take {in_words(2 * window)}"
        )
    return window


class PreparedBlocks:
    """The blocks of a source as the network takes them.

    Args:
        network: whose preprocessing, classes and target scaler apply.
        loss: says what a target is.
        source: the rows.

    Attributes:
        layout: what the rows look like.

    Raises:
        InvalidInput: the source has no rows, or its first ones cannot be used.
    """

    def __init__(self, network: Network, loss: Loss, source: RowBlocks) -> None:
        self._network, self._loss, self._source = network, loss, source
        self._first = first_rows(source.sizes)
        self._rows = max(PIECE_BYTES // (8 * network.spec.inputs), 1)
        begun = next((k for k, size in enumerate(source.sizes) if size), None)
        if begun is None:
            raise InvalidInput(f"{source.name} has no rows")
        few = next(self.read(begun, 16))
        y, weight = few[1], few[2]
        of_target = network.dtype if y.dtype.kind == "f" else y.dtype
        self.layout = RowLayout(
            network.spec.inputs, network.dtype, y.shape[1:], of_target, weight is not None
        )

    def read(self, block: int, rows: int | None = None) -> Iterator[HostBatch]:
        """A block's rows in order, in pieces."""
        first = self._first[block]
        for piece in self._source.read(block, rows or self._rows):
            if len(piece):
                yield self._prepared(piece, block, first)
                first += len(piece)

    def _prepared(self, piece: Piece, block: int, first: int) -> HostBatch:
        network, where = self._network, self._source.where(block)
        name = f"{where}: X (whose row 0 is row {first:,} of all)" if first else f"{where}: X"
        y_name = name.replace(": X", ": y")
        X = prepared_rows(network, piece.X, name)
        y = network.check_target(piece.y, len(X), self._loss, y_name)
        if y.dtype.kind == "f":
            require_finite_in(network.dtype, y_name, finite_in(y, network.dtype))
        return X, y, _weights(piece.weight, len(X), where)


def prepared_rows(network: Network, X: Any, name: str) -> HostArray:
    """Raw rows on the host as the network takes them, (n, I) in its dtype."""
    if isinstance(network.preprocessing, TablePreprocessor):
        return encode_table(X, network.spec.inputs, network.preprocessing, network.dtype, name)
    rows = as_rows(X.toarray() if is_sparse(X) else X, network.spec.inputs, name)
    return preparation(network.preprocessing, network.dtype, name)(rows)


def _weights(weight: HostArray | None, rows: int, where: str) -> HostArray | None:
    """Sample weights of a piece, all of which may be 0."""
    if weight is None:
        return None
    numbers = np.asarray(weight, np.float64)
    if numbers.shape != (rows,) or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise InvalidInput(f"{where}: sample weights must be finite numbers >= 0, one per row")
    return numbers
