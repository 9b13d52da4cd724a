"""`mlp train FILE --target COLUMN`, on real files of every kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import datasets

import mlp
from mlp.cli.input import reading
from tests.cli.conftest import CommandLine
from tests.cli.table_runs import NUMPY, QUICK, mixed
from tests.data.tables import FILES, write

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize("name", FILES)
def test_every_format_trains_the_same_model(run: CommandLine, name: str) -> None:
    frame = mixed(40).drop(columns=["id", "when"])
    frame["member"] = frame["member"].astype(bool)
    path = write(pa.Table.from_pandas(frame), Path(name))
    reference = write(pa.Table.from_pandas(frame), Path("reference.parquet"))
    for source, out in ((path, "ours"), (reference, "theirs")):
        assert run("train", source, "--target", "buys", *QUICK, "--out", out).code == 0
    ours, theirs = (mlp.load(f"{out}/model.safetensors", "numpy") for out in ("ours", "theirs"))
    assert ours.preprocessing == theirs.preprocessing
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_a_table_trains_as_its_array_does(run: CommandLine, name: str) -> None:
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame
    if name == "iris":
        frame["target"] = bunch.target_names[bunch.target]
    frame.to_csv("data.csv", index=False)
    of_table = run("train", "data.csv", "--target", "target", *QUICK, "--json").json()
    of_array = run("train", name, *QUICK, "--json").json()
    assert of_table["task"] == of_array["task"]
    for number in ("train_loss", "validation_loss", "validation_score"):
        assert of_table[number] == pytest.approx(of_array[number], rel=1e-4)


def test_what_is_said_and_noted_of_a_table(run: CommandLine) -> None:
    mixed().drop(columns=["id"]).to_parquet("mixed.parquet")
    result = run(
        "train", "mixed.parquet", "--target", "buys", "--drop", "when", *QUICK[:-1]
    )  # fmt: skip
    said = result.err.splitlines()
    assert said[0] == "target 'buys': text, learned as classes"
    assert said[1] == (
        "mixed.parquet: 60 rows of 3 columns (1 of numbers, 1 of booleans, 1 of categories) as "
        "6 features, classification with 2 classes; 48 to train on, 12 held out"
    )
    metrics = json.loads(Path("runs/mixed/metrics.json").read_text())
    assert metrics["columns"] == {"age": "number", "town": "category", "member": "boolean"}
    assert metrics["target"] == ["buys"]
    assert metrics["target_read_as"] == said[0]
    assert metrics["settings"]["drop"] == ["when"]


def test_a_column_without_a_name_is_mentioned(run: CommandLine) -> None:
    mixed().drop(columns=["id", "when"]).to_csv("indexed.csv")
    options = ("train", "indexed.csv", "--target", "buys", *QUICK[:-1])
    assert "the column without a name is learned from, too; --drop ''" in run(*options).err
    result = run(*options, "--drop", "")
    assert (result.code, "without a name" in result.err) == (0, False)


def test_only_the_training_rows_are_learned_from(run: CommandLine) -> None:
    frame = pd.DataFrame({"x": np.arange(40.0) ** 2, "y": np.linspace(0, 1, 40)})
    frame.to_csv("t.csv", index=False)
    run("train", "t.csv", "--target", "y", *QUICK, "--seed", 5, "--out", "out")
    train, _ = mlp.load_data("t.csv", target="y").split(0.2, seed=5)
    (column,) = mlp.load("out/model.safetensors", "numpy").preprocessing.columns
    x = train.X.column("x").to_numpy()
    assert len(x) == 32
    assert (column.mean, column.scale) == (pytest.approx(x.mean()), pytest.approx(x.std()))
    assert column.mean != pytest.approx(frame["x"].mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "task", "output"),
    [
        (["--target", "few"], "classification", (3, "softmax")),
        (["--target", "few", "--task", "regression"], "regression", (1, "identity")),
        (["--target", "few", "--loss", "mse"], "regression", (1, "identity")),
        (["--target", "few", "--loss", "poisson"], "regression", (1, "identity")),
        (["--target", "many"], "regression", (1, "identity")),
        (["--target", "two", "--loss", "binary_cross_entropy"], "classification", (1, "sigmoid")),
        (["--target", "x", "--target", "many"], "regression", (2, "identity")),
        (["--target", "x", "--raw"], "regression", (1, "identity")),
    ],
)
def test_targets_are_read_as_documented(
    run: CommandLine, options: list[str], task: str, output: tuple[int, str]
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "z": rng.normal(size=60)})
    frame["few"], frame["many"], frame["two"] = np.arange(60) % 3, range(60), [*"ab"] * 30
    frame.to_csv("t.csv", index=False)
    result = run("train", "t.csv", *options, *QUICK, "--json")
    assert result.code == 0, result.err
    assert result.json()["task"] == task
    network = mlp.load("runs/t/model.safetensors", "numpy")
    assert (network.spec.outputs, network.spec.output_activation) == output
    answer = run("predict", "runs/t/model.safetensors", "t.csv", "--json", *NUMPY).json()
    predictions = np.array(answer["predictions"])
    if task == "regression":
        y = frame[options[1 : 2 * output[0] : 2]].to_numpy(float)
        residual = ((y - predictions.reshape(y.shape)) ** 2).sum(axis=0)
        spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        assert answer["score"] == pytest.approx((1 - residual / spread).mean(), abs=1e-5)
    else:
        assert answer["score"] == pytest.approx((predictions == frame[options[1]]).mean())


def test_arrays_of_two_files_train(run: CommandLine) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.save("X.npy", X)
    np.save("y.npy", np.arange(40) % 2)
    assert run("train", "X.npy", "--target", "y.npy", *QUICK, "--out", "out").code == 0
    assert len(run("predict", "out/model.safetensors", "X.npy", *NUMPY).out.splitlines()) == 41
    assert (
        run("gradcheck", "out/model.safetensors", "X.npy", *NUMPY).code == 2
    )  # without its target
    for command in ("gradcheck", "explain"):
        assert run(command, "out/model.safetensors", "X.npy", "--target", "y.npy", *NUMPY).code == 0


def test_reading_is_shown_where_it_takes_long(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed().drop(columns=["id", "when"]).to_csv("m.csv", index=False)
    monkeypatch.setattr("mlp.cli.input.QUIET_SECONDS", -1.0)
    said = run("train", "m.csv", "--target", "buys", *QUICK[:-1], "--out", "a").err.splitlines()
    assert said[0] == "reading m.csv: 0 of 0 MB (100%)"
    assert said[1].startswith("target 'buys'")  # a line now and then, not for every part
    assert run("train", "m.csv", "--target", "buys", *QUICK, "--out", "b").err == ""
    assert run("predict", "a/model.safetensors", "m.csv", "--json", *NUMPY).err == ""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    with reading("m.csv") as progress:
        progress(1, 10)
        progress(10, 10)
