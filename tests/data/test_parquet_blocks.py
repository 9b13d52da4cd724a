"""Parquet files as blocks: read in parts as pyarrow reads them whole; surveyed; trained on."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlp
from mlp import streaming
from mlp.data.blocks import ArrayBlocks, RowBlocks, row_count
from mlp.data.holdout import held_out
from mlp.data.parquet_blocks import ParquetBlocks, decoded_bytes
from mlp.data.survey import TargetSurvey, survey
from mlp.data.targets import read_target
from mlp.epoch_plan import EpochPlan
from mlp.errors import InvalidInput, InvalidSetting
from mlp.evaluation import Evaluator
from mlp.losses import get_loss
from tests.data.test_windows import expected_order

ROWS = 900
TOWNS = np.array(["Oslo", "Rome", "Bern"])


def columns(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, rows))
    town = rng.integers(0, 3, rows)
    return {
        "a": np.where(rng.random(rows) < 0.1, np.nan, a),
        "b": b.astype(np.float32),
        "n": rng.integers(0, 9, rows).astype(np.int16),
        "town": TOWNS[town],
        "w": rng.random(rows),
        "y": np.tanh(b) + town,
        "z": a - b,
        "label": TOWNS[(town + (b > 0)) % 3],
        "two": (a > b).astype(np.int64),
    }


TABLE = pa.table({name: pa.array(c, from_pandas=True) for name, c in columns().items()})
INPUTS = ["a", "b", "n", "town"]
OTHERS = [name for name in TABLE.column_names if name not in INPUTS]


@pytest.fixture
def folder(tmp_path):
    """The table in three files of several row groups."""
    path = tmp_path / "set"
    path.mkdir()
    for number, (first, count) in enumerate(((0, 400), (400, 150), (550, 350))):
        pq.write_table(
            TABLE.slice(first, count), path / f"part-{number}.parquet", row_group_size=130
        )
    (path / "_SUCCESS").write_bytes(b"")
    return path


SIZES = (130, 130, 130, 10, 130, 20, 130, 130, 90)


def others(*kept):
    return [name for name in OTHERS if name not in kept]


def read_all(blocks, rows):
    pieces = [p for block in range(len(blocks.sizes)) for p in blocks.read(block, rows)]
    assert all(0 < len(piece) <= rows for piece in pieces)
    return pa.Table.from_batches([p.X for p in pieces]), np.concatenate([p.y for p in pieces])


@pytest.mark.parametrize("rows", [7, 130, 10_000])
def test_a_folder_read_in_parts(folder, rows):
    blocks = ParquetBlocks(folder, "y", drop=others("y", "w"), weight="w")
    assert isinstance(blocks, RowBlocks)
    assert blocks.sizes == SIZES
    assert row_count(blocks) == ROWS
    assert blocks.columns == INPUTS
    X, y = read_all(blocks, rows)
    assert X.equals(TABLE.select(INPUTS).combine_chunks())
    np.testing.assert_array_equal(y, TABLE["y"].to_numpy())
    assert blocks.where(5) == f"{folder / 'part-1.parquet'}, row group 1"
    weights = [p.weight for block in range(len(SIZES)) for p in blocks.read(block, rows)]
    np.testing.assert_array_equal(np.concatenate(weights), TABLE["w"].to_numpy())


@pytest.mark.parametrize("kept", [True, False])
def test_a_table_in_memory_is_evaluated_in_blocks(kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(streaming, "KEPT_BYTES", 0)
    rows, y = TABLE.select(INPUTS), TABLE["y"].to_numpy()
    net = network("numpy", "mse", mlp.TablePreprocessor.fit(rows))
    monkeypatch.setattr("mlp.data.blocks.BLOCK_BYTES", 7 * rows.nbytes // ROWS)
    whole = Evaluator(net, get_loss("mse"), rows, y)()
    monkeypatch.setattr(type(net.backend), "has_room_for", lambda _, size: size < 1000)
    parts = Evaluator(net, get_loss("mse"), rows.to_pandas(), y)
    for _ in range(2):
        np.testing.assert_allclose(parts().loss, whole.loss, rtol=1e-6)
        np.testing.assert_allclose(parts().score, whole.score, rtol=1e-5)
    assert len(parts._blocks.sizes) > 100


@pytest.mark.parametrize("kind", ["label", "two", "bool", "dictionary", ("y", "z")])
def test_targets(kind, tmp_path):
    table = TABLE.append_column("bool", pa.array(TABLE["two"].to_numpy() == 1))
    table = table.append_column("dictionary", TABLE["label"].dictionary_encode())
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=200)
    y = read_all(ParquetBlocks(tmp_path / "t.parquet", kind), 64)[1]
    names = [kind] if isinstance(kind, str) else [*kind]
    np.testing.assert_array_equal(y, read_target(table, names, None).y)


def test_decoded_bytes(folder):
    plain = TABLE.drop_columns(["town", "label"])
    assert decoded_bytes(folder) == plain.nbytes - plain["a"].chunk(0).buffers()[0].size + ROWS * 40


# --- the same as in memory ------------------------------------------------------------------------


def network(device, loss, preprocessing):
    last = mlp.Dense(3, "softmax") if loss == "cross_entropy" else mlp.Dense(1)
    net = mlp.Network(
        preprocessing.inputs, [mlp.Dense(6, "tanh", dropout=0.1), last], device=device, seed=2
    )
    net.preprocessing = preprocessing
    if loss == "cross_entropy":
        net.classes = sorted(TOWNS)
    return net


@pytest.mark.parametrize(
    ("device", "loss", "target"),
    [("numpy", "mse", "y"), ("cpu", "mse", "y"), ("cpu", "cross_entropy", "label")],
)
def test_training_is_that_on_the_table(device, loss, target, folder, monkeypatch):
    rows = TABLE.select(INPUTS)
    preprocessing = mlp.TablePreprocessor.fit(rows)
    row_bytes = 4 * preprocessing.inputs + (8 if loss == "cross_entropy" else 4)
    window = 100  # smaller than most row groups, which are cut
    monkeypatch.setattr(streaming, "WINDOW_BYTES", window * row_bytes)
    monkeypatch.setattr(streaming, "LEAST_WINDOW_BYTES", 1)
    monkeypatch.setattr(streaming, "PIECE_BYTES", 23 * 8 * preprocessing.inputs)
    ours = mlp.Trainer(network(device, loss, preprocessing), loss, "adam", 16, seed=3)
    ours.fit(ParquetBlocks(folder, target, drop=others(target)), None, 2)
    theirs = mlp.Trainer(
        network(device, loss, preprocessing), loss, "adam", 16, seed=3,
        plan=lambda epoch: EpochPlan(order=expected_order(SIZES, window, 3, epoch)),
    )  # fmt: skip
    theirs.fit(rows, read_target(TABLE, [target], None).y, 2)
    assert ours.streams
    assert not theirs.streams
    assert ours.history["loss"] == theirs.history["loss"]
    for a, b in zip(ours.network.weights, theirs.network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_survey_learns_from_the_training_rows(share, folder, monkeypatch):
    monkeypatch.setattr("mlp.data.survey.PIECE_BYTES", 31 * 8 * len(INPUTS))
    blocks = ParquetBlocks(folder, "y", drop=others("y"))
    seen = []
    found = survey(blocks, share, 4, progress=lambda *done: seen.append(done))
    out = held_out(4, 0, ROWS, share)
    training, rest = (TABLE.filter(pa.array(mask)) for mask in (~out, out))
    expected = mlp.TablePreprocessor.fit(training.select(INPUTS))
    assert found.preprocessing.features == expected.features
    np.testing.assert_allclose(
        found.preprocessing.transform(TABLE), expected.transform(TABLE), rtol=1e-12, atol=1e-12
    )
    scaler = mlp.Standardizer.fit(training["y"].to_numpy()[:, None])
    np.testing.assert_allclose(found.target.scaler.mean, scaler.mean, rtol=1e-12)
    np.testing.assert_allclose(found.target.scaler.scale, scaler.scale, rtol=1e-12)
    if not share:
        assert found.validation is None
    else:
        X, y = found.validation
        assert X.combine_chunks().equals(rest.select(INPUTS).combine_chunks())
        np.testing.assert_array_equal(y, rest["y"].to_numpy())
    assert len(seen) == sum(-(-size // 31) for size in SIZES)
    assert seen[-1][0] == seen[-1][1] > seen[0][0] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    X, y = read_all(found.training, 50)
    assert X.equals(training.select(INPUTS).combine_chunks())


def test_a_survey_of_arrays():
    X, y = np.random.default_rng(0).standard_normal((ROWS, 4)) + 5, np.arange(ROWS) % 3
    found = survey(ArrayBlocks(X, y), 0.2, 1)
    out = held_out(1, 0, ROWS, 0.2)
    expected = mlp.Standardizer.fit(X[~out])
    np.testing.assert_allclose(found.preprocessing.mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(found.preprocessing.scale, expected.scale, rtol=1e-13)
    np.testing.assert_array_equal(found.validation[0], X[out])
    assert found.target.classes == (0, 1, 2)


TARGETS = {
    "text": ["b", "a", "a", "c"] * 5,
    "booleans": [True, False] * 10,
    "few whole numbers": [3, 1, 2, 1] * 5,
    "few whole floats": [3.0, 1.0, 2.0, 1.0] * 5,
    "many whole numbers": [*range(40)],
    "whole numbers once each": [*range(15)],
    "fractions": [0.5, 1.0, 2.0, 1.0] * 5,
    "a fraction at the end": [1.0, 2.0] * 20 + [0.5],
}


@pytest.mark.parametrize("task", [None, "classification", "regression"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_is_read_as_that_of_a_table(kind, task):
    values = np.array(TARGETS[kind])
    ours = TargetSurvey("target 'y'", task)

    def look_in_parts():
        for first in range(0, len(values), 7):
            part = values[first : first + 7]
            ours.update(part, np.ones(len(part), bool))

    mistake, theirs = outcome(lambda: read_target(pa.table({"y": values}), ["y"], task))
    assert outcome(look_in_parts)[0] == mistake
    if theirs is not None:
        assert ours.how == theirs.how
        assert ours.is_classes == (theirs.task == "classification")
        assert not ours.is_classes or ours.classes == theirs.classes


def outcome(call):
    """(message of its InvalidInput or None, result)."""
    try:
        return None, call()
    except InvalidInput as error:
        return str(error), None


# --- what goes wrong ------------------------------------------------------------------------------


def test_columns_that_are_not_there(folder):
    with pytest.raises(InvalidSetting, match="unknown target column 'yy'"):
        ParquetBlocks(folder, "yy")
    with pytest.raises(InvalidSetting, match="unknown column to drop 'q'"):
        ParquetBlocks(folder, "y", drop=["q"])
    with pytest.raises(InvalidSetting, match="one column cannot be two"):
        ParquetBlocks(folder, "y", weight="y")
    with pytest.raises(InvalidInput, match="no column is left"):
        ParquetBlocks(folder, "y", drop=[n for n in TABLE.column_names if n != "y"])
    with pytest.raises(InvalidInput, match="there is no such file"):
        ParquetBlocks(folder / "none.parquet", "y")


def damage(path, group):
    """Overwrites the first page of a row group, and leaves what describes it as it was."""
    about = pq.ParquetFile(path).metadata.row_group(group).column(0)
    with path.open("r+b") as file:
        file.seek(about.dictionary_page_offset or about.data_page_offset)
        file.write(b"\xff" * 60)


def fit(folder, callbacks=()):
    preprocessing = mlp.TablePreprocessor.fit(TABLE.select(INPUTS))
    trainer = mlp.Trainer(network("numpy", "mse", preprocessing), "mse", batch_size=16)
    trainer.fit(ParquetBlocks(folder, "y", drop=others("y")), None, 3, callbacks=callbacks)


def test_a_damaged_row_group(folder):
    damage(folder / "part-2.parquet", 1)
    with pytest.raises(InvalidInput, match=r"part-2\.parquet, row group 1 .*damaged") as caught:
        fit(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "the file is not there any more"),
        (lambda path: os.truncate(path, 500), "the file was changed while it was in use"),
        (lambda path: pq.write_table(TABLE.slice(9), path), "the file was changed while it was"),
    ],
    ids=["gone", "cut short", "written anew"],
)
def test_a_file_that_changes_while_it_is_trained_on(harm, message, folder, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    monkeypatch.setattr(streaming, "LEAST_WINDOW_BYTES", 1)
    with pytest.raises(InvalidInput, match=rf"part-1\.parquet: {message}"):
        fit(folder, [lambda _: harm(folder / "part-1.parquet")])


def test_a_missing_target(tmp_path):
    y = [1.0] * 50 + [None] + [2.0] * 49
    pq.write_table(pa.table({"a": np.arange(100.0), "y": y}), tmp_path / "t.parquet")
    blocks = ParquetBlocks(tmp_path / "t.parquet", "y")
    with pytest.raises(InvalidInput, match="row group 0: the target 'y' is missing in row 50;"):
        list(blocks.read(0, 24))
    dated = pa.table({"a": [1.0], "when": pa.array([1], pa.date32())})
    pq.write_table(dated, tmp_path / "d.parquet")
    blocks = ParquetBlocks(tmp_path / "d.parquet", "when")
    with pytest.raises(InvalidInput, match="target 'when' holds date"):
        list(blocks.read(0, 24))
