"""The command line, run in this process: exit code, stdout and stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlp.cli.app import run as run_command
from tests.cli.table_runs import QUICK, mixed


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


CommandLine = Callable[..., Result]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    """run("train", "iris", ...) in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run_command([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def iris_model(run: CommandLine) -> Path:
    """A network trained for two epochs on iris."""
    result = run("train", "iris", "--epochs", 2, "--device", "numpy", "--out", "iris", "--quiet")
    assert result.code == 0
    return Path("iris/model.safetensors")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training does on tables of sixty rows."""
    monkeypatch.setattr("mlp.cli.curves.draw_curves", lambda *_: b"")


@pytest.fixture
def table_model(run: CommandLine, no_pictures: None) -> Path:
    """A network trained on mixed.csv."""
    mixed().to_csv("mixed.csv", index=False)
    result = run(
        "train", "mixed.csv", "--target", "buys", "--drop", "id", "--drop", "when", *QUICK,
        "--out", "mixed",
    )  # fmt: skip
    assert result.code == 0, result.err
    return Path("mixed/model.safetensors")
