"""What is named after scikit-learn gives scikit-learn's numbers."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import mlp
from mlp.evaluation import score
from mlp.schedules import Horizon
from tests.problems import difference, rows, target
from tests.tolerances import FLOAT64_RELATIVE


@pytest.mark.parametrize("power", [0.5, 0.3])
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_inverse_scaling_is_the_rate_that_sgd_has_after_some_epochs(epochs, power):
    X, y = rows(30, 2), target("values", 30, 1)[:, 0]
    theirs = MLPRegressor(
        hidden_layer_sizes=(2,), solver="sgd", batch_size=8,
        learning_rate="invscaling", learning_rate_init=0.01, power_t=power,
        max_iter=epochs, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)
    # Their rate has been set for the epoch that would come next.
    ours = mlp.InverseScaling(power).rates(0.01, Horizon(epochs, epochs + 1, 4, 30), {})
    np.testing.assert_allclose(
        ours, np.full(4, theirs._optimizer.learning_rate), rtol=FLOAT64_RELATIVE
    )


def columns() -> np.ndarray:
    X = rows(200, 6)
    X[:, 1] = 7.1  # its computed deviation is rounding, not 0
    X[:, 2] = 0
    X[:, 3] = 1e6 + X[:, 3]
    X[:, 4] *= 1e-9
    return X


def test_standardizer():
    X, new = columns(), rows(5, 6, seed=3)
    theirs = StandardScaler().fit(X)
    ours = mlp.Standardizer.fit(X)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=FLOAT64_RELATIVE)
    np.testing.assert_allclose(ours.scale, theirs.scale_, rtol=FLOAT64_RELATIVE)
    assert difference(ours.transform(new), theirs.transform(new)) < FLOAT64_RELATIVE


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_standardizer_computes_in_float64(dtype):
    X = (10 * rows(50, 3) + 3).astype(dtype)
    ours, theirs = mlp.Standardizer.fit(X), StandardScaler().fit(X.astype(float))
    assert ours.mean.dtype == ours.scale.dtype == ours.transform(X).dtype == np.float64
    assert difference(ours.transform(X), theirs.transform(X.astype(float))) < FLOAT64_RELATIVE


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_scores(outputs, weighted):
    rng = np.random.default_rng(0)
    weight = rng.random(40) if weighted else None
    y, a = target("values", 40, outputs), target("values", 40, outputs, seed=5)
    found = score(mlp.MSE(), y + 0.3 * a, y, weight=weight)
    assert found == pytest.approx(
        r2_score(y, y + 0.3 * a, sample_weight=weight), rel=FLOAT64_RELATIVE
    )
    labels, outputs_of = target("labels", 40, 4), rng.random((40, 4))
    found = score(mlp.CrossEntropy(), outputs_of, labels, weight=weight)
    expected = accuracy_score(labels, outputs_of.argmax(axis=1), sample_weight=weight)
    assert found == pytest.approx(expected, rel=FLOAT64_RELATIVE)
    answers = target("yes_no", 40, 1)
    found = score(mlp.BinaryCrossEntropy(), outputs_of[:, :1], answers, weight=weight)
    expected = accuracy_score(answers, outputs_of[:, :1] >= 0.5, sample_weight=weight)
    assert found == pytest.approx(expected, rel=FLOAT64_RELATIVE)


def test_scores_of_a_target_that_does_not_vary():
    flat, varied = np.full((5, 1), 2.0), np.arange(5.0)[:, None]
    assert score(mlp.MSE(), flat, flat) == r2_score(flat, flat) == 1
    assert score(mlp.MSE(), varied, flat) == r2_score(flat, varied) == 0
    assert np.isnan(score(mlp.MSE(), flat[:1], flat[:1]))
