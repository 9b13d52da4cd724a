"""Tables as a network takes them: learned from training rows, kept with the model as plain data.

>>> import mlp, pyarrow
>>> people = pyarrow.table({"age": [20, None, 40], "town": ["Oslo", "Rome", "Oslo"]})
>>> prepared = mlp.TablePreprocessor.fit(people)
>>> prepared.features
('age', 'age is missing', 'town = Oslo', 'town = Rome')
>>> prepared.transform(people).tolist()
[[-1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import host_array
from mlp.data.arrow import (
    Kind,
    Table,
    Values,
    as_table,
    is_table,
    kind_of,
    numbers,
    quoted,
    require_unique,
    texts,
)
from mlp.data.columns import Column, require_no_numbers
from mlp.data.moments import Moments
from mlp.errors import InvalidInput, unknown_name

# A column of more categories than this, or of one for every other row, is taken for an id or text.
MOST_CATEGORIES = 1000
FEW_CATEGORIES = 20


@dataclass(frozen=True)
class TablePreprocessor:
    """Which columns of a table a network takes, and what features it makes of each.

    It is what `Network.preprocessing` may be. It takes pandas, polars and pyarrow tables and record
    batches, and any table with `__arrow_c_stream__`: columns are found by name, in any order, and
    others are ignored. Without a column of categories it also takes an array of numbers (N, C), in
    the order of `columns`, with NaN for what is missing.

    Attributes:
        columns: in the order of their features.
    """

    columns: tuple[Column, ...]

    @classmethod
    def fit(
        cls, table: Any, *, drop: Iterable[str] = (), standardize: bool = True
    ) -> TablePreprocessor:
        """Learns kinds, means, scales, categories and where values are missing.

        Args:
            table: the training rows, without the target.
            drop: columns to leave out.
            standardize: whether numbers are standardised; if not, they are taken as they are.

        Raises:
            InvalidInput: a column that cannot be used: see `Learner`; the message names it.
        """
        rows = as_table(table)
        learner = Learner(remaining(rows.column_names, drop), standardize=standardize)
        learner.update(rows)
        return learner.finish()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """A name for each feature, (I,)."""
        return tuple(name for column in self.columns for name in column.features)

    @cached_property
    def inputs(self) -> int:
        """I: how many features a network of this has to take."""
        return sum(column.width for column in self.columns)

    @property
    def takes_arrays(self) -> bool:
        """Whether there are no categories, so that rows may come as arrays of numbers."""
        return all(column.kind != "category" for column in self.columns)

    def transform(
        self, table: Any, dtype: Any = np.float64, *, name: str = "the table"
    ) -> HostArray:
        """The features of some rows.

        Args:
            table: a table or record batch of N rows, or an array (N, C) or (C,): see the class.
            dtype: float64 or float32; computed in float64.
            name: what to call the table in an error.

        Returns:
            (N, I), C-ordered. Not checked to be finite in `dtype`.

        Raises:
            InvalidInput: no rows, a column is missing or holds another kind of values, a number is
                infinite, or an array where there are categories.
        """
        return self.encode(table, dtype, name=name)[0]

    def unseen(self, table: Any, *, name: str = "the table") -> dict[str, int]:
        """Column -> how many of its values are of a kind that training did not see, if any are.

        These are categories that are 0 in all features, and missing values in columns where none
        was missing (filled with the mean, or 0 in all features). Takes what `transform` takes.
        """
        return self.encode(table, np.float32, name=name)[1]

    def unused(self, table: Any) -> list[str]:
        """The columns of a table that are ignored; none of an array."""
        taken = set(self.names)
        return (
            [n for n in as_table(table).column_names if n not in taken] if is_table(table) else []
        )

    def encode(
        self, table: Any, dtype: Any = np.float64, *, name: str = "the table"
    ) -> tuple[HostArray, dict[str, int]]:
        """Both what `transform` and what `unseen` return."""
        columns = self._table(table, name) if is_table(table) else self._array(table, name)
        rows = len(columns[0])
        if not rows:
            raise InvalidInput(f"{name} has no rows")
        out, unseen, start = np.empty((rows, self.inputs), dtype), {}, 0
        for column, values in zip(self.columns, columns, strict=True):
            block = out[:, start : start + column.width]
            try:
                count = column.encode(values, block)
            except InvalidInput as error:
                raise InvalidInput(f"{name}: {error}") from None
            if count:
                unseen[column.name] = count
            start += column.width
        return out, unseen

    def _table(self, given: Any, name: str) -> list[Values]:
        table = as_table(given, name)
        # Not looked for by name: pyarrow goes through all names for each.
        place = {column: i for i, column in enumerate(table.column_names)}
        missing = [column for column in self.names if column not in place]
        if missing:
            noun = "column" if len(missing) == 1 else "columns"
            raise InvalidInput(
                f"{name} lacks the {noun} {quoted(missing)}, which the model was trained with; it "
                f"has {quoted(table.column_names)}"
            )
        return [table.column(place[column]) for column in self.names]

    def _array(self, given: Any, name: str) -> list[HostArray]:
        if not self.takes_arrays:
            named = [column.name for column in self.columns if column.kind == "category"]
            raise InvalidInput(
                f"{name} must be a table with named columns, since there are categories in "
                f"{quoted(named, 3)}"
            )
        try:
            rows = host_array(given, name).astype(np.float64, copy=False)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{name} is neither a table nor an array of numbers") from None
        rows = rows[None, :] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise InvalidInput(
                f"{name} has shape {np.shape(given)}, but the model takes "
                f"{len(self.columns)} columns: {quoted([*self.names])}"
            )
        return [rows[:, i] for i in range(len(self.columns))]

    # --- files ----------------------------------------------------------------------------------

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data that JSON holds exactly."""
        return [column.to_json() for column in self.columns]

    @classmethod
    def from_json(cls, entries: Any) -> TablePreprocessor:
        """What `to_json` returned, checked.

        Raises:
            InvalidInput, AttributeError, TypeError: it is not that.
        """
        if not isinstance(entries, list) or not entries:
            raise InvalidInput("the columns are not a list")
        made = cls(tuple(Column.from_json(entry) for entry in entries))
        require_unique([*made.names], "the model")
        return made


def remaining(names: Sequence[str], drop: Iterable[str]) -> list[str]:
    """The names without those to drop.

    Raises:
        InvalidSetting: one to drop is not there; suggests the nearest.
        InvalidInput: nothing is left.
    """
    dropped = set()
    for name in drop:
        if name not in names:
            raise unknown_name("column to drop", name, names)
        dropped.add(name)
    left = [name for name in names if name not in dropped]
    if not left:
        raise InvalidInput("no column is left to learn from")
    return left


@dataclass
class Learner:
    """Learns a TablePreprocessor from a stream of record batches, in memory that does not grow.

    >>> import pyarrow
    >>> learner = Learner(["age"])
    >>> for ages in ([20, 30], [40, None]):
    ...     learner.update(pyarrow.record_batch({"age": ages}))
    >>> learner.finish().columns[0].mean
    30.0

    Attributes:
        names: the columns to learn, in the order that their features are to have; batches may have
            others.
        standardize: whether numbers are standardised.
        rows: how many there were so far.
    """

    names: Sequence[str]
    standardize: bool = True
    rows: int = 0
    _columns: dict[str, _ColumnLearner] = field(default_factory=dict)

    def update(self, batch: Table) -> None:
        """Takes in a pyarrow.RecordBatch or Table; all must have the same types of columns.

        Raises:
            InvalidInput: a column holds dates, lists or other values that cannot be used, or an
                infinite number; or text of more than 1000 categories.
        """
        self.rows += batch.num_rows
        for name in self.names:
            values = batch.column(name)
            if name not in self._columns:
                self._columns[name] = _ColumnLearner(name, kind_of(name, values.type))
            self._columns[name].update(values)

    def finish(self) -> TablePreprocessor:
        """What was learned.

        Raises:
            InvalidInput: there were no rows, a column has no value in any of them, or has about
                as many categories as rows, as a column of ids or free text has.
        """
        if not self.rows:
            raise InvalidInput("there are no rows to learn from")
        return TablePreprocessor(
            tuple(self._columns[name].finish(self.standardize) for name in self.names)
        )


@dataclass
class _ColumnLearner:
    """One column's part of a Learner."""

    name: str
    kind: Kind | None
    known: int = 0
    missing: int = 0
    moments: Moments = field(default_factory=Moments)
    categories: set[str] = field(default_factory=set)

    def update(self, values: Values) -> None:
        if self.kind is None:
            self.missing += len(values)
        elif self.kind == "category":
            self._update_categories(values)
        else:
            x = numbers(values)
            if np.isinf(x).any():
                bad = int(np.count_nonzero(np.isinf(x)))
                raise InvalidInput(
                    f"column '{self.name}' holds infinite numbers ({bad} of {len(x):,} training "
                    "rows); replace them or leave them empty"
                )
            there = x[~np.isnan(x)]
            self.known += len(there)
            self.missing += len(x) - len(there)
            self.moments.update(there)

    def _update_categories(self, values: Values) -> None:
        text = texts(values)
        self.known += len(text) - text.null_count
        self.missing += text.null_count
        try:
            self.categories.update(text.unique().drop_null().to_pylist())
        except UnicodeDecodeError:
            raise InvalidInput(f"column '{self.name}' holds text that is not UTF-8") from None
        if len(self.categories) > MOST_CATEGORIES:
            require_no_numbers(self.name, self.categories)
            raise InvalidInput(
                f"column '{self.name}' holds more than {MOST_CATEGORIES:,} distinct texts, which "
                f"is too many for categories; leave it out (--drop '{self.name}')"
            )

    def finish(self, standardize: bool) -> Column:
        if not self.known:
            raise InvalidInput(
                f"column '{self.name}' has no value in any training row; leave it out "
                f"(--drop '{self.name}')"
            )
        missing = self.missing > 0
        if self.kind == "category":
            self._require_few()
            categories = tuple(sorted(self.categories))
            return Column(self.name, "category", missing=missing, categories=categories)
        mean = self.moments.average
        if self.kind == "boolean" or not standardize:
            return Column(self.name, self.kind or "number", fill=mean, missing=missing)
        return Column(self.name, "number", mean, mean, self.moments.deviation, missing)

    def _require_few(self) -> None:
        distinct = len(self.categories)
        if distinct > FEW_CATEGORIES and 2 * distinct > self.known:
            require_no_numbers(self.name, self.categories)
            raise InvalidInput(
                f"column '{self.name}' holds {distinct:,} distinct texts in {self.known:,} rows, "
                "as an id or free text does: nothing can be learned from it; leave it out (--drop "
                f"'{self.name}')"
            )
