"""Tables from files: each format gives the same values, each bad file one clear sentence."""

from __future__ import annotations

import contextlib
import gzip
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

import mlp
from mlp.data import csv_files
from mlp.data.tables import read_table
from mlp.errors import InvalidInput, InvalidSetting
from tests.data.tables import FILES, IN_PYTHON, Stream, table, typed_table, write


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_values(name: str, tmp_path: Path) -> None:
    found = mlp.read_table(write(table(), tmp_path / name))
    assert found.column_names == table().column_names
    assert found.to_pylist() == table().to_pylist()


@pytest.mark.parametrize("how", IN_PYTHON)
def test_tables_in_python(how: str) -> None:
    found = mlp.read_table(IN_PYTHON[how](table()))
    assert found.column_names == table().column_names  # an index is no column
    assert found.to_pylist() == table().to_pylist()


def test_files_of_a_folder_are_read_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, value in (("b", 2), ("a", 1), ("c", 3)):
        pa.parquet.write_table(pa.table({"x": [value]}), folder / f"{name}.parquet")
    pa.parquet.write_table(pa.table({"y": ["hidden"]}), folder / "_metadata.parquet")
    assert read_table(folder).to_pydict() == {"x": [1, 2, 3]}


def test_numbers_of_several_widths_in_one_folder(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": pa.array([1], pa.int8())}), tmp_path / "a.parquet")
    pa.parquet.write_table(pa.table({"x": pa.array([2.5])}), tmp_path / "b.parquet")
    assert read_table(tmp_path).to_pydict() == {"x": [1, 2.5]}


def csv(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_is_missing_in_a_csv_file(tmp_path: Path) -> None:
    path = csv(tmp_path, 'a,b\n1,x\nNA,\n,NULL\n2,""\n3,"NA"\n')
    assert read_table(path).to_pydict() == {
        "a": [1, None, None, 2, 3], "b": ["x", None, None, "", "NA"],
    }  # fmt: skip


def test_lines_within_quotes_and_text_that_looks_like_numbers(tmp_path: Path) -> None:
    path = csv(tmp_path, 'a,zip\n"one\ntwo",0123\nthree,0456\n')
    assert read_table(path).column("zip").to_pylist() == [123, 456]
    found = read_table(path, text_columns=["zip", "not there"])
    assert found.to_pydict() == {"a": ["one\ntwo", "three"], "zip": ["0123", "0456"]}


def test_lines_within_quotes_anywhere_in_a_large_file(tmp_path: Path) -> None:
    found = read_table(csv(tmp_path, "a,b\n" + '"one\n2,3\ntwo",1\n' * 100_000))
    assert found.num_rows == 100_000
    assert found.column("a").unique().to_pylist() == ["one\n2,3\ntwo"]


def test_separators_and_encodings(tmp_path: Path) -> None:
    path = csv(tmp_path, "ä;b\né;1,5\n".encode("latin-1"))
    found = read_table(path, separator=";", encoding="latin-1")
    assert found.to_pydict() == {"ä": ["é"], "b": ["1,5"]}
    wide = csv(tmp_path, "ä,b\né,1\n".encode("utf-16"))
    assert read_table(wide, encoding="utf-16").to_pydict() == {"ä": ["é"], "b": [1]}
    tabs = csv(tmp_path, "a\tb\n1\t2\n")
    assert read_table(tabs, separator=r"\t").to_pydict() == {"a": [1], "b": [2]}
    one = csv(tmp_path, "a;b\n1;2\n")
    assert read_table(one, separator=",").to_pydict() == {"a;b": ["1;2"]}
    marked = csv(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")
    assert read_table(marked).column_names == ["a", "b"]


def parquet(tmp_path: Path, of: pa.Table | None = None, name: str = "t.parquet") -> Path:
    pa.parquet.write_table(table() if of is None else of, tmp_path / name)
    return tmp_path / name


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def other_content(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def folder_with(tmp_path: Path, **tables: pa.Table) -> Path:
    for name, of in tables.items():
        parquet(tmp_path, of, f"{name}.parquet")
    return tmp_path


BAD = {
    "missing": (lambda t: t / "t.csv", r"t\.csv: there is no such file"),
    "empty": (lambda t: csv(t, ""), r"t\.csv: the file is empty"),
    "no rows": (lambda t: csv(t, "a,b\n"), r"t\.csv has no rows, only the names"),
    "ragged": (
        lambda t: csv(t, "a,b\n1,2\n3,4\n5,6,7\n8,9\n"),
        r"t\.csv: row 4 has 3 fields, but there are 2 columns \(row 1 has their names\)$",
    ),
    "short row, far down": (
        lambda t: csv(t, "a,b\n" + "1,2\n" * 300_000 + "3\n"),
        r"t\.csv: row 300002 has 1 field, but there are 2 columns",
    ),
    "duplicate columns": (
        lambda t: csv(t, "a,b,a\n1,2,3\n"),
        r"t\.csv has more than one column named 'a'; rename or remove",
    ),
    "latin-1 in a value": (
        lambda t: csv(t, "a,b\n1,café\n".encode("latin-1")),
        r"t\.csv: column 'b' is not encoded as UTF-8; pass --encoding, such as latin-1$",
    ),
    "latin-1 in a name": (
        lambda t: csv(t, "a,café\n1,2\n".encode("latin-1")),
        r"t\.csv: not encoded as UTF-8; pass --encoding",
    ),
    "utf-16": (
        lambda t: csv(t, "a,b\n1,2\n".encode("utf-16")),
        r"t\.csv: encoded as UTF-16; pass --encoding utf-16$",
    ),
    "no names": (lambda t: csv(t, "1,2\n3,4\n"), "the first row holds numbers .* add a row of n"),
    "semicolons": (
        lambda t: csv(t, "a;b\n1;2\n"),
        "the columns 'a;b' seem to be several each; if ';' .* pass --separator ';', else .* ','$",
    ),
    "semicolons and decimal commas": (
        lambda t: csv(t, "a, cm;b;c\n1,5;2;3\n"), "'a', ' cm;b;c' seem to be .*--separator ';'",
    ),
    "binary": (lambda t: csv(t, b"\x00\x01\x02,\x00\n1,2\n"), r"not a CSV file, in spite"),
    "not gzip": (
        lambda t: other_content(t, "t.csv.gz", b"a,b\n1,2\n"),
        r"t\.csv\.gz: not a readable CSV file: zlib inflate failed",
    ),
    "half gzip": (
        lambda t: cut(other_content(t, "t.csv.gz", gzip.compress(bytes(range(256)) * 99)), 0.5),
        r"t\.csv\.gz: ",
    ),
    "truncated Parquet": (lambda t: cut(parquet(t)), r"t\.parquet: a Parquet file that is damaged"),
    "a text named Parquet": (
        lambda t: other_content(t, "t.parquet", b"a,b\n1,2\n"),
        r"t\.parquet: not a Parquet file, in spite of its name$",
    ),
    "empty Parquet": (lambda t: other_content(t, "t.parquet", b""), "the file is empty"),
    "Parquet without rows": (lambda t: parquet(t, table()[:0]), "has no rows, only the names"),
    "Parquet without columns": (lambda t: parquet(t, pa.table({})), "has no columns"),
    "a text named Feather": (
        lambda t: other_content(t, "t.feather", b"a,b\n1,2\n"),
        "not a Feather or Arrow file, in spite of its name",
    ),
    "truncated Feather": (
        lambda t: cut(write(table(), t / "t.feather")), r"t\.feather: a Feather or Arrow file that",
    ),
    "truncated stream": (lambda t: cut(write(table(), t / "t.arrow")), "that is damaged or cut"),
    "another kind": (
        lambda t: other_content(t, "t.xlsx", b"PK"), r"not a kind of file that is read .*\.csv",
    ),
    "a folder without files": (lambda t: t, r"a folder without Parquet files \(\*\.parquet\)$"),
    "a folder of folders": (
        lambda t: (write(table(), t / "year=1"), t)[1],
        r"a folder without Parquet files .*; .*year=1 has some",
    ),
    "a folder that lacks a column": (
        lambda t: folder_with(t, a=table(), b=table().drop_columns(["age"])),
        r"b\.parquet lacks the column 'age' of a\.parquet",
    ),
    "a folder with one more": (
        lambda t: folder_with(t, a=table().drop_columns(["age"]), b=table()),
        r"b\.parquet has a column 'age', which a\.parquet has not",
    ),
    "a folder of two kinds": (
        lambda t: folder_with(t, a=pa.table({"x": [1]}), b=pa.table({"x": ["1"]})),
        r"b\.parquet: column 'x' holds string, but int64 in a\.parquet",
    ),
    "a folder with a bad file": (
        lambda t: (folder_with(t, a=table()), other_content(t, "b.parquet", b"no"))[0],
        r"b\.parquet: not a Parquet file, in spite of its name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(InvalidInput, match=message) as caught:
        read_table(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_ragged_row_of_another_encoding_is_no_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path, "a,b\n1,é\nü\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"row 3 has 1 field, but there are 2 columns"):
        read_table(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_text_that_is_no_text(kind: str, tmp_path: Path) -> None:
    bytes_ = pa.array([b"caf\xe9", b"x"])
    text = pa.StringArray.from_buffers(2, bytes_.buffers()[1], bytes_.buffers()[2])
    path = write(pa.table({"a": text}), tmp_path / f"t.{kind}")
    with pytest.raises(InvalidInput, match=r"damaged or cut short .*UTF8"):
        read_table(path)
    with pytest.raises(InvalidInput, match="column 'a' holds text that is not UTF-8"):
        mlp.TablePreprocessor.fit(pa.table({"a": text}))


def test_names_of_any_length_stay_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting) as caught:
        mlp.load_data(csv(tmp_path, f'"a\nb",{"c" * 99}\n1,2\n'))
    assert str(caught.value).endswith(f"there are 'a b', '{'c' * 60}...'")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow", "t.csv.gz"])
def test_a_changed_byte_is_either_harmless_or_one_clear_error(name: str, tmp_path: Path) -> None:
    path = write(table(), tmp_path / name)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), max(len(whole) // 40, 1)):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            read_table(path).validate(full=True)
        except (InvalidInput, pa.ArrowInvalid):
            refused += 1
    assert refused > 3


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than one column named 'a'"),
        (pd.DataFrame({"a": [1, "x"]}), "the table cannot be read as a table: .*column a"),
        (pl.DataFrame({"a": []}), "the table has no rows"),
        (pd.DataFrame(), "the table has no columns"),
        (Stream(pa.chunked_array([[1, 2]])), "cannot be read as a table"),
        ([[1, 2]], "the table must be a table of pandas, polars, pyarrow or with .*, not list"),
        (None, "the table must be a table of .*, not NoneType"),
        (pd.Series([1, 2]), "not Series"),
        (pa.chunked_array([[1, 2]]), "not ChunkedArray"),
    ],
)
def test_bad_tables_in_python(of: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_table(of)


def test_settings_that_do_not_go(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    with pytest.raises(InvalidSetting, match="separator must be a single character, not '::'"):
        read_table(path, separator="::")
    with pytest.raises(InvalidSetting, match="there is no encoding 'latin-99'"):
        read_table(path, encoding="latin-99")
    with pytest.raises(InvalidSetting, match="only CSV files have a separator"):
        read_table(parquet(tmp_path), separator=";")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (
        lambda: read_table(path),
        lambda: mlp.load_data(path, target="b"),
        lambda: mlp.TablePreprocessor.fit(pd.DataFrame({"a": [1]})),
    ):
        with pytest.raises(InvalidSetting, match=r'pip install "fused-mlp\[tables\]"'):
            use()


@pytest.mark.parametrize("name", FILES)
def test_progress_goes_from_little_to_all(name: str, tmp_path: Path) -> None:
    path = write(table(), tmp_path / name)
    seen: list[tuple[int, int]] = []
    read_table(path, progress=lambda *numbers: seen.append(numbers))
    files = [path] if path.is_file() else [*path.glob("*.parquet")]
    total = sum(file.stat().st_size for file in files)
    assert {of for _, of in seen} == {total}
    done = [number for number, _ in seen]
    assert done == sorted(done)
    assert 0 < done[-1] <= total
    if "parquet" not in name and name != "folder":  # whose descriptions are no row groups
        assert done[-1] == total


def test_a_large_file_is_reported_in_parts(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n" + "12345678,87654321\n" * 200_000)
    seen: list[float] = []
    read_table(path, progress=lambda done, total: seen.append(done / total))
    assert len(seen) > 3
    assert seen[0] < 0.5


def test_a_file_is_closed_when_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = Path.open

    def watch(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(real(self, *arguments, **options))
        return opened[-1]

    monkeypatch.setattr(Path, "open", watch)
    with pytest.raises(InvalidInput):
        read_table(csv(tmp_path, "a,b\n1\n"))
    assert opened
    assert all(file.closed for file in opened)


WIDE = ",".join(f"x{i}" for i in range(1000)) + "\n" + (",".join("1" * 1000) + "\n") * 100


@pytest.mark.parametrize("content", [WIDE, "a,b\n1\n", "a\n\xe9\n"], ids=["wide", "bad", "latin"])
def test_no_thread_holds_a_file_that_was_read(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that did would abort the process, if that ended at the same moment."""
    events = []
    real = csv_files.counted

    def watch(*arguments: Any) -> Any:
        file, let_go = real(*arguments)
        events.append(let_go)
        return file, let_go

    monkeypatch.setattr(csv_files, "counted", watch)
    for _ in range(20):
        (tmp_path / "t.csv").write_bytes(content.encode("latin-1"))
        with contextlib.suppress(InvalidInput):
            read_table(tmp_path / "t.csv")
        assert all(let_go.is_set() for let_go in events)
    assert len(events) >= 20


def test_other_types_give_the_same_values(tmp_path: Path) -> None:
    pa.parquet.write_table(typed_table(), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert [float(h) if h is not None else None for h in found["height"].to_pylist()] == (
        table()["height"].to_pylist()
    )
