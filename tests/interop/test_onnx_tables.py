"""ONNX files of networks that take a table: raw columns in, missing and unseen values included."""

import numpy as np
import onnxruntime
import pyarrow
import pytest

import mlp
from mlp.errors import InvalidInput
from mlp.gradcheck import float64_copy
from mlp.interop.onnx import onnx_bytes
from tests import problems
from tests.interop.made import network

BOUND = {"float32": 2e-6, "float64": 1e-14}

TRAINING = pyarrow.table(
    {
        "size": [1.5, None, 4.0, 5.0, 2.5, 100000.0],
        "town": ["Oslo", None, "Rome", "Oslo", "Åbo", "Rome"],
        "member": [True, False, None, True, True, False],
        "year": [1999, 2000, 2001, 2002, 2003, 2004],
        "code": ["a", "b", "a", "c", "b", "a"],
        "new": [False, True, True, True, False, False],
        "label": [0.5, 0.25, 0.125, 0.5, 0.75, 1.0],
    }
)
# Missing where training had some and where it had none, unseen categories, numbers far out.
ROWS = pyarrow.table(
    {
        "size": [None, 3.0, -1e6, 0.0, 2.5],
        "town": ["Rome", None, "Paris", "Oslo", "Åbo"],
        "member": [None, True, False, None, True],
        "year": [2000, None, 1, 2030, 1999],
        "code": ["c", "q", None, "a", "b"],
        "new": [True, None, False, True, None],
        "label": [0.5, 0.0, None, 1e4, 0.125],
    }
)


def feeds(preprocessing: mlp.TablePreprocessor, table, dtype) -> dict[str, np.ndarray]:
    """What the page on exchange formats says: (N, 1) each, NaN and "" for what is missing."""
    given = {}
    for column in preprocessing.columns:
        values = table[column.name].to_pylist()
        if column.kind == "category":
            given[column.name] = np.array([[value or ""] for value in values], dtype=object)
        else:
            numbers = [np.nan if value is None else float(value) for value in values]
            given[column.name] = np.array(numbers, dtype)[:, None]
    return given


def for_table(table, precision: str, activation: str = "softmax", **fit) -> mlp.Network:
    preprocessing = mlp.TablePreprocessor.fit(table, **fit)
    net = network([(6, "tanh"), (3, activation)], precision, inputs=preprocessing.inputs)
    net.preprocessing = preprocessing
    return net


def run(net: mlp.Network, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(onnx_bytes(net), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(given)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("standardize", [True, False])
def test_a_table_of_every_kind_of_column(precision: str, standardize: bool) -> None:
    net = for_table(TRAINING, precision, standardize=standardize)
    truth = float64_copy(net)
    for table in (TRAINING, ROWS):
        found = run(net, feeds(net.preprocessing, table, net.dtype))
        # A column is called label, so the output has another name.
        assert [*found] == ["mlp.label", "probabilities"]
        assert found["mlp.label"].tolist() == truth.predict(table).tolist()
        assert problems.difference(found["probabilities"], truth.forward(table)) < BOUND[precision]


@pytest.mark.parametrize(
    "names", [["size", "year"], ["member"], ["new"], ["town"], ["code"], ["code", "year", "town"]]
)
def test_tables_of_one_kind_of_column(names: list[str]) -> None:
    net = for_table(TRAINING.select(names), "float64", "identity")
    rows = ROWS.select(names)
    found = run(net, feeds(net.preprocessing, rows, np.float64))
    assert problems.difference(found["values"], net.forward(rows)) < BOUND["float64"]
    assert np.ptp(found["values"], axis=0).max() > 0.01


def test_columns_with_the_names_of_nodes_and_weights() -> None:
    table = pyarrow.table(
        {name: [1.0, 2.0, 4.0] for name in ("Gemm_6", "layers.0.weight", "values", "X", "N")}
    )
    net = for_table(table, "float64", "identity")
    found = run(net, feeds(net.preprocessing, table, np.float64))
    assert problems.difference(found["mlp.values"], net.forward(table)) < BOUND["float64"]


def test_empty_text_as_a_category_of_its_own() -> None:
    net = for_table(pyarrow.table({"a": ["", "x", "", "y"]}), "float64", "identity")
    given = {"a": np.array([[""], ["x"]], dtype=object)}
    found = run(net, given)["values"]
    assert problems.difference(found, net.forward(pyarrow.table({"a": ["", "x"]}))) < 1e-14
    clash = for_table(pyarrow.table({"a": ["", "x", None, "y"]}), "float64", "identity")
    with pytest.raises(InvalidInput, match="missing value as '', which in column 'a' is a cat"):
        onnx_bytes(clash)


def test_a_column_without_a_name() -> None:
    net = for_table(pyarrow.table({"": [1.0, 2.0]}), "float64", "identity")
    with pytest.raises(InvalidInput, match="a name for every column"):
        onnx_bytes(net)
