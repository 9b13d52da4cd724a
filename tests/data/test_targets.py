"""The target of a table or of arrays: what it is read as, and the rows that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

import mlp
from mlp.data.targets import read_target
from mlp.errors import InvalidInput, InvalidSetting
from tests.data.tables import IN_PYTHON, table, typed_table

TWENTY, TWENTY_ONE = [*range(20)] * 2, [*range(21)] * 2


def read(values: Any, task: str | None = None) -> Any:
    values = values if isinstance(values, pa.Array) else pa.array(values)
    return read_target(pa.table({"y": values}), ["y"], task)


@pytest.mark.parametrize(
    ("values", "classes", "says"),
    [
        (["b", "a", "b"], ("a", "b"), "text, learned as classes"),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), "text, learned"),
        (pa.array(["b", "a"], pa.large_string()), ("a", "b"), "text, learned"),
        ([True, False, True], (False, True), "booleans, learned as classes"),
        ([3, 7, 3, 7], (3, 7), "2 different whole numbers, learned as classes; --task regression"),
        ([3.0, 7.0, 3.0, 7.0], (3, 7), "2 different whole numbers, learned as classes"),
        (pa.array([3, 7, 3, 7], pa.uint8()), (3, 7), "whole numbers"),
        (TWENTY, tuple(range(20)), "20 different whole numbers"),
        ([2**60 + 1, 2**60] * 2, (2**60, 2**60 + 1), "2 different whole numbers"),  # exactly
        (pa.array([2**64 - 1, 0] * 2, pa.uint64()), (0, 2**64 - 1), "2 different whole numbers"),
        (TWENTY_ONE, None, "whole numbers, learned as values; --task classification if they name"),
        ([1, 2, 3], None, "whole numbers, learned as values"),
        ([0.5, 1, 0.5, 1], None, "target 'y': numbers, learned as values"),
        (pa.array([1, 2, 1, 2]).cast(pa.decimal128(29, 1)), (1, 2), "2 different whole numbers"),
    ],
)
def test_what_a_target_is_read_as(values: Any, classes: Any, says: str) -> None:
    found = read(values)
    assert says in found.how
    assert found.task == ("regression" if classes is None else "classification")
    assert found.classes == classes


@pytest.mark.parametrize(
    ("values", "task", "y", "classes"),
    [
        (TWENTY_ONE, "classification", TWENTY_ONE, tuple(range(21))),
        ([3, 7, 3, 7], "regression", [3.0, 7.0, 3.0, 7.0], None),
        ([2**60 + 1, 2**60], "classification", [2**60 + 1, 2**60], (2**60, 2**60 + 1)),
        ([1.0, 2.0], "classification", [1, 2], (1, 2)),
    ],
)
def test_a_task_overrides_it(values: Any, task: str, y: Any, classes: Any) -> None:
    found = read(values, task)
    assert (found.y.tolist(), found.task, found.classes) == (y, task, classes)
    assert "--task" not in found.how
    assert found.y.dtype == (np.float64 if classes is None else np.int64)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["a", "b"], "regression", "the target 'y' holds text, but a regression takes numbers"),
        ([True], "regression", "the target 'y' holds booleans, but a regression"),
        ([1, 1.5], "classification", "the target 'y' holds fractions, which cannot name classes"),
        ([1.0, None, 2.5], None, "the target 'y' is missing in 1 row, first in row 1; fill it in"),
        ([1.0, float("nan"), None], None, "missing in 2 rows, first in row 1"),
        (["a", "b", None], None, "the target 'y' is missing in 1 row, first in row 2"),
        ([None, True], None, "the target 'y' is missing in 1 row, first in row 0"),
        ([1.0, np.inf], None, "the target 'y' holds inf at row 1, not a finite number"),
        (pa.nulls(2), None, "the target 'y' has no value in any row"),
        (pa.array([0], pa.timestamp("s")), None, "column 'y' holds dates or times"),
        ([[1]], None, "column 'y' holds nested values"),
    ],
)
def test_targets_that_cannot_be_used(values: Any, task: str | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(values, task)


def test_several_targets() -> None:
    rows = pa.table({"a": [1, 2], "b": [0.5, 1.5], "t": ["x", "y"]})
    found = read_target(rows, ["b", "a"], None)
    assert found.y.tolist() == [[0.5, 1], [1.5, 2]]
    assert (found.task, found.classes) == ("regression", None)
    with pytest.raises(InvalidInput, match="the target 't' holds string; of several"):
        read_target(rows, ["a", "t"], None)
    with pytest.raises(InvalidSetting, match="a classification has one target"):
        read_target(rows, ["a", "b"], "classification")


# --- data sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", IN_PYTHON)
def test_a_data_set_of_a_table(how: str) -> None:
    data = mlp.load_data(IN_PYTHON[how](table()), target="buys", drop=["age", "town"])
    assert data.X.column_names == ["height", "member"]
    assert data.y.tolist() == table().column("buys").to_pylist()
    assert (data.name, data.task, data.classes) == ("the table", "classification", ("no", "yes"))
    assert data.target == ("buys",)


def test_other_types_of_the_same_table() -> None:
    ours = mlp.load_data(typed_table(), target="buys")
    assert ours.y.tolist() == mlp.load_data(table(), target="buys").y.tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            InvalidSetting,
            "name the column to learn with --target; there are 'age'",
        ),
        ({"target": "byus"}, InvalidSetting, "unknown target column 'byus'; did you mean 'buys'"),
        (
            {"target": "buys", "drop": ["buys"]},
            InvalidSetting,
            "'buys' is the target and cannot",
        ),
        (
            {"target": ["age", "age"]},
            InvalidSetting,
            "cannot be named twice",
        ),
        ({"target": "buys", "drop": ["agee"]}, InvalidSetting, "did you mean 'age'"),
        ({"target": "buys", "task": "regresion"}, InvalidSetting, "did you mean 'regression'"),
        ({"target": "age"}, InvalidInput, "the table: the target 'age' is missing in 1 row, first"),
        (
            {"target": "buys", "drop": ["age", "height", "town", "member"]},
            InvalidInput,
            "no column is left",
        ),
    ],
)
def test_a_table_without_a_usable_target(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        mlp.load_data(table(), **options)


def test_columns_are_looked_at_before_training() -> None:
    rows = pd.DataFrame(
        {"x": [1.0, -np.inf], "y": ["a", "b"], "when": pd.to_datetime(["2020"] * 2)}
    )
    with pytest.raises(InvalidInput, match="the table: column 'when' holds dates"):
        mlp.load_data(rows, target="y")
    with pytest.raises(InvalidInput, match="the table: column 'x' holds -inf at row 1; replace"):
        mlp.load_data(rows, target="y", drop=["when"])
    rows["x"] = None
    with pytest.raises(InvalidInput, match="column 'x' has no value in any row; leave it out"):
        mlp.load_data(rows, target="y", drop=["when"])


def test_a_target_that_nobody_needs() -> None:
    without = mlp.load_data(table().drop_columns(["buys"]), target="buys", need_target=False)
    assert (without.y, without.X.num_columns) == (None, 4)
    whole = mlp.load_data(table(), need_target=False)
    assert (whole.y, whole.X.num_columns) == (None, 5)
    missing = mlp.load_data(table(), target="age", need_target=False)
    assert missing.y is None
    assert "the target 'age' is missing in 1 row" in missing.note


# --- arrays ---------------------------------------------------------------------------------------


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    X = np.arange(12.0).reshape(6, 2)
    labels = np.array([0, 1, 2, 0, 1, 2])
    np.save("X.npy", X)
    np.save("labels.npy", labels)
    np.save("cube.npy", np.zeros((2, 2, 2)))
    np.save("objects.npy", np.array([[1], [2, 3]], dtype=object))
    np.savez("both.npz", X=X, y=labels, values=labels / 2)
    Path("text.npy").write_text("hello")
    Path("cut.npy").write_bytes(Path("X.npy").read_bytes()[:-20])
    Path("folder.npy").mkdir()


@pytest.mark.usefixtures("arrays")
def test_arrays_in_files_of_their_own() -> None:
    data = mlp.load_data("X.npy", target="labels.npy")
    assert data.X.shape == (6, 2)
    assert data.classes == (0, 1, 2)
    assert mlp.load_data("X.npy", need_target=False).y is None
    values = mlp.load_data("both.npz", target="values")
    assert (values.task, values.y.tolist()) == ("regression", [0, 0.5, 1, 0, 0.5, 1])
    assert mlp.load_data("both.npz").task == "classification"
    as_values = mlp.load_data("both.npz", task="regression")
    assert (as_values.task, as_values.classes, as_values.y.dtype) == ("regression", None, float)
    iris = mlp.load_data(Path("both.npz"), target="y", task="classification")
    assert iris.classes == (0, 1, 2)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (
            "X.npy",
            {},
            InvalidSetting,
            r"X\.npy: name the file with its target, as in --target y\.npy",
        ),
        ("X.npy", {"target": "gone.npy"}, InvalidInput, r"gone\.npy: there is no such file"),
        (
            "X.npy",
            {"target": "labels.csv"},
            InvalidInput,
            r"labels\.csv: a \.npy file was expected",
        ),
        ("X.npy", {"target": ["a", "b"]}, InvalidSetting, "of arrays there is one target, not 2"),
        (
            "X.npy",
            {"target": "labels.npy", "drop": ["a"]},
            InvalidSetting,
            "no named columns to drop",
        ),
        (
            "X.npy",
            {"target": "text.npy"},
            InvalidInput,
            r"text\.npy: not a \.npy file, in spite of",
        ),
        ("X.npy", {"target": "cut.npy"}, InvalidInput, r"cut\.npy: not a readable \.npy file"),
        ("X.npy", {"target": "objects.npy"}, InvalidInput, r"objects\.npy: not a readable \.npy"),
        ("folder.npy", {"target": "labels.npy"}, InvalidInput, r"a folder, not a \.npy file"),
        (
            "cube.npy",
            {"target": "labels.npy"},
            InvalidInput,
            r"X has shape \(2, 2, 2\), not \(rows",
        ),
        (
            "both.npz",
            {"target": "z"},
            InvalidInput,
            r"both\.npz: the file has no array z; .*'values'",
        ),
        ("iris", {"target": "y"}, InvalidSetting, "iris is bundled and has its own target"),
        ("iris", {"task": "regression"}, InvalidInput, "y holds text, but a regression"),
        (
            "both.npz",
            {"target": "values", "task": "classification"},
            InvalidInput,
            "y holds fractions",
        ),
    ],
)
def test_arrays_that_cannot_be_used(source: str, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        mlp.load_data(source, **options)


# --- rows held out --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", IN_PYTHON)
def test_rows_are_held_out_of_any_table(how: str) -> None:
    train, held_out = mlp.load_data(IN_PYTHON[how](table()), target="buys").split(0.5)
    kept = pa.concat_tables([train.X, held_out.X]).column("town").to_pylist()
    assert sorted(kept, key=str) == sorted(table().column("town").to_pylist(), key=str)
    assert len(train.y) == len(held_out.y) == 3


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_rows_held_out_are_scikit_learns(share: float) -> None:
    X, y = load_iris(return_X_y=True)
    _, Xv, _, yv = train_test_split(X, y, test_size=share, random_state=3, stratify=y)
    frame = pd.DataFrame(X, columns=[*"abcd"]).assign(y=y)
    train, held_out = mlp.load_data(frame, target="y").split(share, seed=3)
    assert held_out.y.tolist() == yv.tolist()
    np.testing.assert_array_equal(held_out.X.to_pandas().to_numpy(), Xv)
    both = pa.concat_tables([train.X, held_out.X]).to_pandas().to_numpy()
    assert sorted(both.tolist()) == sorted(X.tolist())


def test_rows_held_out_of_few() -> None:
    with pytest.raises(InvalidInput, match=r"the table: 0\.2 of 1 row leaves too few on one side"):
        mlp.load_data(pd.DataFrame({"x": [1], "y": [0.5]}), target="y").split()
    rare = mlp.load_data(pd.DataFrame({"x": range(9), "y": [*"aaaaaaaab"]}), target="y")
    with pytest.raises(InvalidInput, match="only one row has the class 'b', of 2 classes"):
        rare.split()
    with pytest.raises(InvalidSetting, match="share must be between 0 and 1, not 1"):
        rare.split(1)
    with pytest.raises(InvalidInput, match="without a target there is nothing to hold out"):
        mlp.load_data(table(), need_target=False).split()
