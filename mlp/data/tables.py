"""Tables from files: CSV and TSV, Parquet, Feather and Arrow, folders of Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlp.data.arrow import Table, as_table, require_pyarrow
from mlp.data.arrow_files import read_feather, read_parquet, read_parquet_folder
from mlp.data.csv_files import SEPARATORS, read_csv
from mlp.data.reading import Progress, ignore
from mlp.errors import InvalidInput, InvalidSetting

PARQUET = (".parquet", ".pq")
FEATHER = (".feather", ".arrow", ".ipc")
COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")


def is_table_path(path: Path) -> bool:
    """Whether a path is one that `read_table` takes, by its name; a folder counts as one."""
    return path.is_dir() or _suffix(path) in (*SEPARATORS, *PARQUET, *FEATHER)


def _suffix(path: Path) -> str:
    """The suffix that says what a file is: .csv of data.csv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        del suffixes[-1]
    return suffixes[-1] if suffixes else ""


def read_table(
    source: Any,
    *,
    separator: str | None = None,
    encoding: str = "utf-8",
    text_columns: Collection[str] = (),
    progress: Progress = ignore,
) -> Table:
    """A whole table.

    Args:
        source: the path of a .csv or .tsv file (also compressed: .csv.gz, .csv.zst), a .parquet,
            .feather or .arrow file, or a folder of .parquet files; or a table of pandas, polars,
            pyarrow or anything with `__arrow_c_stream__`.
        separator, encoding: of CSV files; None for the comma of .csv and the tab of .tsv.
        text_columns: columns of a CSV file that are text whatever they look like.
        progress: called now and then with the bytes read so far and those of all files.

    Returns:
        A pyarrow.Table with at least one row and one column, and columns of different names.

    Raises:
        InvalidInput: missing, damaged, empty, or not what its name says; names the file and, of
            CSV, the row.
        InvalidSetting: a separator or encoding that there is not, or pyarrow is not installed.
    """
    name = "the table"
    if isinstance(source, str | Path):
        name = str(source)
        source = _read(Path(source), separator, encoding, text_columns, progress)
    table = as_table(source, name)
    if not table.num_columns:
        raise InvalidInput(f"{name} has no columns")
    if not table.num_rows:
        raise InvalidInput(f"{name} has no rows, only the names of its columns")
    return table


def _read(
    path: Path,
    separator: str | None,
    encoding: str,
    text_columns: Collection[str],
    progress: Progress,
) -> Table:
    require_pyarrow()
    if not path.exists():
        raise InvalidInput(f"{path}: there is no such file")
    suffix = _suffix(path)
    if suffix not in SEPARATORS and (separator, encoding) != (None, "utf-8"):
        raise InvalidSetting(f"{path}: only CSV files have a separator and an encoding")
    if path.is_dir():
        return read_parquet_folder(path, progress)
    if not path.stat().st_size:
        raise InvalidInput(f"{path}: the file is empty")
    if suffix in PARQUET:
        return read_parquet(path, progress)
    if suffix in FEATHER:
        return read_feather(path, progress)
    if suffix in SEPARATORS:
        return read_csv(path, suffix, separator, encoding, text_columns, progress)
    known = ", ".join([*SEPARATORS, *PARQUET, *FEATHER])
    hint = "; save it as CSV" if suffix in (".xlsx", ".xls", ".ods") else ""
    raise InvalidInput(f"{path}: not a kind of file that is read as a table: {known}{hint}")
