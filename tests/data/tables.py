"""A small table of every kind of column, and the files that a test writes of it."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

ROWS: dict[str, list[Any]] = {
    "age": [20, None, 40, 33, 20, 51],
    "height": [1.5, 1.75, None, 1.25, 2.0, 1.5],
    "town": ["Oslo", "Rome", None, "Oslo", "Lima", "Oslo"],
    "member": [True, False, None, True, True, False],
    "buys": ["yes", "no", "no", "yes", "yes", "no"],
}


def table() -> pa.Table:
    """Integers, floats, text and booleans, with missing values in each."""
    return pa.table(ROWS)


def typed_table() -> pa.Table:
    """The same values in other types."""
    return pa.table(
        {
            "age": pa.array(ROWS["age"], pa.uint8()),
            "height": pa.array(
                [None if h is None else decimal.Decimal(str(h)) for h in ROWS["height"]],
                pa.decimal128(5, 2),
            ),
            "town": pa.array(ROWS["town"], pa.large_string()).dictionary_encode(),
            "member": pa.array(ROWS["member"]).dictionary_encode(),
            "buys": pa.array(ROWS["buys"], pa.large_string()),
        }
    )


class Stream:
    """A table of a library that we do not know: it has an Arrow stream and nothing else."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._of.__arrow_c_stream__(requested_schema)


def categories(of: pa.Table) -> pl.DataFrame:
    return pl.from_arrow(of).with_columns(pl.col(pl.String).cast(pl.Categorical))


# How one may hold a table in Python.
IN_PYTHON: dict[str, Callable[[pa.Table], Any]] = {
    "pyarrow": lambda t: t,
    "chunks": lambda t: pa.concat_tables([t[:2], t[2:]]),
    "batch": lambda t: t.combine_chunks().to_batches()[0],
    "pandas": lambda t: t.to_pandas(),
    "pandas with an index": lambda t: t.to_pandas().set_index(pd.Index(list("uvwxyz")[: len(t)])),
    "polars": pl.from_arrow,
    "polars categories": lambda t: categories(t),
    "capsule": Stream,
    "capsule of polars": lambda t: Stream(pl.from_arrow(t)),
    "capsule of polars categories": lambda t: Stream(categories(t)),
}


def write(of: pa.Table, path: Path) -> Path:
    """Writes a table as the file's name says."""
    kind = path.suffixes[0] if path.suffixes else ""
    if kind in (".csv", ".tsv"):
        text = of.to_pandas().to_csv(index=False, sep="\t" if kind == ".tsv" else ",")
        compressed = path.suffix != kind
        with pa.output_stream(path, compression="detect" if compressed else None) as file:
            file.write(text.encode())
    elif kind == ".parquet":
        pa.parquet.write_table(of, path, row_group_size=4)
    elif "polars" in path.name:  # whose text and categories are views
        categories(of).with_columns(pl.col("buys").cast(pl.String)).write_ipc(path)
    elif kind == ".feather":
        pa.feather.write_feather(of, path)
    elif kind == ".arrow":  # a stream, as a file of this name may be too
        with pa.ipc.new_stream(path, of.schema) as stream:
            stream.write_table(of, max_chunksize=4)
    else:
        path.mkdir()
        pa.parquet.write_table(of[:4], path / "a.parquet")
        pa.parquet.write_table(of[4:].select(of.column_names[::-1]), path / "b.parquet")
        (path / "_SUCCESS").touch()
    return path


FILES = (
    "t.csv", "t.tsv", "t.csv.gz", "t.csv.zst", "t.csv.bz2", "t.parquet", "t.feather", "t.arrow",
    "polars.feather", "folder",
)  # fmt: skip
