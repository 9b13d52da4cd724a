"""What we ask of pyarrow: tables from data frames, kinds of columns, their values as NumPy arrays.

pyarrow is optional and large: it is imported when the first table is met.
"""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.errors import InvalidInput, InvalidSetting

Kind: TypeAlias = Literal["number", "boolean", "category"]
# A pyarrow.Table, RecordBatch, Array or DataType: pyarrow comes without types.
Table: TypeAlias = Any
Values: TypeAlias = Any
ArrowType: TypeAlias = Any


def require_pyarrow() -> ModuleType:
    """The module pyarrow; raises InvalidSetting, saying what to install, where it is missing."""
    try:
        import pyarrow
    except ImportError:
        raise InvalidSetting(
            'tables need pyarrow, which is not installed: pip install "fused-mlp[tables]"'
        ) from None
    return pyarrow  # type: ignore[no-any-return]


def is_table(value: Any) -> bool:
    """Whether a value is a table: of pandas, polars, pyarrow, or any with `__arrow_c_stream__`.

    A single column, such as a pandas Series, is none.
    """
    stream = hasattr(value, "__arrow_c_stream__") and not hasattr(value, "chunks")
    return (stream and len(getattr(value, "shape", (0, 0))) == 2) or _of_pandas(value)


def _of_pandas(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "columns")


def as_table(value: Any, name: str = "the table") -> Table:
    """A pyarrow.Table of what `is_table` accepts, without the index of a data frame.

    Raises:
        InvalidInput: columns with the same name, or of mixed values that have no Arrow type.
        InvalidSetting: pyarrow is not installed.
    """
    pyarrow = require_pyarrow()
    if not is_table(value):
        raise InvalidInput(
            f"{name} must be a table of pandas, polars, pyarrow or with __arrow_c_stream__, not "
            f"{type(value).__name__}"
        )
    try:
        if isinstance(value, pyarrow.Table):
            table = value
        elif isinstance(value, pyarrow.RecordBatch):
            table = pyarrow.Table.from_batches([value])
        elif _of_pandas(value):
            require_unique([str(column) for column in value.columns], name)
            table = pyarrow.Table.from_pandas(value, preserve_index=False)
        else:
            table = pyarrow.table(value)
    except (pyarrow.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{name} cannot be read as a table: {_first_line(error)}") from None
    require_unique(table.column_names, name)
    return _without_views(table)


def _without_views(table: Table) -> Table:
    """The table with its views of text, as of polars, in a type that pyarrow's functions take."""
    pyarrow = require_pyarrow()
    view, text = pyarrow.types.is_string_view, pyarrow.large_string()
    for i, field in enumerate(table.schema):
        type_, column = field.type, table.column(i)
        if view(type_):
            table = table.set_column(i, field.name, column.cast(text))
        elif pyarrow.types.is_dictionary(type_) and view(type_.value_type):
            chunks = [chunk.dictionary.cast(text).take(chunk.indices) for chunk in column.chunks]
            column = pyarrow.chunked_array(chunks, type=text).dictionary_encode()
            table = table.set_column(i, field.name, column)
    return table


def _first_line(error: Exception) -> str:
    """An error's words on one line; pandas' conversions fail with several strings."""
    words = "; ".join(map(str, error.args)) if len(error.args) > 1 else str(error)
    return " ".join(words.split())


def require_unique(names: list[str], table: str) -> None:
    """Raises InvalidInput, naming them, where columns share a name."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InvalidInput(
            f"{table} has more than one column named {quoted(repeated)}; rename or remove all but "
            "one"
        )


def quoted(names: list[str], most: int = 12) -> str:
    """Names in quotes, the first of many: 'a', 'b', ... (30 in all)."""
    named = ", ".join(f"'{shown(name)}'" for name in names[:most])
    return named if len(names) <= most else f"{named}, ... ({len(names):,} in all)"


def shown(text: object, most: int = 60) -> str:
    """A value of a file as it goes into a sentence: on one line, and cut if it is long."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return line if len(line) <= most else f"{line[:most]}..."


def is_number(text: str) -> bool:
    """Whether a text is a number as Python writes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- kinds ----------------------------------------------------------------------------------------


def kind_of(column: str, type_: ArrowType) -> Kind | None:
    """What a column of this Arrow type holds; None for a type of nothing but missing values.

    Numbers: all integers, floats and decimals. Categories: text, and dictionaries of text or
    integers. Booleans, also as a dictionary.

    Raises:
        InvalidInput: dates, times, lists, bytes and the like, with a hint.
    """
    types = require_pyarrow().types
    inner = type_.value_type if types.is_dictionary(type_) else type_
    coded = inner is not type_
    if types.is_null(inner):
        return None
    if types.is_boolean(inner):
        return "boolean"
    if is_text(inner) or (coded and types.is_integer(inner)):
        return "category"
    if not coded and (
        types.is_integer(inner) or types.is_floating(inner) or types.is_decimal(inner)
    ):
        return "number"
    raise InvalidInput(f"column '{column}' holds {_what(type_)}")


def is_text(type_: ArrowType) -> bool:
    types = require_pyarrow().types
    return bool(types.is_string(type_) or types.is_large_string(type_))


def _what(type_: ArrowType) -> str:
    """What an unusable type is, and what to do about it; continues "column 'x' holds"."""
    types = require_pyarrow().types
    leave = "or leave it out (--drop)"
    if types.is_duration(type_) or types.is_interval(type_):
        return f"durations ({type_}), which are not read: make seconds of it, {leave}"
    if types.is_temporal(type_):
        return (
            f"dates or times ({type_}), which are not read: make numbers of it, such as the year, "
            f"the weekday or seconds, {leave}"
        )
    if types.is_nested(type_):
        return f"nested values ({type_}), which are not read: make a column of each part, {leave}"
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_):
        return f"bytes ({type_}), which are not read: make text or numbers of it, {leave}"
    return f"values of type {type_}, which are not read: make text or numbers of it, {leave}"


# --- values ---------------------------------------------------------------------------------------


def decoded(values: Values) -> Values:
    """A column's values without a dictionary."""
    pyarrow = require_pyarrow()
    if pyarrow.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values


def numbers(values: Values) -> HostArray:
    """Numbers or booleans as float64 (N,), missing ones as NaN; large integers are rounded."""
    pyarrow = require_pyarrow()
    plain = decoded(values)
    if plain.type != pyarrow.float64():
        plain = plain.cast(pyarrow.float64(), safe=False)
    return np.asarray(plain.to_numpy(zero_copy_only=False), dtype=np.float64)


def texts(values: Values) -> Values:
    """Text, integers or booleans as an Arrow array of text, with nulls where values are missing."""
    pyarrow = require_pyarrow()
    plain = decoded(values)
    return plain if is_text(plain.type) else plain.cast(pyarrow.string())
