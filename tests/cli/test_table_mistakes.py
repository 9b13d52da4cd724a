"""Each bad file and each wrong option: one clear sentence, the right exit code, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import CommandLine
from tests.cli.table_runs import NUMPY, QUICK, mixed

pytestmark = pytest.mark.usefixtures("no_pictures")


FAILURE, USAGE = 1, 2


def files() -> None:
    frame = mixed().drop(columns=["id", "when"])

    def to_csv(name: str, **columns: Any) -> None:
        frame.assign(**columns).to_csv(f"{name}.csv", index=False)

    to_csv("good")
    to_csv("dates", when=pd.date_range("2020", periods=60))
    to_csv("ids", id=[f"user {i}" for i in range(60)])
    to_csv("nothing", nothing=None)
    to_csv("single", buys="yes")
    to_csv("rare", buys=["maybe", *frame["buys"][1:]])
    to_csv("holes", buys=[None, *frame["buys"][1:]])
    to_csv("infinite", age=[1.0, np.inf] * 30)
    to_csv("huge", age=[1.0, 1e39] * 30)
    frame[1:2].to_csv("one.csv", index=False)
    frame[:0].to_csv("none.csv", index=False)
    sizes = [i + 0.5 for i in range(60)]
    frame.assign(size=sizes).to_csv("excel.csv", index=False, sep=";", decimal=",")
    frame.assign(size=["3 kg"] * 9 + sizes[9:]).to_csv("units.csv", index=False)
    frame.assign(size=list(map(str, sizes))).to_parquet("digits.parquet")
    Path("book.csv").write_bytes(b"PK\x03\x04 sheets")
    Path("book.xlsx").write_bytes(b"PK\x03\x04 sheets")
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    Path("latin.csv").write_bytes("a,b\n1,é\n".encode("latin-1"))
    Path("twice.csv").write_text("a,a\n1,2\n")
    Path("empty.csv").touch()
    Path("zip.parquet").write_bytes(b"PK\x03\x04")
    frame.to_parquet("cut.parquet")
    Path("cut.parquet").write_bytes(Path("cut.parquet").read_bytes()[:500])
    Path("folder").mkdir()
    Path("parts").mkdir()
    frame.to_parquet("parts/a.parquet")
    frame.drop(columns=["age"]).to_parquet("parts/b.parquet")
    np.savez("arrays.npz", X=np.eye(3), y=[0, 1, 2])


MISTAKES = [
    ("train good.csv", USAGE, "name the column to learn with --target; there are 'age', 'town'"),
    ("train good.csv --target byus", USAGE, "unknown target column 'byus'; did you mean 'buys'"),
    ("train good.csv --target buys --drop buys", USAGE, "is the target and cannot be dropped"),
    ("train good.csv --target buys --drop agee", USAGE, "did you mean 'age'"),
    ("train good.csv --target buys --task regression", FAILURE, "holds text, but a regression"),
    ("train good.csv --target buys --loss mse", FAILURE, "'buys' holds text, but a regression"),
    ("train good.csv --target age --loss mse --task classification", USAGE, "--task says"),
    ("train good.csv --target buys --task classify", USAGE, "unknown task 'classify'"),
    ("train good.csv --target buys --separator ::", USAGE, "separator must be a single"),
    ("train good.csv --target buys --encoding utf-99", USAGE, "there is no encoding 'utf-99'"),
    # What can be said before a file is read, which may take long, is.
    ("train gone.csv --target buys --precision float23", USAGE, "did you mean 'float32'"),
    ("train gone.csv --target buys --optimizer adm", USAGE, "did you mean 'adam'"),
    ("train gone.csv --target buys --hidden x", USAGE, "--hidden takes widths"),
    ("train gone.csv --target buys", FAILURE, "gone.csv: there is no such file"),
    ("train dates.csv --target buys", FAILURE, "dates.csv: column 'when' holds dates or times"),
    ("train ids.csv --target buys", FAILURE, "column 'id' holds 48 distinct texts in 48 rows"),
    ("train nothing.csv --target buys", FAILURE, "column 'nothing' has no value in any row"),
    ("train single.csv --target buys", FAILURE, "the target 'buys' has only one class, 'yes'"),
    ("train rare.csv --target buys", FAILURE, "only one row has the class 'maybe', of 3 classes"),
    ("train holes.csv --target buys", FAILURE, "the target 'buys' is missing in 1 row, first in"),
    ("train infinite.csv --target buys", FAILURE, "column 'age' holds inf at row 1"),
    ("train huge.csv --target buys --raw", FAILURE, "column 'age' has numbers beyond"),
    ("train one.csv --target buys", FAILURE, "one.csv has only one row, too few to learn"),
    ("train excel.csv --target buys", FAILURE, "if ';' separates them, pass --separator ';'"),
    ("train excel.csv --target buys --separator ;", FAILURE, "holds numbers with commas, such as"),
    (
        "train units.csv --target buys",
        FAILURE,
        "numbers, but also text, such as '3 kg'; make",
    ),
    ("train digits.parquet --target buys", FAILURE, "column 'size' holds numbers as text; store"),
    ("train book.csv --target buys", FAILURE, "book.csv: an Excel or zip file, in spite of its"),
    ("train book.xlsx --target buys", FAILURE, ".ipc; save it as CSV"),
    ("train none.csv --target buys", FAILURE, "none.csv has no rows, only the names"),
    ("train ragged.csv --target a", FAILURE, "row 3 has 1 field, but there are 2 columns"),
    ("train latin.csv --target a", FAILURE, "column 'b' is not encoded as UTF-8; pass --encoding"),
    ("train twice.csv --target a", FAILURE, "more than one column named 'a'"),
    ("train empty.csv --target a", FAILURE, "empty.csv: the file is empty"),
    ("train zip.parquet --target a", FAILURE, "not a Parquet file, in spite of its name"),
    ("train cut.parquet --target buys", FAILURE, "a Parquet file that is damaged or cut short"),
    ("train folder --target buys", FAILURE, "folder: a folder without Parquet files"),
    ("train parts --target buys", FAILURE, "parts/b.parquet lacks the column 'age' of a.parquet"),
    ("train arrays.npz --target z", FAILURE, "no array z; it has 'X', 'y'"),
    ("train arrays.npz --drop X", USAGE, "arrays.npz has no named columns to drop"),
    ("train arrays.npz --target X --target y", USAGE, "of arrays there is one target, not 2"),
    ("train iris --target species", USAGE, "iris is bundled and has its own target"),
    ("predict mixed/model.safetensors", USAGE, "name the DATA"),
    ("predict mixed/model.safetensors parts/b.parquet", FAILURE, "lacks the column 'age'"),
    ("predict mixed/model.safetensors arrays.npz", FAILURE, "must be a table with named columns"),
    ("predict mixed/model.safetensors dates.csv --out p.xlsx", USAGE, "are written as .csv, .parq"),
    ("predict mixed/model.safetensors good.csv --out ./good.csv --overwrite", FAILURE, "is what"),
    ("predict mixed/model.safetensors parts --out parts/p.parquet", FAILURE, "is what is read"),
    ("train good.csv --target buys --log good.csv --overwrite", FAILURE, "is what is read; name"),
    ("train good.csv --target buys --report good.csv --overwrite", FAILURE, "is what is read"),
    ("predict mixed/model.safetensors infinite.csv", FAILURE, "column 'age' holds inf at row 1"),
    ("predict mixed/model.safetensors good.csv --out p.npy --probabilities", USAGE, "not both"),
]


@pytest.mark.usefixtures("table_model")
def test_each_mistake_is_one_clear_sentence(run: CommandLine) -> None:
    files()
    before = {*Path().rglob("*")}
    for line, code, sentence in MISTAKES:
        result = run(*line.split(), *NUMPY)
        message = result.err.splitlines()[-1] if result.err else ""
        assert sentence in message, (line, result.err)
        assert result.code == code, (line, result.err)
        assert result.out == "", line
        assert "Traceback" not in result.err, line
    assert {*Path().rglob("*")} == before


def test_huge_numbers_train_when_standardised(run: CommandLine) -> None:
    files()
    assert run("train", "huge.csv", "--target", "buys", *QUICK).code == 0
