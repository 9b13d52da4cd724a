"""`mlp train` with --report, --log, --tensorboard and --stop-file."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import mlp
from tests.cli.conftest import CommandLine
from tests.report.reading import read

QUICK = ("--epochs", 3, "--device", "numpy", "--hidden", "8")


def page(path: str):
    return read(Path(path).read_text(encoding="utf-8"))


def test_the_report_of_a_run(run: CommandLine) -> None:
    result = run("train", "iris", *QUICK, "--report", "pages/iris.html")
    assert result.code == 0
    assert "report in pages/iris.html" in result.err
    found, metrics = page("pages/iris.html"), json.loads(Path("runs/iris/metrics.json").read_text())
    facts = found.one("dl", "tiles").pairs()
    score, also = facts["validation accuracy"].split("training")
    assert float(score.rstrip(" %")) == pytest.approx(100 * metrics["validation_score"], abs=0.006)
    assert float(also.rstrip(" %")) == pytest.approx(100 * metrics["train_score"], abs=0.006)
    assert facts["epoch kept"] == f"{metrics['best_epoch']}of 3"
    assert found.one("h1").text() == "iris"
    assert [row[0] for row in found.table("Scores by class")] == [
        "setosa",
        "versicolor",
        "virginica",
    ]
    data = found.titled("Data").pairs()
    assert data["rows"].startswith("150 rows of 4 features, classification with 3 classes; 120 to")
    assert found.titled("Weights by layer").all("path", "line")


def test_the_line_to_repeat_the_run_with(run: CommandLine) -> None:
    typed = ["train", "diabetes", "--epochs", 2, "--hidden", "8, 4", "--raw", "--device", "numpy",
             "--report", "a b.html", "--learning-rate", 0.0025]  # fmt: skip
    first = run(*typed, "--out", "first")
    assert first.code == 0
    line = page("a b.html").titled("To repeat it").one("code").text()
    words = shlex.split(line)
    assert words[:3] == ["mlp", "train", "diabetes"]
    assert sorted(words[1:]) == sorted(map(str, [*typed, "--out", "first"]))
    words[words.index("first")] = "second"
    assert run(*words[1:], "--overwrite").code == 0
    for name in ("model.safetensors", "history.csv"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()


def test_a_table_with_its_names(run: CommandLine) -> None:
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    rows = [(f"{x:.3f}", "<b>" if x > 0 else "ab", f"{2 * x:.3f}") for x in rng.standard_normal(60)]
    with Path("t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("width", "sort", "price"), *rows])
    result = run("train", "t.csv", "--target", "price", *QUICK, "--report", "r.html")
    assert result.code == 0
    found = page("r.html")
    assert found.table("Scores by output")[0][0] == "price"
    assert found.titled("Data").pairs()["columns"] == "width (number), sort (category)"
    words = shlex.split(found.titled("To repeat it").one("code").text())
    assert words[words.index("--target") + 1] == "price"


@pytest.mark.parametrize("name", ["l.csv", "logs/l.jsonl"])
def test_a_log(run: CommandLine, name: str) -> None:
    assert run("train", "iris", *QUICK, "--log", name).code == 0
    lines = Path(name).read_text().splitlines()
    kept = [line for line in lines if not line.startswith("epoch")]
    assert len(kept) == 3
    with Path("runs/iris/history.csv").open() as file:
        losses = [row["loss"] for row in csv.DictReader(file)]
    assert all(loss in line for loss, line in zip(losses, kept, strict=True))


def test_tensorboard(run: CommandLine) -> None:
    pytest.importorskip("tensorboardX")
    assert run("train", "iris", *QUICK, "--tensorboard", "tb").code == 0
    assert [path.name[:20] for path in Path("tb").iterdir()] == ["events.out.tfevents."]
    again = run("train", "iris", *QUICK, "--tensorboard", "tb")
    assert again.code == 1
    assert "already holds the events of another run" in again.err


def test_a_stop_file_ends_the_run_and_the_page_says_so(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch_end = mlp.StopFile.on_epoch_end

    def touch(self, trainer):
        if trainer.epoch == 2:
            Path("stop").touch()
        epoch_end(self, trainer)

    monkeypatch.setattr(mlp.StopFile, "on_epoch_end", touch)
    result = run("train", "iris", *QUICK, "--stop-file", "stop", "--report", "r.html", "--json")
    assert result.code == 0
    assert result.json()["epochs"] == 2
    assert result.json()["stopped"] == "the stop file stop appeared"
    assert "the stop file stop appeared" in page("r.html").one("dl", "tiles").text()


def test_an_interrupted_run_has_a_page_too(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self, trainer, done):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(mlp.StopFile, "on_progress", interrupt)
    result = run("train", "iris", *QUICK, "--stop-file", "stop", "--report", "r.html")
    assert result.code == 130
    assert page("r.html").one("dl", "tiles").pairs()["epoch kept"].endswith("interrupted")


def test_nothing_changes_in_the_results(run: CommandLine) -> None:
    run("train", "iris", *QUICK, "--out", "a")
    run("train", "iris", *QUICK, "--out", "b", "--report", "r.html", "--log", "l.csv")
    for name in ("model.safetensors", "history.csv"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    settings = [json.loads(Path(f, "metrics.json").read_text())["settings"] for f in "ab"]
    assert settings[0] == settings[1]


def test_learning_rates(run: CommandLine) -> None:
    result = run("train", "iris", *QUICK, "--find-learning-rate")
    assert result.code == 0
    assert result.out.startswith("learning rate  smoothed loss")
    assert "suggested: " in result.out
    assert "iris: 150 rows" in result.err
    found = run("train", "iris", *QUICK, "--find-learning-rate", "--json")
    assert found.err == ""
    assert f"suggested: {found.json()['suggested']:.2e}" in result.out
    assert len(found.json()["rates"]) == len(found.json()["losses"]) <= 100
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--log", "l.txt"), 2, "--log takes a .csv or .jsonl file, not l.txt"),
        (("--log", "there.csv"), 1, "there.csv already exists; pass --overwrite"),
        (("--report", "there.csv"), 1, "there.csv already exists; pass --overwrite"),
        (("--report", "."), 1, "a folder; --report takes a file"),
        (("--report", "there.csv/r.html"), 1, "there.csv: cannot be made"),
        (("--stop-file", "there.csv"), 1, "there.csv is there already"),
    ],
)
def test_mistakes_are_found_before_training(
    run: CommandLine, options: tuple[str, str], code: int, message: str
) -> None:
    Path("there.csv").write_text("precious")
    result = run("train", "iris", *QUICK, *options)
    assert result.code == code
    assert message in result.err
    assert "epoch 1" not in result.err
    assert Path("there.csv").read_text() == "precious"
    assert not Path("runs").exists()


def test_the_empty_log_of_a_run_that_never_began_is_in_nobodys_way(run: CommandLine) -> None:
    Path("l.csv").touch()
    assert run("train", "iris", *QUICK, "--log", "l.csv").code == 0
    assert Path("l.csv").read_text().startswith("epoch,")


def test_overwriting_is_asked_for(run: CommandLine) -> None:
    for name in ("l.csv", "r.html"):
        Path(name).write_text("old")
    result = run("train", "iris", *QUICK, "--log", "l.csv", "--report", "r.html", "--overwrite")
    assert result.code == 0
    assert "old" not in Path("l.csv").read_text()
    assert page("r.html").one("h1").text() == "iris"


def test_without_tensorboardx(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result = run("train", "iris", *QUICK, "--tensorboard", "tb")
    assert result.code == 2
    assert 'pip install "fused-mlp[tensorboard]"' in result.err
