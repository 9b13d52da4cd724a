"""Rows of blocks that are held out for validation: chosen by their number, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlp import random
from mlp.backends.protocol import HostArray
from mlp.data.arrow import require_pyarrow
from mlp.data.blocks import Piece, RowBlocks, first_rows


def held_out(seed: int, first: int, count: int, share: float) -> HostArray:
    """Whether each of the rows first, ..., first + count - 1 is held out: bool (count,).

    Row i is where word i of `mlp.random.words(seed, PURPOSE_HOLD_OUT, 0, 0)` is below share * 2^32:
    that depends on the seed and its number alone.
    """
    drawn = random.words(seed, random.PURPOSE_HOLD_OUT, 0, 0, count, first)
    return np.asarray(drawn < np.uint64(round(share * 2**32)))


class PartOfBlocks:
    """The rows of a source that are held out, or those that are not; a RowBlocks of its own.

    Args:
        source: all rows.
        share: of the rows that is held out on average, in [0, 1].
        seed: which.
        of_held_out: True for the rows that are held out.
    """

    def __init__(self, source: RowBlocks, share: float, seed: int, *, of_held_out: bool) -> None:
        self.name, self.weighted = source.name, source.weighted
        self.reading_bytes = source.reading_bytes
        self._source, self._share, self._seed = source, share, seed
        self._of_held_out = of_held_out
        self._first = first_rows(source.sizes)
        self.sizes = tuple(
            int(np.count_nonzero(self._taken(first, size)))
            for first, size in zip(self._first, source.sizes, strict=True)
        )

    def read(self, block: int, rows: int) -> Iterator[Piece]:
        if not self.sizes[block]:
            return
        first = self._first[block]
        for piece in self._source.read(block, rows):
            taken = self._taken(first, len(piece))
            first += len(piece)
            yield Piece(
                rows_where(piece.X, taken), piece.y[taken],
                None if piece.weight is None else piece.weight[taken],
            )  # fmt: skip

    def where(self, block: int) -> str:
        return self._source.where(block)

    def _taken(self, first: int, count: int) -> HostArray:
        out = held_out(self._seed, first, count, self._share)
        return out if self._of_held_out else ~out


def rows_where(X: Any, taken: HostArray) -> Any:
    """The rows of an array, a sparse matrix or a table for which `taken` is true."""
    if hasattr(X, "num_rows"):
        return X.filter(require_pyarrow().array(taken))
    return X[taken]
