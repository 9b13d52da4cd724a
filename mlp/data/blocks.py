"""Rows in blocks, for data that is larger than memory: what a source is, and arrays as one.

A block is what can be read for itself: a slice of an array, a row group of a Parquet file.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import as_table, is_table
from mlp.errors import InvalidInput

# Bytes of a block of an array: few enough that a window has many, enough to be read at full speed.
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Piece:
    """Some rows on the host.

    Attributes:
        X: (n, I), an array or a sparse matrix; or a table of n rows, as the network takes it.
        y: their targets, (n,) or (n, O).
        weight: their sample weights (n,), or None.
    """

    X: Any
    y: Any
    weight: HostArray | None = None

    def __len__(self) -> int:
        return len(self.y)


@runtime_checkable
class RowBlocks(Protocol):
    """Rows with their targets, in blocks that are read one at a time.

    Attributes:
        name: what to call them in messages, a file's path for example.
        sizes: rows of each block.
        weighted: whether the pieces have sample weights.
        reading_bytes: what reading takes beside the pieces, about.
    """

    name: str
    sizes: tuple[int, ...]
    weighted: bool
    reading_bytes: int

    def read(self, block: int, rows: int) -> Iterator[Piece]:
        """A block's rows in their order, in pieces of at most `rows` rows.

        Raises:
            InvalidInput: the block cannot be read (any more).
        """

    def where(self, block: int) -> str:
        """What to call a block in an error, as in "rows.parquet, row group 3"."""


class ArrayBlocks:
    """Arrays, also mapped from files (np.memmap), SciPy's sparse matrices and tables as blocks.

    Args:
        X: rows (N, I); or a table of N rows.
        y: targets (N,) or (N, O).
        weight: sample weights (N,), or None.
        name: of the rows in messages.

    Attributes:
        features: I, or the columns of a table.

    What is mapped from a file is read from that file, so that it takes no memory, and so that a
    file that shrinks meanwhile is an error. Raises InvalidInput where the lengths differ.
    """

    reading_bytes = 0

    def __init__(self, X: Any, y: Any, weight: Any = None, name: str = "X") -> None:
        self.name = name
        self._X = X.tocsr() if is_sparse(X) else as_table(X, name) if is_table(X) else _array(X)
        self._y = _array(y)
        self._weight = None if weight is None else _array(weight)
        self.weighted = weight is not None
        if len(self._X.shape) != 2 or 0 in self._X.shape:
            raise InvalidInput(f"{name} must be rows (N, I), not of shape {self._X.shape}")
        for what, array in (("y", self._y), ("sample_weight", self._weight)):
            if array is not None and len(array) != self._X.shape[0]:
                raise InvalidInput(
                    f"{what} has {len(array)} rows, but {name} has {self._X.shape[0]}"
                )
        count, self.features = self._X.shape
        self._rows = max(BLOCK_BYTES // _row_bytes(self._X), 1)
        self.sizes = tuple(min(self._rows, count - i) for i in range(0, count, self._rows))

    def read(self, block: int, rows: int) -> Iterator[Piece]:
        first = block * self._rows
        stop = first + self.sizes[block]
        for start in range(first, stop, rows):
            part = slice(start, min(start + rows, stop))
            weight = None if self._weight is None else _read(self._weight, part)
            yield Piece(_read(self._X, part), _read(self._y, part), weight)

    def bytes_of(self, block: int) -> int:
        """Bytes that a block's rows take."""
        return int(self.sizes[block] * _row_bytes(self._X))

    def where(self, block: int) -> str:
        first = block * self._rows
        return f"{self.name}, rows {first:,} to {first + self.sizes[block] - 1:,}"


def npy_blocks(X: Path, y: Path) -> ArrayBlocks:
    """The rows of one .npy file, and their targets of another.

    Raises:
        InvalidInput: one is missing, or not a .npy file of numbers.
    """
    return ArrayBlocks(open_npy(X), open_npy(y), name=str(X))


def open_npy(path: Path) -> HostArray:
    """The array of a .npy file, mapped; raises InvalidInput where it is none of numbers."""
    try:
        array: HostArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InvalidInput(f"{path}: there is no such file") from None
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise InvalidInput(f"{path}: not a readable .npy file of numbers ({reason})") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path}: an archive of arrays, not a .npy file")
    return array


def row_count(blocks: RowBlocks) -> int:
    """N."""
    return sum(blocks.sizes)


def first_rows(sizes: Sequence[int]) -> list[int]:
    """The number of each block's first row among all rows."""
    return list(accumulate(sizes, initial=0))[:-1]


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array of SciPy, told without loading SciPy."""
    return hasattr(X, "tocsr") and hasattr(X, "nnz")


# --- arrays ---------------------------------------------------------------------------------------


def _array(values: Any) -> HostArray:
    return values if isinstance(values, np.ndarray) else np.asarray(values)


def _row_bytes(X: Any) -> int:
    """Bytes of a row as it is read, at least 1."""
    if is_table(X):
        return max(int(X.nbytes) // len(X), 1)
    row = math.prod(X.shape[1:]) * X.dtype.itemsize
    if isinstance(X, np.memmap):  # rows that are apart in the file are read with what is between
        row = max(row, abs(X.strides[0]))
    return max(int(row), 1)


def _read(array: Any, part: slice) -> Any:
    """Rows of an array, in memory of their own if they come from a file."""
    rows = array[part]
    if not isinstance(rows, np.memmap):
        return rows
    if rows.ndim == 2 and abs(rows.strides[1]) > abs(rows.strides[0]):  # by columns
        return np.stack([_from_file(rows[:, j]) for j in range(rows.shape[1])], axis=1)
    return _from_file(rows)


def _from_file(mapped: HostArray) -> HostArray:
    """A mapped array's elements, read rather than mapped: what is mapped counts as memory."""
    place = _place_in_file(mapped)
    if place is None:
        return np.array(mapped)
    path, start, size, first = place
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read any more: {error.strerror}") from None
    if len(data) < size:
        raise InvalidInput(f"{path}: became shorter while it was read; start again")
    return np.ndarray(mapped.shape, mapped.dtype, data, first, mapped.strides)


def _place_in_file(mapped: Any) -> tuple[str, int, int, int] | None:
    """(path, first byte, bytes, place of the first element among them) of a mapped array.

    None where it is not the file alone that holds it: a copy-on-write map, or none at all.
    """
    mapping, path = getattr(mapped, "_mmap", None), getattr(mapped, "filename", None)
    if mapping is None or path is None or mapped.mode not in ("r", "r+", "w+"):
        return None
    base = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    low, high = np.lib.array_utils.byte_bounds(mapped)
    if not base <= low <= high <= base + len(mapping):
        return None
    # A mapping begins at a multiple of the granularity; an offset is of the array in the file.
    before = _offset_of_mapping(mapped, mapping)
    start = mapped.__array_interface__["data"][0] - low
    return os.fspath(path), before + low - base, high - low, start


def _offset_of_mapping(mapped: Any, mapping: mmap.mmap) -> int:
    # Views keep the offset of the array that they were made from, rounded down it is the mapping's.
    return int(mapped.offset) - int(mapped.offset) % mmap.ALLOCATIONGRANULARITY
