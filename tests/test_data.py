"""X, y and sample weights as users pass them: what is taken, and the sentence for what is not."""

import numpy as np
import pytest

import mlp
from mlp.data.arrays import as_rows, as_target, as_weights
from mlp.errors import InvalidInput
from tests.problems import rows

LABELS, YES_NO = mlp.CrossEntropy(), mlp.BinaryCrossEntropy()
VALUES, COUNTS = mlp.MSE(), mlp.Poisson()


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype="uint8"),
        np.array([[1, 2], [3, 4]], dtype="float16"),
        np.array([[1, 2], [3, 4]], order="F"),
        ((1.0, 2.0), (3.0, 4.0)),
    ],
)
def test_rows(X):
    np.testing.assert_array_equal(as_rows(X, 2), [[1, 2], [3, 4]])


def test_a_single_row():
    assert as_rows([1, 2, 3], 3).shape == (1, 3)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1, 2], [3]], "X is ragged: its rows have different lengths"),
        (np.ones((2, 2, 2)), r"X must have 2 dimensions \(rows, features\), not 3"),
        (3.0, r"X must have 2 dimensions \(rows, features\), not 0"),
        ([], r"X is empty: its shape is \(1, 0\)"),
        (np.ones((0, 2)), r"X is empty: its shape is \(0, 2\)"),
        (np.ones((2, 0)), r"X is empty: its shape is \(2, 0\)"),
        (np.ones((2, 3)), "X has 3 features per row, but the network takes 2"),
        ([["a", "b"]], "X must hold real numbers, not <U1"),
        ([[1, None]], "X must hold real numbers, not object"),
        ([[1j, 2]], "X must hold real numbers, not complex128"),
        (np.array([["2020-01-01"] * 2], "M8[D]"), "X must hold real numbers, not datetime64"),
        ([[1, 2], [3, np.nan]], "X holds nan at row 1, column 1; values must be finite"),
        ([[1, -np.inf], [3, 4]], "X holds -inf at row 0, column 1; values must be finite"),
        (
            [[1, 2], [np.inf, np.nan]],
            r"X holds inf at row 1, column 0 \(2 such values in all\); values must be finite",
        ),
    ],
)
def test_rows_that_cannot_be_used(X, message):
    with pytest.raises(InvalidInput, match=message):
        as_rows(X, 2)


def test_an_error_calls_the_rows_what_the_caller_does():
    with pytest.raises(InvalidInput, match=r"^validation X has 3 features"):
        as_rows(np.ones((1, 3)), 2, "validation X")


def test_numbers_that_the_precision_cannot_hold_are_refused(backend):
    net = mlp.Network(2, [mlp.Dense(1)], device=backend.name, precision="float32")
    with pytest.raises(
        InvalidInput,
        match=r"X has numbers that are not finite in float32 \(NaN, or beyond 3\.4e\+38\)",
    ):
        net.forward([[1.0, 1e39]])
    double = mlp.Network(2, [mlp.Dense(1)], device=backend.name, precision="float64")
    assert np.isfinite(double.forward([[1.0, 1e39]])).all()


# --- targets --------------------------------------------------------------------------------------


def target(y, count, outputs, loss, classes=None):
    return as_target(y, count, outputs, loss, classes)


@pytest.mark.parametrize(
    ("y", "count", "outputs", "loss", "expected"),
    [
        ([0, 2, 1], 3, 3, LABELS, [0, 2, 1]),
        ([0.0, 2.0, 1.0], 3, 3, LABELS, [0, 2, 1]),
        ([[0], [2], [1]], 3, 3, LABELS, [0, 2, 1]),
        ([False, True], 2, 2, LABELS, [0, 1]),
        ([[0, 1], [1, 0]], 2, 2, LABELS, [[0, 1], [1, 0]]),
        ([[0.25, 0.75]], 1, 2, LABELS, [[0.25, 0.75]]),
        (1, 1, 3, LABELS, [1]),
        ([0, 1, 0], 1, 3, LABELS, [[0, 1, 0]]),
        ([1.5, 2], 2, 1, VALUES, [[1.5], [2]]),
        ([[1.5], [2]], 2, 1, VALUES, [[1.5], [2]]),
        (1.5, 1, 1, VALUES, [[1.5]]),
        ([1.5, 2], 1, 2, VALUES, [[1.5, 2]]),
        ([0, 1, 0.5], 3, 1, YES_NO, [[0], [1], [0.5]]),
        ([0, 7], 2, 1, COUNTS, [[0], [7]]),
    ],
)
def test_targets(y, count, outputs, loss, expected):
    found = target(y, count, outputs, loss)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == (np.int64 if np.ndim(expected) == 1 else np.float64)


@pytest.mark.parametrize(
    ("y", "count", "outputs", "loss", "message"),
    [
        ([0, 1], 3, 3, LABELS, "y has 2 rows, but X has 3"),
        ([], 3, 3, LABELS, "y has 0 rows, but X has 3"),
        ([0, 3, 1], 3, 3, LABELS, "y holds 3 at row 1; 3 outputs take the labels 0 to 2"),
        ([0, -1, -1], 3, 3, LABELS, r"y holds -1 at row 1 \(2 such values in all\); 3 outputs"),
        ([0, 0.5, 1], 3, 3, LABELS, "y holds 0.5 at row 1; class labels must be whole numbers"),
        ([0, np.nan, 1], 3, 3, LABELS, "y holds nan at row 1; values must be finite"),
        (["a", "b", "c"], 3, 3, LABELS, "y must hold real numbers, not <U1"),
        ([[0, 1], [1]], 2, 2, LABELS, "y is ragged"),
        (np.ones((3, 2)), 3, 3, LABELS, r"y has shape \(3, 2\), but the shape \(3, 3\) was"),
        (np.ones((3, 3, 1)), 3, 3, LABELS, r"y has shape \(3, 3, 1\), but the shape"),
        ([[0, 2]], 1, 2, LABELS, r"y holds 2 at row 0, column 1; loss 'cross_entropy' takes \[0,"),
        ([0, 1.5], 2, 1, YES_NO, r"y holds 1.5 at row 1, column 0; loss 'binary_cross_entropy' t"),
        ([3, -1], 2, 1, COUNTS, "y holds -1 at row 1, column 0; loss 'poisson' takes numbers >= "),
        ([1, 2], 2, 3, VALUES, r"y has shape \(2,\), but the shape \(2, 3\) was"),
        ([1, np.inf], 2, 1, VALUES, "y holds inf at row 1, column 0; values must be finite"),
    ],
)
def test_targets_that_cannot_be_used(y, count, outputs, loss, message):
    with pytest.raises(InvalidInput, match=message):
        target(y, count, outputs, loss)


@pytest.mark.parametrize(
    ("y", "outputs", "loss", "classes", "expected"),
    [
        (["eel", "cat"], 3, LABELS, ("cat", "dog", "eel"), [2, 0]),
        ([30, 10], 3, LABELS, (10, 20, 30), [2, 0]),
        (["yes", "no"], 1, YES_NO, ("no", "yes"), [[1], [0]]),
        ([[0, 1], [1, 0]], 2, LABELS, ("no", "yes"), [[0, 1], [1, 0]]),
        ([1.5, 2.5], 1, VALUES, ("no", "yes"), [[1.5], [2.5]]),
    ],
)
def test_labels_by_name(y, outputs, loss, classes, expected):
    np.testing.assert_array_equal(target(y, 2, outputs, loss, classes), expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["cat", "cow"], "y holds the label cow at row 1, which is not one of: cat, dog"),
        ([0, 1], "y holds the label 0 at row 0, which is not one of: cat, dog"),
        (["cat", None], "y holds the label None at row 1, which is not one of: cat, dog"),
        (["cat"], "y has 1 rows, but X has 2"),
        ([["cat"], ["dog", "cat"]], "y is ragged"),
        ([["cat", "dog"], ["dog", "cat"]], "y must hold real numbers"),
    ],
)
def test_labels_by_name_that_cannot_be_used(y, message):
    with pytest.raises(InvalidInput, match=message):
        target(y, 2, 2, LABELS, ("cat", "dog"))


def test_many_class_names_are_not_all_listed():
    with pytest.raises(InvalidInput, match=r"not one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.$"):
        target(["x"], 1, 20, LABELS, tuple(range(20)))


# --- sample weights -------------------------------------------------------------------------------


def test_weights():
    assert as_weights(None, 3) is None
    found = as_weights([0, 1, 2], 3)
    assert found.dtype == np.float64
    assert found.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 2], r"sample_weight has shape \(2,\), but X has 3 rows"),
        ([[1], [2], [3]], r"sample_weight has shape \(3, 1\), but X has 3 rows"),
        (1.0, r"sample_weight has shape \(\), but X has 3 rows"),
        ([1, -2, 3], "sample_weight holds -2 at row 1; weights must be >= 0"),
        ([1, np.nan, 3], "sample_weight holds nan at row 1; values must be finite"),
        ([0, 0, 0], "sample_weight is 0 everywhere: at least one row must count"),
        (["a", "b", "c"], "sample_weight must hold real numbers"),
        ([[1], [2, 3]], "sample_weight is ragged"),
    ],
)
def test_weights_that_cannot_be_used(weight, message):
    with pytest.raises(InvalidInput, match=message):
        as_weights(weight, 3)


def test_a_network_checks_what_it_is_given(backend):
    net = mlp.Network(2, [mlp.Dense(2, "softmax")], device=backend.name)
    with pytest.raises(InvalidInput, match="X has 3 features per row, but the network takes 2"):
        net.predict(rows(4, 3))
    with pytest.raises(InvalidInput, match="y has 3 rows, but X has 4"):
        net.gradients(rows(4, 2), [0, 1, 0], "cross_entropy")
    with pytest.raises(InvalidInput, match="sample_weight is 0 everywhere"):
        net.gradients(rows(4, 2), [0, 1, 0, 1], "cross_entropy", np.zeros(4))


@pytest.mark.parametrize("factor", [1e300, 1e-300, 1e160])
def test_standardizer_keeps_its_range(factor):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    scaler = mlp.Standardizer.fit(factor * rows)
    np.testing.assert_allclose(
        scaler.transform(factor * rows), mlp.Standardizer.fit(rows).transform(rows), rtol=1e-10
    )


def test_standardizer_takes_what_networks_take():
    assert mlp.Standardizer.fit([[1, 5], [3, 5]]).mean.tolist() == [2, 5]
    with pytest.raises(InvalidInput, match="ragged"):
        mlp.Standardizer.fit([[1], [2, 3]])
