"""Parquet, Feather and Arrow files, and folders of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlp.data.arrow import Table, kind_of, require_pyarrow, require_unique
from mlp.data.reading import Progress, reason
from mlp.errors import InvalidInput


def read_parquet(path: Path, progress: Progress) -> Table:
    """The table of a Parquet file; raises InvalidInput, saying why, where it cannot be read."""
    return _read_files([path], progress)


def read_parquet_folder(folder: Path, progress: Progress) -> Table:
    """The rows of all Parquet files of a folder, in the order of their names.

    Raises:
        InvalidInput: there are none, one cannot be read, or their columns differ.
    """
    return _read_files(parquet_files(folder), progress)


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, by name; hidden ones (._) are left out.

    Raises:
        InvalidInput: there are none.
    """
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".parquet", ".pq") and path.name[0] not in "._"
    )
    if not found:
        inner = next(folder.glob("*/*.parquet"), None)
        hint = f"; {inner.parent} has some" if inner else ""
        raise InvalidInput(f"{folder}: a folder without Parquet files (*.parquet){hint}")
    return found


def require_same_columns(files: list[Path], schemas: list[Any]) -> None:
    """Raises InvalidInput, naming a file and a column, where files of one table differ.

    The order of columns does not matter, nor the width of numbers.
    """
    first = schemas[0]
    for path, schema in zip(files, schemas, strict=True):
        require_unique(schema.names, str(path))
        for name in first.names:
            if name not in schema.names:
                raise InvalidInput(f"{path} lacks the column '{name}' of {files[0].name}")
        for field in schema:
            if field.name not in first.names:
                raise InvalidInput(
                    f"{path} has a column '{field.name}', which {files[0].name} has not"
                )
            other = first.field(field.name).type
            if field.type != other and not _alike(field.name, field.type, other):
                raise InvalidInput(
                    f"{path}: column '{field.name}' holds {field.type}, but {other} in "
                    f"{files[0].name}"
                )


def _alike(name: str, type_: Any, other: Any) -> bool:
    """Whether two types hold the same kind of values."""
    try:
        kinds = {kind_of(name, type_), kind_of(name, other)}
    except InvalidInput:  # dates and the like, of different types
        return False
    return len(kinds - {None}) <= 1


def _read_files(files: list[Path], progress: Progress) -> Table:
    pyarrow = require_pyarrow()
    total, done = sum(path.stat().st_size for path in files), 0
    opened: list[Any] = []
    parts = []
    try:
        opened.extend(map(open_parquet, files))
        require_same_columns(files, [file.schema_arrow for file in opened])
        for path, file in zip(files, opened, strict=True):
            with _sentence(path, "Parquet"):
                for group in range(file.num_row_groups):
                    parts.append(file.read_row_group(group))
                    # Damaged text would be found no sooner than somebody looks at it.
                    parts[-1].validate(full=True)
                    done += row_group_bytes(file, group)
                    progress(min(done, total), total)
        if not parts:
            return opened[0].schema_arrow.empty_table()
        return pyarrow.concat_tables(parts, promote_options="permissive")
    finally:
        for file in opened:
            file.close()


def open_parquet(path: Path) -> Any:
    """An open pyarrow.parquet.ParquetFile; raises InvalidInput, saying why, where it is none."""
    require_pyarrow()
    from pyarrow import parquet

    if not path.stat().st_size:
        raise InvalidInput(f"{path}: the file is empty")
    with _sentence(path, "Parquet"):
        return parquet.ParquetFile(path)


def row_group_bytes(file: Any, group: int) -> int:
    """Bytes that a row group takes in its file."""
    about = file.metadata.row_group(group)
    return sum(about.column(i).total_compressed_size for i in range(about.num_columns))


def read_feather(path: Path, progress: Progress) -> Table:
    """The table of an Arrow file, as Feather's is, or of a file with an Arrow stream."""
    pyarrow = require_pyarrow()
    with _sentence(path, "Feather or Arrow"), pyarrow.memory_map(str(path)) as file:
        starts = file.read(6)
        file.seek(0)
        if starts == b"ARROW1":
            reader = pyarrow.ipc.open_file(file)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        else:
            reader = pyarrow.ipc.open_stream(file)
            batches = list(reader)
        # Views of a mapped file: what is read here is the description of its columns.
        progress(file.size(), file.size())
        table = pyarrow.Table.from_batches(batches, schema=reader.schema)
        # What a damaged file says of where its values lie would be believed without this.
        table.validate(full=True)
        return table


# How files of a kind begin.
_MARKS = {"Parquet": (b"PAR1", b"PARE"), "Feather or Arrow": (b"ARROW1", b"\xff\xff\xff\xff")}


@contextmanager
def _sentence(path: Path, kind: str) -> Iterator[None]:
    """Turns what pyarrow raises about a file of this kind into one sentence."""
    pyarrow = require_pyarrow()
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeError, EOFError) as error:
        with path.open("rb") as file:
            start = file.read(8)
        if not start.startswith(_MARKS[kind]):
            raise InvalidInput(f"{path}: not a {kind} file, in spite of its name") from None
        raise InvalidInput(
            f"{path}: a {kind} file that is damaged or cut short ({reason(error)})"
        ) from None
