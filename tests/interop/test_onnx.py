"""ONNX files: onnxruntime and onnx's own evaluator say what `predict` and `forward` say."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import mlp
from mlp.errors import InvalidInput, InvalidSetting
from mlp.gradcheck import float64_copy
from mlp.interop.onnx import onnx_bytes, to_onnx
from tests import problems
from tests.interop.made import HIDDEN, OUTPUTS, answering, deep, network, raw_rows

# Of the largest output; the rounding of a few layers of the file's dtype.
BOUND = {"float32": 2e-6, "float64": 1e-14}


def run(net: mlp.Network, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file's outputs by name, computed by onnxruntime."""
    session = onnxruntime.InferenceSession(onnx_bytes(net), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def in_float64(net: mlp.Network) -> mlp.Network:
    return float64_copy(net)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation_at_several_depths(activation: str, precision: str) -> None:
    X = 3 * problems.rows(50, 4)
    for depth in (1, 2, 4):
        net = deep(activation, depth, precision)
        found = run(net, {"X": X.astype(net.dtype)})["values"]
        assert found.dtype == net.dtype
        truth = in_float64(net).forward(X.astype(net.dtype))
        assert problems.difference(found, truth) < BOUND[precision]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation_at_the_ends_of_its_range(activation: str, precision: str) -> None:
    """One unit that is the activation itself, z from -1e4 to 1e4, the tails relatively exact."""
    net = network([mlp.Dense(1, activation)], precision, inputs=1)
    net.set_parameters([[[1.0]]], [[0.0]])
    net.loss = "mse"  # a single sigmoid is a value then, and no label
    size = np.logspace(-6, 4, 200)
    X = np.concatenate([-size, [0.0], size])[:, None].astype(net.dtype)
    found, truth = run(net, {"X": X})["values"], in_float64(net).forward(X)
    eps = np.finfo(net.dtype).eps
    assert np.all(np.abs(found - truth) <= 16 * eps * np.maximum(np.abs(truth), 1))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_kind_of_output(kind: str, precision: str) -> None:
    net, X = answering(kind, precision), raw_rows(60)
    truth = in_float64(net)
    found = run(net, {"X": X.astype(net.dtype)})
    if "values" in found:
        assert [*found] == ["values"]
        values = truth.predict(X).reshape(60, -1)
        assert values.std() > 0.01  # rows differ, or the test would say little
        assert problems.difference(found["values"], values) < BOUND[precision]
        assert found["values"].dtype == net.dtype
        return
    assert [*found] == ["label", "probabilities"]
    assert found["label"].tolist() == truth.predict(X).tolist()
    assert len(np.unique(found["label"])) > 1
    p = truth.forward(X)
    if p.shape[1] == 1:
        p = np.hstack([1 - p, p])  # the order of the classes
    assert problems.difference(found["probabilities"], p) < BOUND[precision]


def test_the_columns_of_two_classes_are_the_classes() -> None:
    net, X = answering("two classes"), raw_rows(30)
    found = run(net, {"X": X})
    by_column = np.array(net.classes)[found["probabilities"].argmax(axis=1)]
    assert by_column.tolist() == found["label"].tolist() == net.predict(X).tolist()


def test_standardisation_keeps_digits_that_float32_would_lose() -> None:
    """A mean 1e5 times the spread: the rows are exact in float32, (x - mean) has to be as well."""
    net = network([(3, "identity")], "float32", inputs=1)
    net.preprocessing = mlp.Standardizer(np.array([100000.3]), np.array([0.7]))
    X = np.array([[99999.5], [100000.0], [100001.25]])
    found = run(net, {"X": X.astype(np.float32)})["values"]
    assert problems.difference(found, in_float64(net).forward(X)) < BOUND["float32"]


def test_one_row_and_many() -> None:
    net = answering("classes")
    for rows in (1, 2, 777):
        assert run(net, {"X": raw_rows(rows)})["probabilities"].shape == (rows, 3)


def test_a_16_bit_precision_gives_its_float32_weights() -> None:
    net = deep("gelu", 2, "bfloat16")
    X = problems.rows(20, 4).astype(np.float32)
    found = run(net, {"X": X})["values"]
    assert found.dtype == np.float32
    assert problems.difference(found, in_float64(net).forward(X)) < BOUND["float32"]


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
def test_the_file_is_valid_and_runs_on_the_reference_evaluator(
    activation: str, precision: str
) -> None:
    net = deep(activation, 2, precision)
    model = onnx.load_from_string(onnx_bytes(net))
    onnx.checker.check_model(model, full_check=True)
    X = problems.rows(5, 4).astype(net.dtype)
    (values,) = ReferenceEvaluator(model).run(None, {"X": X})
    assert problems.difference(values, in_float64(net).forward(X)) < BOUND[precision]


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    net = answering("named classes")
    mlp.export_onnx(net, tmp_path / "a.onnx")
    mlp.export_onnx(net, str(tmp_path / "b.onnx"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    assert (model.producer_name, model.producer_version) == ("fused-mlp", mlp.__version__)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    (entry,) = model.metadata_props
    assert json.loads(entry.value) == net.spec.to_json()
    (rows,) = model.graph.input
    assert [(d.dim_param, d.dim_value) for d in rows.type.tensor_type.shape.dim] == [
        ("N", 0), ("", 4),
    ]  # fmt: skip
    weights = {entry.name: entry for entry in model.graph.initializer}
    first = onnx.numpy_helper.to_array(weights["layers.0.weight"])
    assert first.tobytes() == net.weights[0].tobytes()


def test_an_older_file_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    mlp.export_onnx(answering("classes"), path)
    before = path.read_bytes()
    mixed = answering("classes")
    mixed.classes = (None, 1, 2)
    with pytest.raises(InvalidInput, match="class labels that are all numbers, all text or all"):
        mlp.export_onnx(mixed, path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no/a.onnx: cannot be written: No such file"):
        mlp.export_onnx(answering("classes"), tmp_path / "no" / "a.onnx")


def test_without_onnx_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InvalidSetting, match=r'needs onnx, .*pip install "fused-mlp\[onnx\]"'):
        mlp.export_onnx(answering("classes"), tmp_path / "a.onnx")


def test_a_network_above_two_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlp.interop.onnx.MOST_BYTES", 100)
    with pytest.raises(InvalidInput, match="holds up to 2 GiB"):
        to_onnx(answering("classes"))
