"""`mlp train`: what it prints, writes and repeats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import mlp
from mlp.cli.progress import Lines
from tests.cli.conftest import CommandLine

QUICK = ("--epochs", 2, "--device", "numpy", "--hidden", "8")


def test_digits_reach_the_promised_accuracy_and_repeat_to_the_byte(run: CommandLine) -> None:
    first = run("train", "digits", "--seed", 0, "--json")
    second = run("train", "digits", "--seed", 0, "--json")
    assert first.code == second.code == 0
    assert first.json()["validation_score"] >= 0.97
    one, two = Path(first.json()["model"]), Path(second.json()["model"])
    assert (one, two) == (
        Path("runs/digits/model.safetensors"),
        Path("runs/digits-2/model.safetensors"),
    )
    for name in ("model.safetensors", "history.csv", "curves.png"):
        assert (one.parent / name).read_bytes() == (two.parent / name).read_bytes()


def test_json_is_one_object_and_nothing_else(run: CommandLine) -> None:
    result = run("train", "iris", *QUICK, "--json")
    assert result.err == ""
    metrics = result.json()
    assert metrics["task"] == "classification"
    assert metrics["device"] == "numpy"
    assert metrics["precision"] == "float32"
    assert metrics["epochs"] == 2
    assert metrics["seconds"] > 0
    assert metrics["samples_per_second"] > 0
    assert metrics == json.loads(Path("runs/iris/metrics.json").read_text())


def test_the_reported_numbers_are_those_of_the_saved_model(run: CommandLine) -> None:
    metrics = run("train", "iris", *QUICK, "--validation", 0, "--json").json()
    X, y = load_iris(return_X_y=True)
    network = mlp.load(metrics["model"], device="numpy")
    p = network.forward(X)
    assert metrics["train_loss"] == pytest.approx(-np.log(p[np.arange(150), y]).mean(), rel=1e-5)
    assert metrics["train_score"] == pytest.approx((p.argmax(axis=1) == y).mean())
    assert metrics["validation_loss"] is None
    assert metrics["validation_score"] is None


def test_history_has_a_line_per_epoch(run: CommandLine) -> None:
    run("train", "diabetes", *QUICK)
    with Path("runs/diabetes/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {
        "epoch", "loss", "validation_loss", "validation_score", "learning_rate",
    }  # fmt: skip
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_every_bundled_data_set_trains(run: CommandLine, name: str) -> None:
    result = run("train", name, *QUICK)
    assert result.code == 0
    assert name in result.err  # what was read
    assert "saved in" in result.out
    assert (Path("runs") / name / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_diabetes_is_learned_in_its_own_units(run: CommandLine) -> None:
    metrics = run("train", "diabetes", "--device", "numpy", "--seed", 1, "--json").json()
    assert metrics["task"] == "regression"
    assert metrics["validation_score"] > 0.3  # least squares reaches about 0.45
    predictions = mlp.load(metrics["model"], device="numpy").predict(np.zeros((1, 10)))
    assert 50 < predictions[0] < 300


@pytest.mark.parametrize(
    ("scale", "offset"), [(1e-30, 7), (1e-6, 7), (1.0, 7), (1.0, 1e9), (1e6, 7), (1e300, 7)]
)
def test_the_units_of_a_target_do_not_matter(run: CommandLine, scale: float, offset: float) -> None:
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = X @ [1.0, -2.0, 0.5] + offset
    np.savez("data.npz", X=X, y=scale * y)
    metrics = run(
        "train", "data.npz", "--device", "numpy", "--epochs", 60, "--dropout", 0, "--json"
    ).json()
    assert metrics["validation_score"] > 0.95
    found = mlp.load(metrics["model"], device="numpy").predict(X) / scale
    right = 1 - np.mean((found - y) ** 2) / np.var(y)
    assert right > 0.95
    answer = run("predict", metrics["model"], "data.npz", "--json").json()
    assert answer["score"] == pytest.approx(right, abs=1e-6)
    assert run("gradcheck", metrics["model"], "data.npz").code == 0


def test_every_option_reaches_the_run(run: CommandLine) -> None:
    result = run(
        "train", "wine", "--hidden", "7,5", "--activation", "tanh", "--optimizer", "sgd",
        "--learning-rate", 0.05, "--schedule", "cosine", "--epochs", 3, "--batch-size", 16,
        "--dropout", 0.2, "--weight-decay", 0.01, "--validation", 0.3, "--patience", 0,
        "--device", "numpy", "--precision", "float64", "--seed", 4, "--out", "here", "--json",
    )  # fmt: skip
    metrics = result.json()
    network = mlp.load("here/model.safetensors", device="numpy")
    assert network.spec.widths == (13, 7, 5, 3)
    assert [layer.activation for layer in network.spec.layers] == ["tanh", "tanh", "softmax"]
    assert [layer.dropout for layer in network.spec.layers] == [0.2, 0.2, 0]
    assert (network.precision, network.seed) == ("float64", 4)
    with Path("here/history.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    steps = -(-124 // 16)  # of 178 rows, 124 train
    last = np.array([steps - 1, 2 * steps - 1, 3 * steps - 1])
    assert rates == pytest.approx(0.05 * (1 + np.cos(np.pi * last / (3 * steps))) / 2)
    assert metrics["settings"]["weight_decay"] == 0.01


def test_raw_keeps_the_features_as_they_are(run: CommandLine) -> None:
    run("train", "iris", *QUICK, "--raw", "--out", "raw")
    assert mlp.load("raw/model.safetensors").preprocessing is None


@pytest.mark.parametrize(
    ("y", "options", "task", "output"),
    [
        (["no", "yes"] * 20, [], "classification", (2, "softmax")),
        ([3, 7] * 20, ["--loss", "binary_cross_entropy"], "classification", (1, "sigmoid")),
        (np.linspace(0, 1, 40), [], "regression", (1, "identity")),
        (np.arange(40) % 4, ["--loss", "poisson"], "regression", (1, "identity")),
        (np.arange(40) % 4, ["--loss", "huber"], "regression", (1, "identity")),
        (np.ones((40, 3)) / 3, [], "regression", (3, "identity")),
        (np.ones((40, 3)) / 3, ["--loss", "cross_entropy"], "classification", (3, "softmax")),
    ],
)
def test_npz_targets_are_read_as_documented(
    run: CommandLine, y: object, options: list[str], task: str, output: tuple[int, str]
) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.savez("data.npz", X=X, y=np.array(y))
    result = run("train", "data.npz", *QUICK, *options, "--json")
    assert result.code == 0, result.err
    assert result.json()["task"] == task
    spec = mlp.load("runs/data/model.safetensors").spec
    assert (spec.outputs, spec.output_activation) == output


def test_labels_of_any_kind_come_back_from_predict(run: CommandLine) -> None:
    X = np.vstack([np.full((30, 2), -1.0), np.full((30, 2), 1.0)])
    X += 0.1 * np.random.default_rng(0).normal(size=X.shape)
    np.savez("data.npz", X=X, y=np.array(["cold"] * 30 + ["warm"] * 30))
    run("train", "data.npz", "--epochs", 30, "--device", "numpy", "--out", "out")
    network = mlp.load("out/model.safetensors")
    assert network.predict([[-1, -1], [1, 1]]).tolist() == ["cold", "warm"]


def test_saved_results_are_not_overwritten_unless_asked(run: CommandLine) -> None:
    assert run("train", "iris", *QUICK, "--out", "kept").code == 0
    before = Path("kept/model.safetensors").read_bytes()
    again = run("train", "iris", *QUICK, "--seed", 1, "--out", "kept")
    assert again.code == 1
    assert "already holds model.safetensors" in again.err
    assert Path("kept/model.safetensors").read_bytes() == before
    assert run("train", "iris", *QUICK, "--seed", 1, "--out", "kept", "--overwrite").code == 0
    assert Path("kept/model.safetensors").read_bytes() != before


def test_without_matplotlib_all_but_the_picture_is_written(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("train", "iris", *QUICK)
    assert result.code == 0
    assert "fused-mlp[plot]" in result.err
    assert {path.name for path in Path("runs/iris").iterdir()} == {
        "model.safetensors", "history.csv", "metrics.json",
    }  # fmt: skip


def test_quiet_prints_the_result_only(run: CommandLine) -> None:
    result = run("train", "iris", *QUICK, "--quiet")
    assert result.err == ""
    assert "saved in runs/iris" in result.out


def _interrupt_at(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Lines, trainer: mlp.Trainer) -> None:
        if trainer.epoch == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "on_epoch_end", interrupt)


def test_an_interrupt_saves_the_best_weights_so_far(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = run("train", "iris", *QUICK, "--epochs", 3, "--out", "complete")
    assert complete.code == 0
    _interrupt_at(3, monkeypatch)
    result = run("train", "iris", *QUICK, "--epochs", 50, "--out", "cut")
    assert result.code == 130
    assert "interrupted" in result.err
    whole, cut = (mlp.load(f"{name}/model.safetensors") for name in ("complete", "cut"))
    for a, b in zip(whole.weights, cut.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.loads(Path("cut/metrics.json").read_text())["stopped"] == "interrupted"


def test_a_run_that_diverges_late_saves_its_best_weights(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blow_up(self: Lines, trainer: mlp.Trainer) -> None:
        if trainer.epoch == 2:
            trainer.network.parameters.flat.fill(np.nan)

    monkeypatch.setattr(Lines, "on_epoch_end", blow_up)
    result = run("train", "iris", *QUICK, "--epochs", 9, "--out", "late")
    assert result.code == 1
    assert "diverged in epoch 3" in result.err
    assert np.isfinite(mlp.load("late/model.safetensors").forward([5.0, 3.0, 1.0, 0.2])).all()


def test_an_interrupt_before_the_first_epoch_leaves_nothing(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Lines, trainer: mlp.Trainer, batches: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "on_progress", interrupt)
    result = run("train", "iris", *QUICK, "--out", "cut")
    assert result.code == 130
    assert result.err.splitlines()[-1] == "mlp: interrupted"
    assert not Path("cut").exists()
