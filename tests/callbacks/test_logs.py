"""CSV and JSON-lines logs: what a line holds, when it is there, and what is never lost."""

import csv
import json
import os

import numpy as np
import pytest

import mlp
from tests.callbacks.problem import VALIDATION, Score, X, Y, small_trainer

KINDS = [mlp.CSVLog, mlp.JSONLinesLog]


def read(path):
    """The rows of a log, numbers as floats and what is missing as None."""
    lines = path.read_text().splitlines()
    if lines and lines[0].startswith("{"):
        return [json.loads(line) for line in lines]
    table = csv.DictReader(lines)
    return [{k: float(v) if v else None for k, v in row.items()} for row in table]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_holds_the_history(kind, tmp_path):
    trainer, path = small_trainer(schedule="cosine"), tmp_path / "log"
    history = trainer.fit(X, Y, 3, validation=VALIDATION, callbacks=[kind(path)])
    found = read(path)
    assert [row["epoch"] for row in found] == [1, 2, 3]
    for name, values in history.items():
        assert [row[name] for row in found] == values
    assert set(found[0]) == {"epoch", "samples_per_second", *history}
    assert found[1]["samples_per_second"] == 23 / history["seconds"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_in_the_file_when_its_epoch_has_ended(kind, tmp_path):
    path, seen = tmp_path / "log", []
    look = [kind(path), lambda trainer: seen.append(read(path)[-1]["epoch"])]
    small_trainer().fit(X, Y, 3, callbacks=look)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_one_write(kind, tmp_path, monkeypatch):
    written, write = [], os.write
    monkeypatch.setattr(os, "write", lambda f, data: written.append(data) or write(f, data))
    small_trainer().fit(X, Y, 3, callbacks=[kind(tmp_path / "log")])
    lines = [text for text in written if text]
    assert len(lines) == 3
    assert all(line.endswith(b"\n") for line in lines)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda f, data: write(f, data[:9]))
    trainer = small_trainer()
    with pytest.raises(mlp.InvalidInput, match="only a part of a line could be written"):
        trainer.fit(X, Y, 3, callbacks=[mlp.CSVLog(tmp_path / "log")])
    assert trainer.epoch == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_finite_number_is_missing(kind, tmp_path):
    path = tmp_path / "log"
    scores = Score(np.nan, 0.5, np.inf)
    small_trainer().fit(X, Y, 3, validation=VALIDATION, callbacks=[scores, kind(path)])
    assert [row["validation_score"] for row in read(path)] == [None, 0.5, None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_there_is_not_replaced(kind, tmp_path):
    path, trainer = tmp_path / "log", small_trainer()
    path.write_text("a year's work")
    before = trainer.network.weights
    with pytest.raises(mlp.InvalidInput, match="already exists; name another log file"):
        trainer.fit(X, Y, 1, callbacks=[kind(path)])
    assert path.read_text() == "a year's work"
    np.testing.assert_array_equal(trainer.network.weights[0], before[0])
    trainer.fit(X, Y, 2, callbacks=[kind(path, overwrite=True)])
    assert len(read(path)) == 2


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_later_calls_of_fit_append(kind, overwrite, tmp_path):
    path, trainer = tmp_path / "log", small_trainer()
    trainer.fit(X, Y, 2, callbacks=[kind(path)])
    first = path.read_text()
    trainer.fit(X, Y, 3, callbacks=[kind(path, overwrite=overwrite)])
    assert path.read_text().startswith(first)
    assert [row["epoch"] for row in read(path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_may_begin_with_a_later_call(kind, tmp_path):
    path, trainer = tmp_path / "log", small_trainer()
    trainer.fit(X, Y, 2)
    trainer.fit(X, Y, 1, callbacks=[kind(path)])
    assert [row["epoch"] for row in read(path)] == [3]


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path):
    path, trainer = tmp_path / "log", small_trainer()
    trainer.fit(X, Y, 2, callbacks=[mlp.JSONLinesLog(path)])
    path.write_text(path.read_text()[:-20])
    trainer.fit(X, Y, 1, callbacks=[mlp.JSONLinesLog(path)])
    assert json.loads(path.read_text().splitlines()[-1])["epoch"] == 3
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_call_does_not_append_to_another_kind_of_file(kind, tmp_path):
    path, trainer = tmp_path / "log", small_trainer()
    trainer.fit(X, Y, 1)
    path.write_text("name,value\n1,2\n")
    with pytest.raises(mlp.InvalidInput, match="is not a log of epochs"):
        trainer.fit(X, Y, 1, callbacks=[kind(path)])
    assert path.read_text() == "name,value\n1,2\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_written_is_found_out_before_training(kind, tmp_path):
    trainer = small_trainer()
    with pytest.raises(mlp.InvalidInput, match=r"log\.csv: cannot be written: No such file"):
        trainer.fit(X, Y, 1, callbacks=[kind(tmp_path / "missing" / "log.csv")])
    assert trainer.epoch == 0


def test_the_columns_of_a_csv_log_are_those_of_its_file(tmp_path):
    """A value that a later call of fit adds has no column; the others stay under their names."""
    path, trainer = tmp_path / "log.csv", small_trainer()
    trainer.fit(X, Y, 1, callbacks=[mlp.CSVLog(path)])

    class More(mlp.Callback):
        def on_epoch_end(self, trainer):
            trainer.history = {"more": [7.0], **trainer.history}

    trainer.fit(X, Y, 1, callbacks=[More(), mlp.CSVLog(path)])
    assert [row["loss"] for row in read(path)] == trainer.history["loss"]
