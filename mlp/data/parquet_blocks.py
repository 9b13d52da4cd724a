"""Parquet files larger than memory: their row groups as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import Values, decoded, is_text, numbers, quoted, require_pyarrow
from mlp.data.arrow_files import (
    open_parquet,
    parquet_files,
    require_same_columns,
    row_group_bytes,
)
from mlp.data.blocks import Piece
from mlp.data.reading import reason
from mlp.data.table_preprocessing import remaining
from mlp.errors import InvalidInput, InvalidSetting, unknown_name

# What is read from the file at a time, of all columns together, or of one at most; whole row groups
# would be in memory otherwise.
BUFFERS_BYTES, BUFFER_BYTES = 2**24, 2**18
LEAST_BUFFER_BYTES = 2**14
# Of a column, the page that is being decoded: writers end one after 20,000 values, or at 1 MiB.
PAGE_BYTES = 2**18
# A guess: the characters of a text, and where it begins.
BYTES_OF_TEXT = 20


class ParquetBlocks:
    """The row groups of a Parquet file, or of all Parquet files of a folder, by name.

    A network whose preprocessing is a TablePreprocessor trains on them: `Trainer.fit(blocks, None,
    epochs)`. A row group is read from its beginning in small pieces, so it may be larger than
    memory itself.

    Args:
        path: a .parquet file, or a folder of such.
        target: the column to learn, or several columns of numbers; () where only `batches` is used.
        drop: columns to leave out.
        weight: the column of sample weights, or None.

    Attributes:
        columns: the names of the other columns, the rows' features.

    Raises:
        InvalidInput: a file is missing, damaged or empty, or the files' columns differ.
        InvalidSetting: a column that is not there; pyarrow is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        target: str | Sequence[str],
        *,
        drop: Iterable[str] = (),
        weight: str | None = None,
    ) -> None:
        source = Path(path)
        self.name = str(source)
        self.target = (target,) if isinstance(target, str) else tuple(target)
        self.weighted, self._weight = weight is not None, weight
        if not source.exists():
            raise InvalidInput(f"{source}: there is no such file")
        self._files = parquet_files(source) if source.is_dir() else [source]
        self._groups: list[tuple[int, int]] = []  # of each block: number of its file, and in it
        sizes, schemas, self._bytes = [], [], list[int]()
        for number, file in enumerate(self._files):
            with closing(open_parquet(file)) as opened:
                schemas.append(opened.schema_arrow)
                for group in range(opened.num_row_groups):
                    self._groups.append((number, group))
                    sizes.append(opened.metadata.row_group(group).num_rows)
                    self._bytes.append(row_group_bytes(opened, group))
        require_same_columns(self._files, schemas)
        self.sizes, self.schema = tuple(sizes), schemas[0]
        self._as_found = [_state(file) for file in self._files]
        own = [*self.target, *([] if weight is None else [weight])]
        for column in own:
            if column not in self.schema.names:
                kind = "target column" if column in self.target else "column of weights"
                raise unknown_name(kind, column, self.schema.names)
        if len(set(own)) < len(own):
            raise InvalidSetting(f"one column cannot be two of the target and the weights: {own}")
        self.columns = remaining(self.schema.names, [*drop, *own])
        self.features = len(self.columns)  # before they are encoded
        taken = len(self.columns) + len(own)
        self._buffer = max(min(BUFFERS_BYTES // taken, BUFFER_BYTES), LEAST_BUFFER_BYTES)
        self.reading_bytes = taken * (self._buffer + PAGE_BYTES)
        if not sum(sizes):
            raise InvalidInput(f"{source} has no rows, only the names of its columns")

    def read(self, block: int, rows: int) -> Iterator[Piece]:
        first = 0
        for batch in self.batches(block, rows):
            try:
                y = target_values(batch, self.target, first)
            except InvalidInput as error:
                raise InvalidInput(f"{self.where(block)}: {error}") from None
            first += batch.num_rows
            weight = None if self._weight is None else numbers(batch.column(self._weight))
            yield Piece(batch.select(self.columns), y, weight)

    def batches(self, block: int, rows: int) -> Iterator[Any]:
        """A block's rows in their order, in record batches of at most `rows` rows."""
        number, group = self._groups[block]
        path = self._files[number]
        from pyarrow import parquet

        own = [*self.target, *([] if self._weight is None else [self._weight])]
        with (
            self._explained(path, block),
            parquet.ParquetFile(path, buffer_size=self._buffer, pre_buffer=False) as file,
        ):
            # One thread, and nothing ahead of what is asked for: training goes on beside it.
            yield from file.iter_batches(
                rows, row_groups=[group], columns=[*self.columns, *own], use_threads=False
            )
        require_pyarrow().default_memory_pool().release_unused()

    def where(self, block: int) -> str:
        number, group = self._groups[block]
        return f"{self._files[number]}, row group {group}"

    def bytes_of(self, block: int) -> int:
        """Bytes that a block takes in its file."""
        return self._bytes[block]

    @contextmanager
    def _explained(self, path: Path, block: int) -> Iterator[None]:
        """Turns what goes wrong with a row group into one sentence."""
        pyarrow = require_pyarrow()
        number = self._groups[block][0]
        try:
            if _state(path) != self._as_found[number]:
                raise InvalidInput(f"{path}: the file was changed while it was in use; start again")
            yield
        except FileNotFoundError:
            raise InvalidInput(f"{path}: the file is not there any more; start again") from None
        except (pyarrow.ArrowException, OSError, UnicodeError, EOFError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(
                f"{self.where(block)} (counted from 0): damaged or cut short ({reason(error)})"
            ) from None


def _state(path: Path) -> tuple[int, int]:
    """What shows that a file was changed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


# --- targets --------------------------------------------------------------------------------------


def target_values(batch: Any, names: Sequence[str], first: int = 0) -> HostArray:
    """The target of some rows: text (n,), whole numbers or booleans (n,), or floats (n,) or (n, O).

    Raises:
        InvalidInput: a value is missing, or of a type that is no target.
    """
    columns = [_values(name, batch.column(name), first) for name in names]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _values(name: str, column: Values, first: int) -> HostArray:
    pyarrow = require_pyarrow()
    if column.null_count:
        missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
        raise InvalidInput(
            f"the target '{name}' is missing in row {first + int(missing.argmax()):,}; fill it in "
            "or remove such rows"
        )
    if is_text(column.type) or pyarrow.types.is_dictionary(column.type):
        coded = column if pyarrow.types.is_dictionary(column.type) else column.dictionary_encode()
        words = decoded(coded.dictionary).to_pylist()
        codes = np.asarray(coded.indices.to_numpy(zero_copy_only=False))
        found: HostArray = np.asarray(words)[codes]
        return found
    if pyarrow.types.is_boolean(column.type) or pyarrow.types.is_integer(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pyarrow.types.is_floating(column.type) or pyarrow.types.is_decimal(column.type):
        return numbers(column)
    raise InvalidInput(f"the target {quoted([name])} holds {column.type}, which is no target")


def decoded_bytes(path: Path) -> int:
    """About what the rows of a Parquet file, or of a folder of such, take as a table in memory.

    Raises:
        InvalidInput: a file cannot be read.
    """
    total = 0
    for file in parquet_files(path) if path.is_dir() else [path]:
        with closing(open_parquet(file)) as opened:
            types = [field.type for field in opened.schema_arrow]
            total += opened.metadata.num_rows * sum(map(_width, types))
    return total


def _width(type_: Any) -> int:
    """Bytes of a value of this type."""
    try:
        return max(int(type_.bit_width) // 8, 1)
    except ValueError:  # of no fixed width
        return BYTES_OF_TEXT
