"""`mlp train` on data that is larger than the memory it may use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlp
from mlp import streaming
from mlp.cli import predict_parts, streamed
from tests.data.test_parquet_blocks import TABLE, damage

QUICK = ("--epochs", 2, "--device", "numpy", "--hidden", "8", "--batch-size", 64)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("mlp.cli.curves.draw_curves", lambda *_: b"")


@pytest.fixture
def tight(monkeypatch):
    """No data fits, and windows are small."""
    monkeypatch.setattr(streamed, "PROCESS_BYTES", 10**15)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(streaming, "LEAST_WINDOW_BYTES", 1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(3):
        part = TABLE.slice(300 * number, 300)
        pq.write_table(part, tmp_path / f"set/{number}.parquet", row_group_size=120)
    return "set"


def drop(*kept):
    names = [n for n in ("w", "y", "z", "label", "two") if n not in kept]
    return [word for name in names for word in ("--drop", name)]


@pytest.mark.parametrize(
    ("target", "how", "classes"),
    [
        ("label", "target 'label': text, learned as classes", ("Bern", "Oslo", "Rome")),
        ("two", "target 'two': 2 different whole numbers, learned as classes", (0, 1)),
        ("y", "target 'y': numbers, learned as values", None),
    ],
)
def test_a_folder(target, how, classes, run, folder, tight):
    result = run("train", folder, "--target", target, *drop(target), *QUICK, "--out", "out")
    assert result.code == 0, result.err
    assert how in result.err
    assert "set: too large to be trained on within" in result.err
    assert "its 900 rows are read in 9 blocks as they are needed" in result.err
    assert "set: 900 rows of 4 columns (3 of numbers, 1 of categories) as 7 features" in result.err
    assert "did not fit on the device" not in result.err
    net = mlp.load("out/model.safetensors", "numpy")
    assert net.classes == classes
    if target == "y":
        y = TABLE["y"].to_numpy()[~mlp.data.holdout.held_out(0, 0, 900, 0.2)]
        np.testing.assert_allclose(net.target_scaler.mean, y.mean(), rtol=1e-12)
        np.testing.assert_allclose(net.target_scaler.scale, y.std(), rtol=1e-12)
    assert net.metadata["target"] == [target]
    predicted = run("predict", "out/model.safetensors", "set", "--out", "p.csv")
    assert predicted.code == 0, predicted.err
    assert "on 900 rows of set" in predicted.err


def test_what_is_reported(run, folder, tight):
    arguments = ("train", folder, "--target", "label", *drop("label"), *QUICK, "--json")
    found = run(*arguments, "--out", "a").json()
    assert found["streamed"] is True
    assert found["rows"] + found["held_out"] == 900
    assert 140 <= found["held_out"] <= 220
    assert found["columns"] == {"a": "number", "b": "number", "n": "number", "town": "category"}
    net = mlp.load("a/model.safetensors", "numpy")
    rows = TABLE.select(["a", "b", "n", "town"])
    out = mlp.data.holdout.held_out(0, 0, 900, 0.2)
    for part, mask in (("train", ~out), ("validation", out)):
        right = net.predict(rows.filter(pa.array(mask))) == TABLE["label"].to_numpy()[mask]
        assert found[f"{part}_score"] == pytest.approx(right.mean())
    assert run(*arguments, "--out", "b").json()["train_loss"] == found["train_loss"]
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_without_validation_and_several_targets(run, folder, tight):
    options = (*drop("y", "z"), *QUICK, "--validation", 0, "--out", "out", "--json")
    found = run("train", folder, "--target", "y", "--target", "z", *options).json()
    assert (found["rows"], found["held_out"]) == (900, 0)
    assert found["validation_loss"] is None
    assert mlp.load("out/model.safetensors", "numpy").predict(TABLE).shape == (900, 2)


def test_npy_files(run, tight, tmp_path):
    X = np.random.default_rng(0).standard_normal((800, 5))
    np.save("X.npy", X)
    np.save("y.npy", (X[:, :1] > 0).astype(int))
    result = run("train", "X.npy", "--target", "y.npy", *QUICK, "--out", "out", "--json")
    assert result.code == 0, result.err
    assert result.json()["streamed"]
    net = mlp.load("out/model.safetensors", "numpy")
    out = mlp.data.holdout.held_out(0, 0, 800, 0.2)
    expected = mlp.Standardizer.fit(X[~out])
    np.testing.assert_allclose(net.preprocessing.mean, expected.mean, rtol=1e-12)
    assert (net.predict(X) == (X[:, 0] > 0)).mean() > 0.6
    raw = run("train", "X.npy", "--target", "y.npy", *QUICK, "--raw", "--out", "raw")
    assert raw.code == 0, raw.err
    assert mlp.load("raw/model.safetensors", "numpy").preprocessing is None


def test_small_data_is_trained_on_as_before(run, folder):
    result = run(
        "train", folder, "--target", "y", *drop("y"), *QUICK, "--memory-limit", "2GB", "--json"
    )
    assert result.code == 0, result.err
    assert result.json()["streamed"] is False


def test_a_share_that_would_not_stay_in_memory(run, folder, tight, monkeypatch):
    monkeypatch.setattr(streaming, "KEPT_BYTES", 8_000)
    result = run("train", folder, "--target", "y", *drop("y"), *QUICK, "--out", "out")
    assert result.code == 0, result.err
    held = int(result.err.split(" held out\n")[0].split(" to train on, ")[1])
    assert 0 < held < 100
    assert "% of the rows are held out, not 20.00%: as many as can stay in memory" in result.err


# --- predictions ----------------------------------------------------------------------------------


@pytest.fixture
def models(run, folder):
    """A classifier and a regression, trained on the table in memory."""
    for target in ("label", "y"):
        run("train", folder, "--target", target, *drop(target), *QUICK, "--out", target, "--quiet")
    return "label/model.safetensors", "y/model.safetensors"


@pytest.mark.parametrize("out", ["p.csv", "p.parquet", None])
def test_predictions_in_parts_are_those_of_the_whole(out, run, models, monkeypatch, tmp_path):
    for model, options in zip(models, (("--probabilities",), ()), strict=True):
        found = {}
        for part_rows in (None, 37):
            if part_rows:
                monkeypatch.setattr(predict_parts, "LARGE_BYTES", 0)
                monkeypatch.setattr(predict_parts, "PIECE_BYTES", part_rows * 7 * 8)
                monkeypatch.setattr("mlp.cli.predict.data_for", None)
            written = ("--out", out, "--overwrite") if out else ()
            result = run("predict", model, "set", *options, *written)
            assert result.code == 0, result.err
            text = result.out if out is None else ""
            if out is not None:
                file = tmp_path / out
                is_csv = out.endswith("csv")
                text = file.read_text() if is_csv else str(pq.read_table(file).to_pydict())
            found[part_rows] = text, result.err
            monkeypatch.undo()
            monkeypatch.chdir(tmp_path)
        (text, said), (parts, said_of_parts) = found.values()
        assert len(text.splitlines()) == 901 or not text.startswith("prediction")
        assert said == said_of_parts
        assert "on 900 rows of set" in said
        assert "not used:" in said
        assert parts == text


def test_predictions_in_parts_of_values_that_training_did_not_see(run, models, monkeypatch):
    rows = TABLE.select(["town", "n", "b", "a"]).set_column(0, "town", [["Paris"] * 900])
    pq.write_table(rows, "new.parquet")
    monkeypatch.setattr(predict_parts, "LARGE_BYTES", 0)
    monkeypatch.setattr(predict_parts, "PIECE_BYTES", 100 * 7 * 8)
    result = run("predict", models[1], "new.parquet", "--out", "p.csv")
    assert result.code == 0, result.err
    assert "900 values of column 'town' did not occur in training" in result.err
    assert "R²" not in result.err
    pq.write_table(rows.drop_columns(["b"]), "new.parquet")
    result = run("predict", models[1], "new.parquet", "--out", "q.csv")
    assert_one_sentence(result, 1, "new.parquet, row group 0 lacks the column 'b'")
    assert not Path("q.csv").exists()
    assert not list(Path().glob(".q.csv*"))
    result = run("predict", models[1], "set", "--out", "p.csv")
    assert_one_sentence(result, 1, "p.csv already exists; pass --overwrite to replace it")


# --- mistakes -------------------------------------------------------------------------------------


def assert_one_sentence(result, code, *words, out=""):
    assert result.code == code
    assert out is None or result.out == out
    lines = [line for line in result.err.splitlines() if line.startswith("mlp: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("limit", ["lots", "0", "-1GB", "1 XB"])
def test_limits_that_are_none(limit, run, folder):
    result = run("train", folder, "--target", "y", "--memory-limit", limit)
    assert_one_sentence(result, 2, "--memory-limit must be a number of bytes, or like")


def test_a_limit_that_is_too_small(run, folder):
    result = run("train", folder, "--target", "y", *drop("y"), "--memory-limit", "50MB")
    assert_one_sentence(
        result, 2, "a memory limit of 50 MB is too small: about 400 MB", "at least", "are needed"
    )


def test_kinds_of_files_that_are_read_whole(run):
    Path("big.csv").write_text("a,y\n" + "1,2\n" * 1000)
    result = run("train", "big.csv", "--target", "y", "--memory-limit", "100MB")
    assert_one_sentence(result, 2, "big.csv", "only Parquet and .npy files are read in parts")


def test_a_table_without_a_target(run, folder, tight):
    assert_one_sentence(run("train", folder), 2, "set", "name the column to learn with --target")
    assert_one_sentence(
        run("train", folder, "--target", "yy"), 2, "unknown target column 'yy'. Valid: a, b"
    )


def test_a_damaged_row_group(run, folder, tight, tmp_path):
    damage(tmp_path / "set/1.parquet", 2)
    result = run("train", folder, "--target", "y", *drop("y"), *QUICK, "--out", "out")
    assert_one_sentence(result, 1, "set/1.parquet, row group 2", "damaged or cut short")
    assert not (tmp_path / "out").exists()


def test_a_file_that_vanishes_during_training(run, folder, tight, tmp_path, monkeypatch):
    """The best weights so far are saved."""

    def harm(trainer):
        if trainer.epoch == 2:
            (tmp_path / "set/2.parquet").unlink()

    monkeypatch.setattr("mlp.cli.watching.watchers", lambda *_: [harm])
    options = (*drop("y"), *QUICK, "--epochs", 5, "--out", "out")
    result = run("train", folder, "--target", "y", *options)
    assert_one_sentence(
        result,
        1,
        "set/2.parquet: the file is not there any more",
        "so far are in out/model",
        out=None,
    )
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["epochs"] in (2, 3)  # the next window may have been read already
    assert metrics["train_loss"] is None
    assert metrics["validation_loss"] > 0
    mlp.load("out/model.safetensors", "numpy")


def test_an_interrupt_saves_the_best_weights(run, folder, tight, monkeypatch):
    def interrupt(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("mlp.cli.watching.watchers", lambda *_: [interrupt])
    options = (*drop("y"), *QUICK, "--epochs", 5, "--out", "out")
    result = run("train", folder, "--target", "y", *options)
    assert_one_sentence(result, 130, "interrupted; the best weights so far are in out", out=None)
    assert json.loads(Path("out/metrics.json").read_text())["train_loss"] is None


def test_a_column_that_nothing_can_be_learned_from(run, tight):
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [None, None], "y": [1.0, 2.0]}), "t.parquet")
    assert_one_sentence(
        run("train", "t.parquet", "--target", "y", "--validation", 0), 1,
        "t.parquet: column 'b' has no value in any training row",
    )  # fmt: skip
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": [1.0, float("nan")]}), "t.parquet")
    assert_one_sentence(
        run("train", "t.parquet", "--target", "y"), 1,
        "t.parquet, row group 0: the target 'y' holds nan at row 1 of all",
    )  # fmt: skip


def test_a_single_class(run, tight):
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": ["x", "x"]}), "t.parquet")
    result = run("train", "t.parquet", "--target", "y", "--validation", 0)
    assert_one_sentence(result, 1, "only one class, 'x'")
