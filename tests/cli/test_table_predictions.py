"""`mlp predict`, `explain` and `gradcheck` of a model that was trained on a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

import mlp
from tests.cli.conftest import CommandLine
from tests.cli.table_runs import NUMPY, QUICK, mixed

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_predict_takes_raw_files_and_names_of_columns(run: CommandLine, table_model: Path) -> None:
    network = mlp.load(table_model, "numpy")
    labels = network.predict(mixed()).tolist()
    shuffled = mixed()[["buys", "member", "town", "id", "age"]]
    shuffled.to_csv("shuffled.csv", index=False)
    shuffled.drop(columns=["buys"]).to_parquet("unlabelled.parquet")
    with_target = run("predict", table_model, "shuffled.csv", *NUMPY)
    assert with_target.out.splitlines() == ["prediction", *labels]
    right = np.mean(np.array(labels) == mixed()["buys"])
    assert with_target.err.splitlines() == [
        "shuffled.csv: not used: 'id'",
        f"accuracy {right:.4f} on 60 rows of shuffled.csv",
    ]
    without = run("predict", table_model, "unlabelled.parquet", *NUMPY)
    assert without.out == with_target.out
    assert "accuracy" not in without.err


def read_back(path: str) -> pd.DataFrame:
    readers = {"csv": pd.read_csv, "txt": pd.read_csv, "parquet": pd.read_parquet}
    reader = readers.get(path.split(".")[1], pd.read_feather)
    return reader(path)


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.feather", "p.arrow"])
def test_predictions_in_files(run: CommandLine, table_model: Path, name: str) -> None:
    result = run("predict", table_model, "mixed.csv", "--out", name, "--probabilities", *NUMPY)
    assert (result.code, result.out) == (0, "")
    found, network = read_back(name), mlp.load(table_model, "numpy")
    assert [*found] == ["prediction", "probability_no", "probability_yes"]
    assert found["prediction"].tolist() == network.predict(mixed()).tolist()
    p = network.forward(mixed())
    np.testing.assert_allclose(found[["probability_no", "probability_yes"]], p, rtol=1e-6)
    again = run("predict", table_model, "mixed.csv", "--out", name, *NUMPY)
    assert again.code == 1
    assert "--overwrite" in again.err


def test_predictions_as_arrays_and_in_json(run: CommandLine, table_model: Path) -> None:
    run("predict", table_model, "mixed.csv", "--out", "p.npy", *NUMPY)
    assert np.load("p.npy").tolist() == mlp.load(table_model, "numpy").predict(mixed()).tolist()
    answer = run("predict", table_model, "mixed.csv", "--json", "--probabilities", *NUMPY).json()
    p = mlp.load(table_model, "numpy").forward(mixed())
    np.testing.assert_allclose(answer["probabilities"]["yes"], p[:, 1], rtol=1e-6)
    assert answer["notes"] == ["mixed.csv: not used: 'id', 'when'"]


def test_probabilities_of_a_single_sigmoid_and_of_values(run: CommandLine) -> None:
    mixed().drop(columns=["id", "when"]).to_csv("m.csv", index=False)
    options = ("--target", "buys", "--loss", "binary_cross_entropy", *QUICK, "--out", "two")
    assert run("train", "m.csv", *options).code == 0
    result = run("predict", "two/model.safetensors", "m.csv", "--probabilities", *NUMPY)
    rows = [*csv.DictReader(io.StringIO(result.out))]
    for row in rows:
        yes = float(row["probability_yes"])
        assert float(row["probability_no"]) == pytest.approx(1 - yes)
        assert row["prediction"] == ("yes" if yes >= 0.5 else "no")
    assert run("train", "diabetes", *QUICK, "--out", "values").code == 0
    refused = run("predict", "values/model.safetensors", "--probabilities", *NUMPY)
    assert refused.code == 2
    assert "the model predicts values" in refused.err


def test_what_training_did_not_see_is_counted(run: CommandLine, table_model: Path) -> None:
    frame = mixed(10).drop(columns=["id", "when", "buys"])
    frame.loc[3, "town"], frame["member"] = "Lima", frame["member"].astype(object)
    frame.loc[[2, 5], "member"] = None
    frame.to_csv("new.csv", index=False)
    result = run("predict", table_model, "new.csv", *NUMPY)
    assert len(result.out.splitlines()) == 11
    assert result.err.splitlines() == [
        "new.csv: 1 value of column 'town' did not occur in training",
        "new.csv: 2 values of column 'member' did not occur in training",
    ]


def test_text_that_looks_like_numbers_stays_text(run: CommandLine) -> None:
    frame = pd.DataFrame({"code": ["01", "2", "x"] * 20, "grade": ["1", "2", "n/a."] * 20})
    frame.to_csv("t.csv", index=False)
    assert run("train", "t.csv", "--target", "grade", *QUICK, "--out", "out").code == 0
    numeric = frame[frame["code"] != "x"]
    numeric.to_csv("numeric.csv", index=False)
    result = run("predict", "out/model.safetensors", "numeric.csv", *NUMPY)
    assert "did not occur" not in result.err
    assert "accuracy" in result.err
    whole = run("predict", "out/model.safetensors", "t.csv", *NUMPY).out.splitlines()[1:]
    kept = [label for label, code in zip(whole, frame["code"], strict=True) if code != "x"]
    assert result.out.splitlines()[1:] == kept


def test_a_target_of_another_name_or_none_that_fits(run: CommandLine, table_model: Path) -> None:
    mixed().rename(columns={"buys": "bought"}).to_csv("other.csv", index=False)
    assert "accuracy" not in run("predict", table_model, "other.csv", *NUMPY).err
    named = run("predict", table_model, "other.csv", "--target", "bought", *NUMPY)
    assert "accuracy" in named.err
    broken = mixed()
    broken.loc[4, "buys"] = None
    broken.to_csv("broken.csv", index=False)
    result = run("predict", table_model, "broken.csv", *NUMPY)
    assert len(result.out.splitlines()) == 61
    assert "no score: broken.csv: the target 'buys' is missing in 1 row, first in r" in result.err


def test_a_table_for_a_model_of_arrays(run: CommandLine, iris_model: Path) -> None:
    frame = datasets.load_iris(as_frame=True).data
    frame.to_csv("iris.csv", index=False)
    result = run("predict", iris_model, "iris.csv", *NUMPY)
    assert result.out == run("predict", iris_model, "iris", *NUMPY).out
    assert "names no columns: those of iris.csv are taken in their order" in result.err
    frame.assign(species=datasets.load_iris().target_names[datasets.load_iris().target]).to_csv(
        "labelled.csv", index=False
    )
    scored = run("predict", iris_model, "labelled.csv", "--target", "species", *NUMPY)
    assert scored.out == result.out
    right = run("predict", iris_model, "iris", "--json", *NUMPY).json()["score"]
    assert f"accuracy {right:.4f} on 150 rows" in scored.err
    frame.assign(kind="x").to_csv("text.csv", index=False)
    refused = run("predict", iris_model, "text.csv", *NUMPY)
    assert refused.code == 1
    assert "column 'kind' holds string, but the model was trained on arrays" in refused.err


def test_explain_and_gradcheck_of_a_table(run: CommandLine, table_model: Path) -> None:
    shown = run("explain", table_model, "mixed.csv", "--row", 3, *NUMPY)
    assert shown.code == 0, shown.err
    assert "x1 age, x2 age is missing, x3 town = Oslo" in " ".join(shown.out.split())
    network = mlp.load(table_model, "numpy")
    assert f"{network.forward(mixed())[3].max():.4f}"[:5] in shown.out
    checked = run("gradcheck", table_model, "mixed.csv", *NUMPY)
    assert checked.code == 0, checked.out
    mixed().drop(columns=["buys"]).to_csv("bare.csv", index=False)
    for command in ("explain", "gradcheck"):
        refused = run(command, table_model, "bare.csv")
        assert refused.code == 1
        assert "bare.csv lacks the target 'buys'" in refused.err
        assert run(command, table_model).code == 2  # the file is not known to be there
