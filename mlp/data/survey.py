"""What has to be known of rows in blocks before training on them, learned in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import as_rows
from mlp.data.arrow import quoted, require_pyarrow
from mlp.data.blocks import ArrayBlocks, RowBlocks, first_rows
from mlp.data.holdout import PartOfBlocks, held_out, rows_where
from mlp.data.moments import Moments
from mlp.data.parquet_blocks import ParquetBlocks
from mlp.data.placing import Preprocessing
from mlp.data.preprocessing import Standardizer
from mlp.data.reading import Progress, ignore
from mlp.data.table_preprocessing import Learner
from mlp.data.targets import MOST_CLASSES, ROWS_PER_CLASS, Task
from mlp.errors import InvalidInput, require_in

# Of rows that are looked at at once, as float64.
PIECE_BYTES = 8 * 2**20
# Pieces of a table that are held out are joined when there are so many: each column of each piece
# takes some hundred bytes beside its values.
MOST_PIECES = 32
# Labels are kept: more are a mistake, or too many for an output each.
MOST_LABELS = 100_000


@dataclass
class TargetSurvey:
    """A target that comes in parts: see `mlp.data.targets.read_target`, whose rules these are.

    Attributes:
        what: to call it in messages.
        task: what it is read for; None to go by the target.
        by_dtype: whether floats are values however few different ones there are, as in arrays.
        rows: so far.
        moments: of each of its numbers, over the rows to train on.
    """

    what: str
    task: Task | None
    by_dtype: bool = False
    rows: int = 0
    kind: str = ""
    width: int | None = None
    whole: bool = True
    labels: set[Any] = field(default_factory=set)
    moments: list[Moments] = field(default_factory=list)

    def update(self, y: HostArray, training: HostArray) -> None:
        """Takes in targets (n,) or (n, O), of which those where `training` is true are trained on.

        Raises:
            InvalidInput: numbers that are not finite, fractions as classes, too many labels.
        """
        before, self.rows = self.rows, self.rows + len(y)
        if y.dtype.kind not in "biufU":
            raise InvalidInput(f"{self._it} holds {y.dtype}, not numbers, booleans or text")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            bad = np.argwhere(~np.isfinite(y))[0]
            raise InvalidInput(
                f"{self._it} holds {y[tuple(bad)]} at row {before + bad[0]:,} of all; fill it in "
                "or remove such rows"
            )
        self.kind, self.width = y.dtype.kind, None if y.ndim == 1 else y.shape[1]
        if y.dtype.kind == "f":
            self.whole = self.whole and bool((y == np.floor(y)).all())
        if self.task == "classification" and self.width is None and not self.whole:
            raise InvalidInput(f"{self._it} holds fractions, which cannot name classes")
        if self.task == "regression" and y.dtype.kind in ("U" if self.by_dtype else "bU"):
            held = "text" if y.dtype.kind == "U" else "booleans"
            raise InvalidInput(f"{self._it} holds {held}, but a regression takes numbers")
        if self._may_name_classes:
            labels = np.unique(y.astype(np.int64) if y.dtype.kind == "f" else y)
            self.labels.update(labels.tolist())
            if len(self.labels) > MOST_LABELS:
                raise InvalidInput(f"{self._it} has more than {MOST_LABELS:,} different labels")
        if y.dtype.kind != "U":
            columns = y.reshape(len(y), -1)[training].astype(np.float64)
            self.moments = self.moments or [Moments() for _ in range(columns.shape[1])]
            for moments, column in zip(self.moments, columns.T, strict=True):
                moments.update(np.ascontiguousarray(column))

    @property
    def _it(self) -> str:
        return self.what if self.by_dtype else f"the {self.what}"

    @property
    def _may_name_classes(self) -> bool:
        """As far as is known so far."""
        if self.width is not None or self.task == "regression" or not self.whole:
            return False
        if self.task == "classification" or self.kind in "bU":
            return True
        return self.kind != "f" if self.by_dtype else len(self.labels) <= MOST_CLASSES

    @property
    def is_classes(self) -> bool:
        if not self._may_name_classes:
            return False
        if self.task == "classification" or self.kind in "bU" or self.by_dtype:
            return True
        return len(self.labels) * ROWS_PER_CLASS <= self.rows

    @property
    def classes(self) -> tuple[Any, ...]:
        return tuple(sorted(self.labels))

    @property
    def how(self) -> str:
        """How it was read, for people."""
        if self.is_classes:
            found = {"U": "text", "b": "booleans"}.get(
                self.kind, f"{len(self.labels)} different whole numbers"
            )
            hint = "; --task regression if they are values" if self.task is None else ""
            return f"{self.what}: {found}, learned as classes{hint if self.kind in 'iuf' else ''}"
        whole = "whole " if self.whole and self.width is None else ""
        hint = "; --task classification if they name classes" if whole and not self.task else ""
        return f"{self.what}: {whole}numbers, learned as values{hint}"

    @property
    def means(self) -> HostArray:
        return np.array([m.average for m in self.moments])

    @property
    def scaler(self) -> Standardizer:
        return Standardizer(self.means, np.array([m.deviation for m in self.moments]))


@dataclass(frozen=True)
class Survey:
    """What a pass over all rows found.

    Attributes:
        training: the rows to train on.
        target: of all rows; its moments are of those to train on.
        preprocessing: learned from the rows to train on; None for arrays that are not standardised.
        validation: the rows held out, an array or a table in memory, and their targets; or None.
    """

    training: RowBlocks
    target: TargetSurvey
    preprocessing: Preprocessing | None
    validation: tuple[Any, HostArray] | None


def survey(
    source: ParquetBlocks | ArrayBlocks,
    share: float = 0.0,
    seed: int = 0,
    *,
    task: Task | None = None,
    standardize: bool = True,
    progress: Progress = ignore,
) -> Survey:
    """Reads all rows once, to learn what has to be known before they are trained on.

    Args:
        source: a ParquetBlocks, or an ArrayBlocks.
        share: of the rows, in [0, 1), that is held out as `mlp.data.holdout` says, and kept in
            memory; 0 for none.
        seed: which rows are held out.
        task: "classification" or "regression"; None for what the target asks for.
        standardize: whether numbers are standardised.
        progress: called with the bytes that were read, and those of all rows.

    Raises:
        InvalidInput: rows that nothing can be learned from; names the column.
    """
    require_in("share", share, 0, 1, open_high=True)
    columns: _Tables | _Arrays
    if isinstance(source, ParquetBlocks):
        columns = _Tables(source, standardize)
        target = TargetSurvey(f"target {quoted([*source.target])}", task)
    else:
        columns = _Arrays(standardize)
        target = TargetSurvey("y", task, by_dtype=True)
    taken: list[tuple[Any, HostArray]] = []
    rows = max(PIECE_BYTES // (8 * source.features), 1)
    total = sum(source.bytes_of(block) for block in range(len(source.sizes)))
    done = 0
    for block, first in enumerate(first_rows(source.sizes)):
        at, size = first, source.bytes_of(block)
        for piece in source.read(block, rows):
            out = held_out(seed, at, len(piece), share)
            at += len(piece)
            _explained(source, block, target, piece.y, ~out)
            columns.update(rows_where(piece.X, ~out), source.where(block))
            if out.any():
                taken.append((rows_where(piece.X, out), piece.y[out]))
            if len(taken) == MOST_PIECES:
                taken = [_joined(columns, taken)]
            progress(done + size * (at - first) // source.sizes[block], total)
        done += size
    held = None
    if taken:
        held = _joined(columns, taken)
    training: RowBlocks = source
    if held is not None:
        training = PartOfBlocks(source, share, seed, of_held_out=False)
    return Survey(training, target, columns.finish(source.name), held)


def _joined(
    columns: _Tables | _Arrays, pieces: list[tuple[Any, HostArray]]
) -> tuple[Any, HostArray]:
    return columns.joined([X for X, _ in pieces]), np.concatenate([y for _, y in pieces])


def _explained(
    source: RowBlocks, block: int, target: TargetSurvey, y: HostArray, training: HostArray
) -> None:
    try:
        target.update(np.asarray(y), training)
    except InvalidInput as error:
        raise InvalidInput(f"{source.where(block)}: {error}") from None


class _Tables:
    """Columns of tables."""

    def __init__(self, source: ParquetBlocks, standardize: bool) -> None:
        self._learner = Learner(source.columns, standardize)

    def update(self, batch: Any, where: str) -> None:
        try:
            self._learner.update(batch)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None

    def finish(self, name: str) -> Preprocessing:
        try:
            return self._learner.finish()
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from None

    def joined(self, parts: Sequence[Any]) -> Any:
        pyarrow = require_pyarrow()
        tables = [
            part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part])
            for part in parts
        ]
        return pyarrow.concat_tables(tables, promote_options="permissive").combine_chunks()


class _Arrays:
    """Features of arrays."""

    def __init__(self, standardize: bool) -> None:
        self._standardize = standardize
        self._moments: list[Moments] = []

    def update(self, X: HostArray, where: str) -> None:
        if not self._standardize or not len(X):
            return
        X = as_rows(X, name=f"{where}: X")
        self._moments = self._moments or [Moments() for _ in range(X.shape[1])]
        for moments, column in zip(self._moments, X.T, strict=True):
            moments.update(column.astype(np.float64))

    def finish(self, name: str) -> Preprocessing | None:
        if not self._standardize:
            return None
        return Standardizer(
            np.array([m.average for m in self._moments]),
            np.array([m.deviation for m in self._moments]),
        )

    def joined(self, parts: Sequence[HostArray]) -> HostArray:
        return np.concatenate(parts)
