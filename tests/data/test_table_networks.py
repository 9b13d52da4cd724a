"""Networks that take tables: every method, and model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

import mlp
from mlp.backends.protocol import Backend
from mlp.data.columns import Column
from mlp.errors import InvalidInput, ModelFileError
from tests.data.tables import IN_PYTHON, table
from tests.test_device_arrays import OnGPU
from tests.test_model_file import document, rewrite

FEATURES = table().drop_columns(["buys"])


def trained(preprocessing: mlp.TablePreprocessor, X: Any, device: str = "numpy") -> mlp.Network:
    layers = [mlp.Dense(4, "tanh"), mlp.Dense(2, "softmax")]
    net = mlp.Network(preprocessing.inputs, layers, device=device, precision="float64", seed=3)
    net.preprocessing, net.classes = preprocessing, ("no", "yes")
    y = table().column("buys").to_pylist()
    mlp.Trainer(net, "cross_entropy", batch_size=4).fit(X, y, 3, validation=(X, y))
    return net


@pytest.mark.parametrize("how", IN_PYTHON)
def test_every_method_takes_tables(how: str) -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    bare = trained(prepared, FEATURES)
    net = trained(prepared, IN_PYTHON[how](FEATURES))
    X = IN_PYTHON[how](FEATURES)
    assert net.forward(X).tobytes() == bare.forward(FEATURES).tobytes()
    # The same by hand, on the features.
    features = prepared.transform(FEATURES)
    h = np.tanh(features @ net.weights[0] + net.biases[0]) @ net.weights[1] + net.biases[1]
    np.testing.assert_allclose(
        net.forward(X), np.exp(h) / np.exp(h).sum(axis=1, keepdims=True), rtol=1e-12
    )
    assert net.predict(X).tolist() == np.array(["no", "yes"])[h.argmax(axis=1)].tolist()
    y = table().column("buys").to_pylist()
    found = net.gradients(X, y, "cross_entropy")
    assert found.weights[0].shape == (10, 4)
    assert max(mlp.check_gradients(net, X, y, "cross_entropy").values()) < 1e-6


def test_a_backend_of_kernels_takes_tables() -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    ours, reference = trained(prepared, FEATURES, "cpu"), trained(prepared, FEATURES)
    np.testing.assert_allclose(ours.forward(FEATURES), reference.forward(FEATURES), rtol=1e-10)


def test_a_preprocessing_for_another_network() -> None:
    net = mlp.Network(3, [mlp.Dense(1)], device="numpy")
    net.preprocessing = mlp.TablePreprocessor.fit(FEATURES)
    with pytest.raises(InvalidInput, match="makes 10 features of a row, but the network takes 3"):
        net.predict(FEATURES)


def test_numbers_beyond_the_precision_are_named() -> None:
    rows = pa.table({"a": [1.0, 2.0], "b": [1.0, 1e39]})
    net = mlp.Network(2, [mlp.Dense(1)], device="numpy")
    net.preprocessing = mlp.TablePreprocessor.fit(rows, standardize=False)
    with pytest.raises(InvalidInput, match="X: column 'b' has numbers beyond the range of float32"):
        net.predict(rows)
    net.preprocessing = mlp.TablePreprocessor.fit(rows)  # standardised, it is of the size of 1
    assert np.isfinite(net.predict(rows)).all()


def test_arrays_with_missing_numbers_train() -> None:
    rows = FEATURES.select(["age", "height"])
    array = rows.to_pandas().to_numpy()
    prepared = mlp.TablePreprocessor.fit(rows)
    ours, theirs = trained(prepared, array), trained(prepared, rows)
    assert ours.weights[0].tobytes() == theirs.weights[0].tobytes()


@pytest.mark.parametrize("how", IN_PYTHON)
def test_a_device_without_room_for_the_rows(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES)
    whole = trained(prepared, FEATURES)
    asked = []
    monkeypatch.setattr(
        "mlp.backends.numpy.NumpyBackend.has_room_for",
        lambda _, size: asked.append(size) or size < 200,
    )
    X = IN_PYTHON[how](FEATURES)
    if "capsule" not in how:  # which do not say how long they are
        assert whole.forward(X).tobytes() == whole.forward(FEATURES).tobytes()
    parts = trained(prepared, X)
    assert "capsule" in how or 6 * 10 * 8 in asked  # rows, features, bytes
    for ours, theirs in zip(parts.weights, whole.weights, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_arrays_of_a_device(backend: Backend) -> None:
    rows = FEATURES.select(["age", "height"])
    array = rows.to_pandas().to_numpy()
    prepared = mlp.TablePreprocessor.fit(rows)
    net = mlp.Network(prepared.inputs, [mlp.Dense(3, "tanh")], device=backend.name, seed=1)
    net.preprocessing = prepared
    found = net.forward(backend.from_host(array, np.float64))
    assert found.tobytes() == net.forward(rows).tobytes() == net.forward(array).tobytes()
    x = prepared.transform(rows)
    np.testing.assert_allclose(found, np.tanh(x @ net.weights[0] + net.biases[0]), rtol=1e-5)


def test_arrays_of_another_device() -> None:
    prepared = mlp.TablePreprocessor.fit(FEATURES.select(["age", "height"]))
    with pytest.raises(InvalidInput, match="the table lives on a GPU; use device='cuda' or copy"):
        prepared.transform(OnGPU())


# --- files ----------------------------------------------------------------------------------------


def test_json_keeps_every_bit() -> None:
    for standardize in (True, False):
        saved = mlp.TablePreprocessor.fit(FEATURES, standardize=standardize)
        read = mlp.TablePreprocessor.from_json(json.loads(json.dumps(saved.to_json())))
        assert read == saved
    assert saved.to_json()[2] == {
        "name": "town", "kind": "category", "missing": True, "categories": ["Lima", "Oslo", "Rome"],
    }  # fmt: skip
    assert saved.to_json()[3] == {"name": "member", "kind": "boolean", "fill": 0.6, "missing": True}


GOOD = Column("x", "number", 1.5, 1.5, 2.0).to_json()


@pytest.mark.parametrize(
    "entry",
    [
        {**GOOD, "kind": "text"},
        {**GOOD, "scale": 0},
        {**GOOD, "scale": -1.0},
        {**GOOD, "mean": float("nan")},
        {**GOOD, "fill": "1"},
        {**GOOD, "missing": 1},
        {**GOOD, "name": 3},
        {**GOOD, "other": 3},
        {**GOOD, "categories": ["a"]},
        {k: v for k, v in GOOD.items() if k != "fill"},
        {"name": "c", "kind": "category", "missing": False, "categories": ["a", "a"]},
        {"name": "c", "kind": "category", "missing": False, "categories": ["a", 1]},
        {"name": "c", "kind": "category", "missing": False, "categories": 3},
        {"name": "c", "kind": "category", "missing": False, "categories": "abc"},
        "x",
        None,
    ],
)
def test_damaged_entries(entry: Any) -> None:
    assert Column.from_json(GOOD).scale == 2
    with pytest.raises((InvalidInput, TypeError, AttributeError)):
        mlp.TablePreprocessor.from_json([entry])


@pytest.mark.parametrize("entries", [[], {}, None, "ab", [GOOD, GOOD]])
def test_damaged_lists(entries: Any) -> None:
    with pytest.raises(InvalidInput):
        mlp.TablePreprocessor.from_json(entries)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = trained(mlp.TablePreprocessor.fit(FEATURES), FEATURES)
    net.save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_a_model_file_holds_the_columns(saved: Path) -> None:
    net, loaded = trained(mlp.TablePreprocessor.fit(FEATURES), FEATURES), mlp.load(saved, "numpy")
    assert loaded.preprocessing == net.preprocessing
    assert loaded.forward(FEATURES).tobytes() == net.forward(FEATURES).tobytes()
    assert not any(name.startswith("preprocessing") for name in load_file(saved))
    before = saved.read_bytes()
    loaded.save(saved)
    assert saved.read_bytes() == before


def test_older_versions_do_not_take_the_features_for_the_rows(saved: Path) -> None:
    # They know format 1 alone, and nothing of columns.
    assert document(saved)["format"] == 2
    plain = mlp.Network(3, [mlp.Dense(1)], device="numpy")
    plain.preprocessing = mlp.Standardizer.fit(np.eye(3))
    plain.save(saved)
    assert document(saved)["format"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text["columns"].pop(),
        lambda text: text["columns"][2]["categories"].pop(),
        lambda text: text["columns"][0].update(scale=0),
        lambda text: text["columns"][0].update(kind="date"),
        lambda text: text.update(columns={}),
        lambda text: text.update(columns=[]),
        lambda text: text.update(columns=[1]),
        lambda text: text["columns"].append(text["columns"][0]),
    ],
)
def test_damaged_model_files(change: Any, saved: Path) -> None:
    rewrite(saved, change)
    with pytest.raises(ModelFileError, match=r"a\.safetensors: the model file is incomplete or"):
        mlp.load(saved, "numpy")
