"""Columns as features: against scikit-learn and pandas, from files to bits, in parts and as one."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mlp
from mlp.data.table_preprocessing import Learner
from mlp.errors import InvalidInput, InvalidSetting
from tests.data.tables import IN_PYTHON, table, typed_table

FEATURES = table().drop_columns(["buys"])
NAMES = (
    "age", "age is missing", "height", "height is missing",
    "town = Lima", "town = Oslo", "town = Rome", "town is missing", "member", "member is missing",
)  # fmt: skip


def test_categories_where_pandas_is_not_installed() -> None:
    """pandas loads parts of pyarrow that pyarrow itself does not."""
    program = (
        "import sys\n"
        "class NoPandas:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'pandas':\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoPandas())\n"
        "import pyarrow\n"
        "from mlp.data.columns import Column\n"
        "import numpy as np\n"
        "out = np.empty((3, 2))\n"
        "towns = pyarrow.chunked_array([['Oslo', 'Rome', 'Oslo']])\n"
        "Column('town', 'category', categories=('Oslo', 'Rome')).encode(towns, out)\n"
        "print(out.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]", done.stderr


def expected(rows: pa.Table, training: pa.Table) -> np.ndarray:
    """The same by scikit-learn, in the order of NAMES."""
    frame, learned = rows.to_pandas(), training.to_pandas()
    parts = []
    for name in ("age", "height"):
        x, of_training = frame[[name]].astype(float), learned[[name]].astype(float)
        filled = SimpleImputer().fit(of_training)
        scaler = StandardScaler().fit(of_training.dropna())
        parts += [scaler.transform(filled.transform(x)), x.isna()]
    towns = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    parts.append(towns.fit(learned[["town"]]).transform(frame[["town"]]))
    member = frame[["member"]].astype(float)
    parts += [member.fillna(learned["member"].astype(float).mean()), member.isna()]
    with np.errstate(all="ignore"):
        return np.column_stack([np.asarray(part, dtype=float) for part in parts])


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("how", IN_PYTHON)
def test_against_scikit_learn(how: str) -> None:
    prepared = mlp.TablePreprocessor.fit(IN_PYTHON[how](FEATURES))
    assert prepared.features == NAMES
    assert prepared.inputs == len(NAMES)
    found = prepared.transform(IN_PYTHON[how](FEATURES))
    np.testing.assert_allclose(found, expected(FEATURES, FEATURES), atol=1e-14)
    narrow = prepared.transform(IN_PYTHON[how](FEATURES), np.float32)
    assert narrow.dtype == np.float32
    assert narrow.tobytes() == found.astype(np.float32).tobytes()


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("seed", range(5))
def test_rows_that_were_not_trained_on(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def rows(count: int, towns: list[str]) -> pa.Table:
        columns = {
            "age": rng.integers(-5, 90, count).astype(object),
            "height": (1e3 ** rng.normal(size=count)).astype(object),
            "town": rng.choice(towns, count).astype(object),
            "member": rng.random(count) < 0.3,
        }
        return pa.table(
            {
                name: [
                    None if gone else value
                    for value, gone in zip(values.tolist(), lost, strict=True)
                ]
                for name, values in columns.items()
                for lost in [rng.random(count) < 0.2]
            }
        )

    training, others = rows(150, ["Oslo", "Rome", "Lima"]), rows(60, ["Oslo", "Rome", "Quito"])
    prepared = mlp.TablePreprocessor.fit(training)
    assert prepared.features == NAMES
    np.testing.assert_allclose(
        prepared.transform(others), expected(others, training), rtol=1e-12, atol=1e-13
    )
    assert prepared.unseen(others) == {"town": others.column("town").to_pylist().count("Quito")}


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_learned_in_parts_and_as_one(size: int) -> None:
    learner = Learner(FEATURES.column_names)
    for batch in FEATURES.to_batches(max_chunksize=size):
        learner.update(batch)
    assert learner.rows == 6
    found, whole = learner.finish(), mlp.TablePreprocessor.fit(FEATURES)
    assert found.features == whole.features
    np.testing.assert_allclose(
        found.transform(FEATURES), whole.transform(FEATURES), rtol=1e-14, atol=1e-15
    )


def test_the_same_values_in_other_types() -> None:
    other = typed_table().drop_columns(["buys"])
    assert mlp.TablePreprocessor.fit(other) == mlp.TablePreprocessor.fit(FEATURES)
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    assert prepared.transform(other).tobytes() == prepared.transform(FEATURES).tobytes()


@pytest.mark.parametrize(
    "type_",
    [
        pa.int8(), pa.int64(), pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(),
        pa.decimal128(29, 2), pa.decimal256(40, 2),
    ],
)  # fmt: skip
def test_all_numbers(type_: pa.DataType) -> None:
    rows = pa.table({"x": pa.array([1, 3, None, 5]).cast(type_)})
    (column,) = mlp.TablePreprocessor.fit(rows).columns
    assert (column.kind, column.fill, column.mean, column.missing) == ("number", 3, 3, True)
    assert column.scale == pytest.approx(np.std([1, 3, 5]), rel=1e-15)


@pytest.mark.parametrize("factor", [1e300, 1e160, 1.0, 1e-160, 1e-300])
@pytest.mark.parametrize("offset", [0, 7, 1e8])
def test_mean_and_scale_keep_their_range_in_parts(factor: float, offset: float) -> None:
    x = factor * (np.random.default_rng(0).normal(size=500) + offset)
    learner = Learner(["x"])
    for part in (x[:0], x[:3], np.zeros(0), x[3:400], x[400:]):
        learner.update(pa.record_batch({"x": part}))
    (column,) = learner.finish().columns
    exact = x / factor if factor != 1 else x
    assert column.mean / factor == pytest.approx(exact.mean(), rel=1e-12)
    assert column.scale / factor == pytest.approx(exact.std(), rel=1e-6 if offset > 7 else 1e-12)
    scaler = mlp.Standardizer.fit(x[:, None])
    assert column.scale == pytest.approx(scaler.scale[0], rel=1e-6)


def test_numbers_of_very_different_sizes_in_turn() -> None:
    for order in ([1e-200, 1.0, 1e200], [1e200, 1.0, 1e-200]):
        learner = Learner(["x"])
        for value in order:
            learner.update(pa.record_batch({"x": [value, -value]}))
        (column,) = learner.finish().columns
        assert column.mean == 0
        assert column.scale == pytest.approx(1e200 / np.sqrt(3), rel=1e-12)


@pytest.mark.parametrize("order", [[1e-101, 1e-99], [1e-99, 1e-101], [1e99, 1e101], [1e101, 1e99]])
def test_numbers_on_both_sides_of_a_change_of_units(order: list[float]) -> None:
    learner = Learner(["x"])
    for value in order:
        learner.update(pa.record_batch({"x": [value, 3 * value]}))
    (column,) = learner.finish().columns
    exact = np.array([1, 3, 100, 300]) * min(order)
    assert column.mean == pytest.approx(exact.mean(), rel=1e-14, abs=0)
    assert column.scale / min(order) == pytest.approx(np.std([1, 3, 100, 300]), rel=1e-14)


def test_constant_columns_are_kept_and_only_centred() -> None:
    rows = pa.table({"c": [0.1] * 9, "d": range(9)})
    found = mlp.TablePreprocessor.fit(rows)
    assert found.columns[0].scale == 1
    assert np.abs(found.transform(rows)[:, 0]).max() < 1e-15


def test_taken_as_they_are() -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES, standardize=False)
    found = prepared.transform(FEATURES)
    assert found[:, 0].tolist() == [20, 32.8, 40, 33, 20, 51]  # the mean where it is missing
    assert found[:, 4:].tolist() == mlp.TablePreprocessor.fit(FEATURES).transform(
        FEATURES
    )[:, 4:].tolist()  # fmt: skip


def test_columns_are_found_by_name() -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    shuffled = table().select(["buys", "member", "town", "age", "height"])
    assert prepared.transform(shuffled).tobytes() == prepared.transform(FEATURES).tobytes()
    assert prepared.unused(shuffled) == ["buys"]
    with pytest.raises(
        InvalidInput,
        match=r"the table lacks the columns 'age', 'town', which the model was .*'m",
    ):
        prepared.transform(table().drop_columns(["age", "town"]))


def test_what_training_did_not_see() -> None:
    known = pa.table({"town": ["Oslo", "Rome"], "n": [1, 3], "some": ["a", None]})
    prepared = mlp.TablePreprocessor.fit(known)
    strange = pa.table(
        {"town": ["Lima", None, "Rome"], "n": [None, 2, 3], "some": [None, "a", "b"]}
    )
    found, unseen = prepared.encode(strange)
    assert prepared.features == ("town = Oslo", "town = Rome", "n", "some = a", "some is missing")
    assert found.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 1, 1, 0, 0]]
    assert unseen == prepared.unseen(strange) == {"town": 2, "n": 1, "some": 1}
    assert prepared.unseen(known) == {}


def test_dictionaries_count_what_is_there() -> None:
    coded = pa.array(["b", "a", "b", None]).dictionary_encode()
    unused = pa.DictionaryArray.from_arrays(coded.indices, pa.array(["b", "a", "never"]))
    for values in (coded, unused, pd.Series(coded.to_pandas()).astype("category")):
        found = mlp.TablePreprocessor.fit(pd.DataFrame({"c": values}) if isinstance(
            values, pd.Series) else pa.table({"c": values}))  # fmt: skip
        assert found.columns[0].categories == ("a", "b")
    numbered = pd.DataFrame({"c": pd.Categorical([10, 2, 10])})
    prepared = mlp.TablePreprocessor.fit(numbered)
    assert prepared.features == ("c = 10", "c = 2")
    # A CSV file has them as integers.
    assert prepared.transform(pa.table({"c": [2, 10]})).tolist() == [[0, 1], [1, 0]]


def test_a_column_of_nothing_is_missing_everywhere() -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    empty = pa.table({name: pa.nulls(2) for name in FEATURES.column_names})
    found = prepared.transform(empty)
    np.testing.assert_allclose(found, [[0, 1, 0, 1, 0, 0, 0, 1, 0.6, 1]] * 2, atol=1e-15)
    text = empty.set_column(0, "age", pa.nulls(2, pa.string()))
    assert prepared.transform(text).tobytes() == found.tobytes()


def test_arrays_where_all_columns_are_numbers() -> None:
    rows = FEATURES.select(["age", "member"])
    prepared = mlp.TablePreprocessor.fit(rows)
    array = rows.to_pandas().astype(float).to_numpy()
    assert prepared.takes_arrays
    assert prepared.transform(array).tobytes() == prepared.transform(rows).tobytes()
    assert prepared.transform(array[0]).tolist() == prepared.transform(rows[:1]).tolist()
    assert prepared.unused(array) == []
    with pytest.raises(InvalidInput, match=r"shape \(6, 3\), but the model takes 2 columns: 'age'"):
        prepared.transform(np.ones((6, 3)))
    with pytest.raises(InvalidInput, match="neither a table nor an array of numbers"):
        prepared.transform([["a", "b"]])
    with pytest.raises(
        InvalidInput, match="a table with named columns, since there are categories in 'town'"
    ):
        mlp.TablePreprocessor.fit(FEATURES).transform(np.ones((6, 4)))


# --- what cannot be used --------------------------------------------------------------------------

DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            pa.array([DAY] * 3),
            r"column 'c' holds dates or times \(date32\[day\]\).*weekday.*--dr",
        ),
        (pa.array([datetime.datetime(2020, 1, 1)] * 3), r"dates or times \(timestamp\[us\]\)"),
        (pa.array([datetime.time(3)] * 3), r"dates or times \(time64\[us\]\)"),
        (pa.array([datetime.timedelta(3)] * 3), r"durations \(duration\[us\]\).* make seconds"),
        (pa.array([[1], [2], []]), r"nested values \(list<.*make a column of each part"),
        (pa.array([{"a": 1}] * 3), r"nested values \(struct<a"),
        (pa.array([b"a", b"b", None]), r"bytes \(binary\)"),
        (pa.array([1.5, 2.5, 1.5]).dictionary_encode(), r"values of type dictionary"),
        (pa.array([None] * 3, pa.float64()), "column 'c' has no value in any training row"),
        (pa.nulls(3), "column 'c' has no value in any training row.*--drop 'c'"),
        (pa.array([1, np.inf, -np.inf]), r"holds infinite numbers \(2 of 3 training rows\)"),
        (pa.array([float("nan")] * 3), "column 'c' has no value in any training row"),
    ],
)
def test_columns_that_nothing_can_be_learned_from(values: pa.Array, message: str) -> None:
    rows = pa.table({"c": values, "x": [1, 2, 3]})
    with pytest.raises(InvalidInput, match=message):
        mlp.TablePreprocessor.fit(rows)
    assert mlp.TablePreprocessor.fit(rows, drop=["c"]).names == ("x",)


@pytest.mark.parametrize(
    ("distinct", "rows", "message"),
    [
        (20, 20, None),
        (21, 42, None),
        (21, 41, "'c' holds 21 distinct texts in 41 rows, as an id or free text does"),
        (1000, 2000, None),
        (1001, 9000, "'c' holds more than 1,000 distinct texts"),
    ],
)
def test_too_many_categories(distinct: int, rows: int, message: str | None) -> None:
    ids = pa.table({"c": [f"u{i % distinct}" for i in range(rows)]})
    if message is None:
        assert mlp.TablePreprocessor.fit(ids).inputs == distinct
    else:
        with pytest.raises(InvalidInput, match=message):
            mlp.TablePreprocessor.fit(ids)


def test_no_rows_and_no_columns() -> None:
    with pytest.raises(InvalidInput, match="there are no rows to learn from"):
        mlp.TablePreprocessor.fit(FEATURES[:0])
    with pytest.raises(InvalidInput, match="no column is left to learn from"):
        mlp.TablePreprocessor.fit(pa.table({"a": [1]}), drop=["a"])
    with pytest.raises(InvalidSetting, match="unknown column to drop 'agee'; did you mean 'age'"):
        mlp.TablePreprocessor.fit(FEATURES, drop=["agee"])
    with pytest.raises(InvalidInput, match="the table has no rows"):
        mlp.TablePreprocessor.fit(FEATURES).transform(FEATURES[:0])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("age", ["young", "old"], r"column 'age' holds text \('young'\), but numbers in training"),
        ("age", [1, np.inf], "column 'age' holds inf at row 1, not a number"),
        ("age", [DAY, DAY], r"column 'age' holds dates or times"),
        ("town", [1.5, 2.5], r"column 'town' holds numbers \(double\), but categories in training"),
        ("town", [DAY, DAY], "column 'town' holds dates or times"),
        ("member", [0, 2], r"column 'member' holds 2 at row 1, but yes or no \(1 or 0\) in train"),
        (
            "member",
            ["yes", "no"],
            r"column 'member' holds text \('yes'\), but booleans in train",
        ),
    ],
)
def test_columns_of_another_kind(name: str, values: list[Any], message: str) -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    rows = FEATURES[:2]
    rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    with pytest.raises(InvalidInput, match=f"validation X: {message}"):
        prepared.transform(rows, name="validation X")
