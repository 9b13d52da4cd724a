"""The comparison behind `mlp verify`: it passes what is right, and finds what is wrong, and where.

With PyTorch itself it is tested in tests/parity/test_torch_sequential.py.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow
import pytest

import mlp
from mlp.errors import InvalidInput, ModelFileError
from mlp.gradcheck import float64_copy
from mlp.interop import engines, verify
from mlp.interop.rows import UNSEEN, comparison_rows
from mlp.interop.verify import Finding, Form, compare, device_form, onnx_form, torch_form
from tests import problems
from tests.interop.made import OUTPUTS, answering, deep, network
from tests.interop.test_onnx_tables import TRAINING, for_table


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "is_installed", lambda library: library != "torch")


def findings(form: Form, net: mlp.Network, tolerance: float | None = None) -> list[Finding]:
    truth = float64_copy(net)
    return [*compare(form, truth, comparison_rows(truth, 200, seed=0), tolerance)]


def exported(net: mlp.Network, folder: Path, kind: str) -> Path:
    path = folder / {"onnx": "a.onnx", "torch": "a.safetensors"}[kind]
    (mlp.export_onnx if kind == "onnx" else mlp.to_torch)(net, path)
    return path


def form_of(path: Path, net: mlp.Network, kind: str) -> Form:
    return (onnx_form if kind == "onnx" else torch_form)(path, float64_copy(net))


def changed(net: mlp.Network, **new) -> mlp.Network:
    return mlp.Network.from_state(replace(net.state(), **new), "numpy")


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_right_passes(kind: str, precision: str, tmp_path: Path) -> None:
    net = answering(kind, precision)
    forms = [device_form(net), *(form_of(exported(net, tmp_path, k), net, k)
                                 for k in ("onnx", "torch"))]  # fmt: skip
    for form in forms:
        found = findings(form, net)
        assert [finding for finding in found if not finding.agrees] == []
        assert {finding.kind for finding in found} == {
            "random", "zeros", "tiny", "negative", "huge",
        }  # fmt: skip
        assert max(finding.rows for finding in found) == 200


def test_a_table_with_missing_and_unseen_values(tmp_path: Path) -> None:
    net = for_table(TRAINING, "float32")
    for kind in ("onnx", "torch"):
        found = findings(form_of(exported(net, tmp_path, kind), net, kind), net)
        assert all(finding.agrees for finding in found)
        assert {finding.kind for finding in found} >= {"missing", "unseen", "huge"}
    numbers = for_table(TRAINING.select(["size", "year", "member"]), "float32")
    found = findings(form_of(exported(numbers, tmp_path, "onnx"), numbers, "onnx"), numbers)
    assert all(finding.agrees for finding in found)
    assert {finding.kind for finding in found} >= {"missing"} - {"unseen"}


WRONG = {
    "transposed weight": lambda net: {
        "weights": (net.weights[0].T.reshape(net.weights[0].shape), *net.weights[1:])
    },
    "a bias": lambda net: {"biases": (*net.biases[:-1], net.biases[-1] + [1e-4, 0, 0])},
    "missing scaler": lambda net: {"preprocessing": None},
    "another scaler": lambda net: {
        "preprocessing": replace(net.preprocessing, scale=net.preprocessing.scale * 1.001)
    },
    "the other gelu": lambda net: {
        "spec": replace(net.spec, layers=(replace(net.spec.layers[0], activation="gelu_tanh"),
                                          *net.spec.layers[1:]))
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_wrong_is_found(mistake: str, kind: str, tmp_path: Path) -> None:
    net = network([(6, "gelu"), (3, "softmax")], "float32")
    net.preprocessing = mlp.Standardizer.fit(3 * problems.rows(30, 4) + 1)
    other = changed(net, **WRONG[mistake](net))
    found = findings(form_of(exported(other, tmp_path, kind), net, kind), net)
    worst = max(found, key=lambda finding: finding.difference)
    assert not worst.agrees
    assert worst.difference > 1e-5
    if kind == "torch":  # where and what is said is what is there
        rows = {r.kind: r for r in comparison_rows(float64_copy(net), 200, seed=0)}[worst.kind]
        place = worst.row, worst.column
        assert worst.found == pytest.approx(other.forward(rows.X)[place], rel=1e-5)
        assert worst.expected == pytest.approx(float64_copy(net).forward(rows.X)[place])


def test_swapped_labels_are_found(tmp_path: Path) -> None:
    net = answering("named classes")
    other = changed(net, classes=("ape", "zebra", "dög"))
    found = findings(form_of(exported(other, tmp_path, "onnx"), net, "onnx"), net)
    labels = [finding for finding in found if finding.output == "label"]
    assert not labels[0].agrees
    assert {labels[0].found, labels[0].expected} == {"ape", "zebra"}
    assert all(finding.agrees for finding in found if finding.output == "probabilities")


def test_a_missing_target_scaler_is_found(tmp_path: Path) -> None:
    net = answering("values", "float32")
    other = changed(net, target_scaler=None)
    for kind in ("onnx", "torch"):
        found = findings(form_of(exported(other, tmp_path, kind), net, kind), net)
        assert not any(finding.agrees for finding in found if finding.kind == "random")


def test_the_tolerance() -> None:
    net = deep("tanh", 1, "float32")
    tight = findings(device_form(net), net, tolerance=1e-12)
    assert not all(finding.agrees for finding in tight)
    assert {finding.bound for finding in tight} == {1e-12}
    assert all(finding.agrees for finding in findings(device_form(net), net, tolerance=1e-4))


def test_ties_may_go_either_way_and_nothing_else() -> None:
    net = network([(2, "softmax")], inputs=1)
    net.set_parameters([[[0.0, 1.0]]], [[0.0, 0.0]])
    net.classes = ("a", "b")
    truth, rows = float64_copy(net), next(iter(comparison_rows(net, 1, seed=0)))
    for x, label, difference in ((0.0, "a", 0), (0.0, "b", 0), (1e-14, "a", 0), (1.0, "a", 1),
                                 (1.0, "b", 0), (0.0, "c", 1)):  # fmt: skip
        X = np.array([[x]])
        p = truth.forward(X)
        form = Form("onnx", "", net.dtype, lambda _, label=label, p=p: {
            "label": np.array([label]), "probabilities": p})  # fmt: skip
        found, _ = compare(form, truth, iter([replace(rows, X=X)]), None)
        assert found.difference == difference


def test_infinite_where_only_one_is() -> None:
    net = network([(2, "identity")], inputs=1)
    truth, (rows, *_) = float64_copy(net), comparison_rows(net, 3, seed=0)
    values = truth.forward(rows.X)
    for bad in (np.inf, np.nan):
        values[1, 1] = bad
        form = Form("onnx", "", net.dtype, lambda _: {"values": values})
        (found,) = compare(form, truth, iter([rows]), None)
        assert (found.difference, found.row, found.column) == (np.inf, 1, 1)


# --- rows -----------------------------------------------------------------------------------------


def test_rows_look_like_those_of_training() -> None:
    net = network([(3, "softmax")])
    net.preprocessing = mlp.Standardizer(np.array([0, 1e3, -5, 40.0]), np.array([1, 10, 0.1, 3]))
    rows = {r.kind: r for r in comparison_rows(net, 5000, seed=1)}
    random = rows["random"].X
    assert (
        np.abs((random.mean(axis=0) - net.preprocessing.mean) / net.preprocessing.scale).max() < 0.1
    )
    assert np.abs(random.std(axis=0) / net.preprocessing.scale - 1).max() < 0.1
    assert not rows["zeros"].X.any()
    assert (rows["negative"].X < 0).all()
    assert (np.abs(rows["tiny"].X) < 1e-28).all()
    assert np.abs(net.preprocessing.transform(rows["huge"].X)).max() > 1e13
    for group in rows.values():
        assert np.array_equal(group.X, group.X.astype(np.float32))  # the same to all who read them
    again = {r.kind: r for r in comparison_rows(net, 5000, seed=1)}
    other = {r.kind: r for r in comparison_rows(net, 5000, seed=2)}
    assert np.array_equal(again["random"].X, random)
    assert not np.array_equal(other["random"].X, random)


def test_rows_of_a_table() -> None:
    net = for_table(TRAINING, "float64")
    rows = {r.kind: r for r in comparison_rows(net, 400, seed=0)}
    random = rows["random"].X
    assert isinstance(random, pyarrow.Table)
    for column in net.preprocessing.columns:
        values = random[column.name]
        assert (values.null_count > 0) == column.missing
        if column.kind == "category":
            assert set(values.drop_null().to_pylist()) == set(column.categories)
    unseen = net.preprocessing.unseen(rows["unseen"].X)
    assert unseen == {"town": 8, "code": 8}
    assert set(rows["unseen"].feeds["town"].ravel()) == {UNSEEN}
    assert rows["missing"].X["size"].null_count == 1


# --- files that are something else ----------------------------------------------------------------


def test_damaged_and_foreign_onnx_files(tmp_path: Path) -> None:
    net = answering("classes", "float32")
    whole = exported(net, tmp_path, "onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    mlp.export_onnx(answering("values", "float32"), tmp_path / "values.onnx")
    narrow = network([(3, "softmax")], "float32", inputs=3)
    mlp.export_onnx(narrow, tmp_path / "narrow.onnx")
    wide = network([(4, "softmax")], "float32")
    mlp.export_onnx(wide, tmp_path / "wide.onnx")
    mlp.export_onnx(for_table(TRAINING, "float32"), tmp_path / "table.onnx")
    for name, error, sentence in (
        ("half.onnx", ModelFileError, "not a readable ONNX file"),
        ("text.onnx", ModelFileError, "not a readable ONNX file"),
        ("empty.onnx", ModelFileError, "not a readable ONNX file"),
        ("none.onnx", ModelFileError, "there is no such file"),
        ("values.onnx", InvalidInput, "has the outputs values; label and probabilities expected"),
        ("narrow.onnx", InvalidInput, "does not take the rows"),
        ("wide.onnx", InvalidInput, "outputs have shape (200, 4), not (200, 3)"),
        ("table.onnx", InvalidInput, "takes the inputs 'size', 'town', 'member', 'year', 'code', "
         "'new', ..., but the model the input 'X'"),
    ):  # fmt: skip
        with pytest.raises(error, match=re.escape(sentence)) as caught:
            findings(onnx_form(tmp_path / name, float64_copy(net)), net)
        assert "\n" not in str(caught.value)


def test_a_network_of_other_widths(tmp_path: Path) -> None:
    net = deep("relu", 1)
    path = exported(deep("relu", 2), tmp_path, "torch")
    with pytest.raises(
        InvalidInput, match="a network of 4 -> 7 -> 5 -> 3, but the model is one of"
    ):
        torch_form(path, net)


def test_a_file_that_says_no_activations_is_taken_to_have_the_models(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    net = answering("classes")
    path = exported(net, tmp_path, "torch")
    save_file(load_file(path), path)  # as from PyTorch, without the description
    form = torch_form(path, float64_copy(net))
    assert form.engine == "its weights by the NumPy reference; PyTorch is not installed"
    assert all(finding.agrees for finding in findings(form, net))


def test_without_onnxruntime_the_reference_evaluator_is_used_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda library: False)
    for net in (answering("named classes", "float32"), for_table(TRAINING, "float32")):
        form = onnx_form(exported(net, tmp_path, "onnx"), float64_copy(net))
        assert form.engine == f"onnx {onnx.__version__}, reference evaluator"
        assert all(finding.agrees for finding in findings(form, net))
    (tmp_path / "a.onnx").write_text("not a model")
    with pytest.raises(ModelFileError, match="not a readable ONNX file"):
        onnx_form(tmp_path / "a.onnx", net)


def test_an_onnx_file_of_another_precision(tmp_path: Path) -> None:
    net = answering("classes", "float32")
    path = exported(changed(net, precision="float64"), tmp_path, "onnx")
    form = onnx_form(path, float64_copy(net))
    assert form.dtype == np.float64
    found = findings(form, net)
    assert {finding.bound for finding in found if finding.output != "label"} == {1e-12}
    assert all(finding.agrees for finding in found)


def test_the_bound_grows_with_the_rounding_of_the_model_itself(tmp_path: Path) -> None:
    """Large numbers that cancel: float32 loses digits of their sum, in any order."""
    net = network([(64, "identity"), (3, "identity")], "float32")
    weights = [net.weights[0], net.weights[1] - net.weights[1].mean(axis=0)]
    net.set_parameters(weights, [net.biases[0] + 1e4, net.biases[1]])
    found = findings(form_of(exported(net, tmp_path, "onnx"), net, "onnx"), net)
    (random,) = [finding for finding in found if finding.kind == "random"]
    assert 1e-5 < random.difference <= random.bound < 1e-2
    wrong = changed(net, biases=(net.biases[0], net.biases[1] + 100 * random.bound))
    found = findings(form_of(exported(wrong, tmp_path, "onnx"), net, "onnx"), net)
    assert not next(finding for finding in found if finding.kind == "random").agrees
