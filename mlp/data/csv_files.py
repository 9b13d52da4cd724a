"""CSV and TSV files: pyarrow parses them, and we say what was wrong with them."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlp.data.arrow import Table, is_number, quoted, require_pyarrow
from mlp.data.reading import LONGEST_READ, Progress, counted, ignore, reason
from mlp.errors import InvalidInput, InvalidSetting

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_csv(
    path: Path,
    kind: str,
    separator: str | None,
    encoding: str,
    text_columns: Collection[str],
    progress: Progress,
) -> Table:
    """The table of a CSV file; its first row holds the names of the columns.

    Args:
        path, encoding, text_columns, progress: as `read_table` takes them.
        kind: ".csv" or another of SEPARATORS, whose separator applies if `separator` is None.
        separator: of the columns.

    An empty field, and an unquoted one such as NA or NULL, is a missing value, also in a column of
    text.

    Raises:
        InvalidInput: rows of different lengths, another encoding, no row of names, damaged.
        InvalidSetting: a separator or encoding that there is not.
    """
    named, separator = separator is not None, SEPARATORS[kind] if separator is None else separator
    separator = "\t" if separator == r"\t" else separator  # as it is typed on a command line
    if len(separator) != 1:
        raise InvalidSetting(f"the separator must be a single character, not {separator!r}")
    try:
        utf8 = codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        raise InvalidSetting(f"there is no encoding {encoding!r}") from None
    if utf8:
        _require_no_other_mark(path)
    pyarrow = require_pyarrow()
    try:
        table = _parse(path, separator, encoding, text_columns, progress)
        names = table.column_names
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: {_not_encoded(encoding)} ({error.reason})") from None
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        what = _ragged_row(path, separator, encoding) or f"not a readable CSV file: {reason(error)}"
        if not named:
            _require_separated(path, _first_names(path, separator, encoding), separator)
        raise InvalidInput(f"{path}: {what}") from None
    _require_text(path, table, encoding)
    _require_names(path, names)
    if not named:
        _require_separated(path, names, separator)
    return table


def _parse(
    path: Path,
    separator: str,
    encoding: str,
    text_columns: Collection[str],
    progress: Progress,
    on_bad_row: Any = None,
) -> Table:
    """What pyarrow makes of the file; on one thread if there is a handler of bad rows."""
    pyarrow = require_pyarrow()
    from pyarrow import csv

    file, let_go = counted(path, progress)
    stream: Any = pyarrow.PythonFile(file, mode="r")
    try:
        if path.suffix.lower() not in (".csv", ".tsv", ".tab"):
            codec = pyarrow.Codec.detect(str(path)).name
            stream = pyarrow.CompressedInputStream(stream, codec)
        return csv.read_csv(
            stream,
            read_options=csv.ReadOptions(encoding=encoding, use_threads=on_bad_row is None),
            parse_options=csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=on_bad_row
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(text_columns, pyarrow.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    finally:
        file.close()
        del file, stream  # an error's traceback would hold on to them
        let_go.wait(LONGEST_READ)


def _ragged_row(path: Path, separator: str, encoding: str) -> str:
    """What is wrong with the first row that has too many or too few fields; "" if none has."""
    pyarrow, found = require_pyarrow(), []

    def note(row: Any) -> str:
        found.append(row)
        return "error"

    # Rows are counted only where they are read one after the other. Every byte is a character in
    # latin-1, and those that part rows and fields are the same in UTF-8.
    lenient = "latin-1" if codecs.lookup(encoding).name == "utf-8" else encoding
    with contextlib.suppress(pyarrow.ArrowException, OSError, UnicodeError):
        _parse(path, separator, lenient, (), ignore, note)
    if not found:
        return ""
    row = found[0]
    there = row.expected_columns
    columns = "is 1 column" if there == 1 else f"are {there} columns"
    fields = "1 field" if row.actual_columns == 1 else f"{row.actual_columns} fields"
    return f"row {row.number} has {fields}, but there {columns} (row 1 has their names)"


def _first_names(path: Path, separator: str, encoding: str) -> list[str]:
    """What the first line of a file is parted into, if it is text."""
    utf8 = codecs.lookup(encoding).name == "utf-8"
    try:
        with path.open(encoding="utf-8-sig" if utf8 else encoding) as file:
            return file.readline(1 << 20).rstrip("\r\n").split(separator)
    except UnicodeError:
        return []


def _require_no_other_mark(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\3\4":
        raise InvalidInput(
            f"{path}: an Excel or zip file, in spite of its name; save it as CSV in the program "
            "that made it"
        )
    if start[:2] in BYTE_ORDER_MARKS:
        raise InvalidInput(f"{path}: encoded as UTF-16; pass --encoding utf-16")


def _not_encoded(encoding: str) -> str:
    if codecs.lookup(encoding).name != "utf-8":
        return f"not encoded as {encoding}"
    return "not encoded as UTF-8; pass --encoding, such as latin-1"


def _require_text(path: Path, table: Table, encoding: str) -> None:
    """Columns of text that does not decode come back as bytes."""
    types = require_pyarrow().types
    for field in table.schema:
        if types.is_binary(field.type):
            raise InvalidInput(f"{path}: column '{field.name}' is {_not_encoded(encoding)}")


def _require_names(path: Path, names: list[str]) -> None:
    if any("\0" in name for name in names):
        raise InvalidInput(f"{path}: not a CSV file, in spite of its name")
    if all(is_number(name) for name in names):
        raise InvalidInput(
            f"{path}: the first row holds numbers ({quoted(names, 3)}), where the names of the "
            "columns were expected; add a row of names"
        )


def _require_separated(path: Path, names: list[str], separator: str) -> None:
    """Where another character parts the names more often, the file was meant to be parted by it."""
    row = separator.join(names)
    for other in ",;\t|":
        if other != separator and row.count(other) >= max(len(names), 1):
            raise InvalidInput(
                f"{path}: the columns {quoted(names, 2)} seem to be several each; if {other!r} "
                f"separates them, pass --separator {other!r}, else --separator {separator!r}"
            )
