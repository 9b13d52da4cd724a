"""Calls after calls: partial_fit, warm starts, copies and pickles in between."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest

import mlp
from mlp.errors import InvalidSetting
from tests.estimators.problems import (
    KINDS,
    WEIGHT,
    largest_difference,
    ours,
    problem,
    quietly,
    theirs,
)

SGD = {"solver": "sgd", "learning_rate_init": 0.01}
SOLVERS = {
    "adam": {},
    "sgd": SGD,
    "invscaling": {**SGD, "learning_rate": "invscaling"},
    "adaptive": {**SGD, "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
}


def settings(kind, **more):
    chosen = {"hidden_layer_sizes": (7,), "random_state": 3, "batch_size": 32, **more}
    if kind == "counts":
        chosen["loss"] = "poisson"
        chosen["learning_rate_init"] = 0.001
    return chosen


def assert_alike(a, b):
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=0, atol=1e-11)
    assert largest_difference(a, b) <= 1e-9
    assert (a.t_, a.n_iter_) == (b.t_, b.n_iter_)


def train_in_parts(model, X, y, between=lambda model: model, weight=None, times=6):
    """Calls of partial_fit with one part of the rows after the other."""
    classes = {}
    if hasattr(model, "predict_proba"):
        classes = {"classes": np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])}
    for i in range(times):
        part = slice(60 * (i % 3), 60 * (i % 3) + 60)
        w = None if weight is None else weight[part]
        model.partial_fit(X[part], y[part], sample_weight=w, **(classes if i == 0 else {}))
        model = between(model)
    return model


@pytest.mark.parametrize(
    ("kind", "solver"),
    [(kind, "adam") for kind in KINDS]
    + [(kind, solver) for kind in ("binary", "values") for solver in SOLVERS if solver != "adam"],
)
def test_partial_fit(kind, solver):
    cls, X, y = problem(kind)
    chosen = settings(kind, **SOLVERS[solver])
    a = train_in_parts(theirs(cls, **chosen), X, y, weight=WEIGHT)
    b = train_in_parts(ours(cls, **chosen), X, y, weight=WEIGHT)
    assert_alike(a, b)
    if solver != "adam":
        assert b._optimizer.learning_rate == pytest.approx(a._optimizer.learning_rate)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["classes", "values"])
def test_partial_fit_after_fit_and_fit_after_that(kind, solver):
    cls, X, y = problem(kind)

    def run(model):
        quietly(model.fit, X, y)
        model.partial_fit(X[:90], y[:90])
        model.partial_fit(X[90:], y[90:])
        first = list(model.loss_curve_)
        quietly(model.fit, X, y)
        return model, first

    chosen = settings(kind, max_iter=4, **SOLVERS[solver])
    (a, first), (b, again) = run(theirs(cls, **chosen)), run(ours(cls, **chosen))
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-11)
    assert_alike(a, b)


@pytest.mark.parametrize("early", [False, True], ids=["", "early"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["classes", "binary", "values"])
def test_warm_start(kind, solver, early):
    cls, X, y = problem(kind)

    def run(model):
        for i in range(3):
            quietly(model.fit, X[i:], y[i:])
        return model

    more = {"early_stopping": early, "warm_start": True, "max_iter": 3, **SOLVERS[solver]}
    a, b = run(theirs(cls, **settings(kind, **more))), run(ours(cls, **settings(kind, **more)))
    if not early:
        assert_alike(a, b)
        return
    # Where a later call finds nothing better, theirs keeps its last weights under the name of the
    # best, and ours the best. Until then they are the same.
    np.testing.assert_allclose(b.loss_curve_[:3], a.loss_curve_[:3], rtol=0, atol=1e-11)
    assert len(b.loss_curve_) == len(a.loss_curve_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warm_start_from_lbfgs(solver):
    cls, X, y = problem("binary")
    chosen = settings("binary", warm_start=True, max_iter=3, solver="lbfgs")
    b = quietly(ours(cls, **chosen).fit, X, y)
    before = b.loss_
    quietly(b.set_params(solver=solver).fit, X, y)
    assert b.loss_ < before
    if solver == "lbfgs":
        a = theirs(cls, **chosen)
        quietly(quietly(a.fit, X, y).fit, X, y)
        assert b.loss_ == pytest.approx(a.loss_, abs=1e-8)


def test_lbfgs_after_float32_goes_on_in_float64():
    cls, X, y = problem("binary", np.float32)
    model = quietly(ours(cls, **settings("binary", warm_start=True, max_iter=3)).fit, X, y)
    assert model.coefs_[0].dtype == np.float32
    quietly(model.set_params(solver="lbfgs").fit, X, y)
    assert model.coefs_[0].dtype == model.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize("solver", [*SOLVERS, "rmsprop", "adagrad", "adamw", "lion"])
def test_a_warm_start_that_keeps_the_optimizer_is_one_long_fit(solver):
    cls, X, y = problem("classes")
    chosen = settings("classes", shuffle=False, **{"solver": solver, **SOLVERS.get(solver, {})})
    whole = quietly(ours(cls, max_iter=6, **chosen).fit, X, y)
    parts = ours(cls, max_iter=2, warm_start="optimizer", **chosen)
    for _ in range(3):
        quietly(parts.fit, X, y)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=0, atol=1e-13)
    plain = ours(cls, max_iter=2, warm_start=True, **chosen)
    for _ in range(3):
        quietly(plain.fit, X, y)
    assert plain.loss_curve_[:2] == parts.loss_curve_[:2]
    assert plain.loss_curve_ != parts.loss_curve_


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("between", [lambda model: model, through_pickle], ids=["", "pickled"])
def test_a_kept_optimizer_takes_a_new_rate_and_refuses_another_kind(between):
    cls, X, y = problem("value")
    chosen = settings("value", warm_start="optimizer", max_iter=2, shuffle=False, **SGD)
    model = between(quietly(ours(cls, **chosen).fit, X, y))
    quietly(model.set_params(learning_rate_init=1e-4).fit, X, y)
    assert model._optimizer.learning_rate == 1e-4
    # The step after a change of the rate is momentum * the last update - new rate * gradient.
    same = theirs(cls, **{**chosen, "warm_start": True})
    quietly(same.fit, X, y)
    same._optimizer.learning_rate = 1e-4
    same.partial_fit(X, y)
    same.partial_fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, same.loss_curve_, rtol=0, atol=1e-12)
    with pytest.raises(InvalidSetting, match="cannot go on from 'sgd' with 'adam'"):
        model.set_params(solver="adam").fit(X, y)


@pytest.mark.parametrize(
    ("solver", "between"),
    [
        ("adam", through_pickle), ("adaptive", through_pickle), ("invscaling", through_pickle),
        ("adam", through_joblib), ("adaptive", copy.copy), ("invscaling", copy.deepcopy),
    ],
)  # fmt: skip
def test_copies_go_on_exactly(solver, between):
    cls, X, y = problem("classes")
    chosen = settings("classes", **SOLVERS[solver])
    a = train_in_parts(ours(cls, **chosen), X, y)
    b = train_in_parts(ours(cls, **chosen), X, y, between)
    assert b.loss_curve_ == a.loss_curve_
    assert largest_difference(a, b) == 0


def test_dropout_goes_on_exactly_in_a_copy():
    cls, X, y = problem("classes")
    chosen = settings("classes", dropout=0.4)
    a = train_in_parts(ours(cls, **chosen), X, y)
    b = train_in_parts(ours(cls, **chosen), X, y, through_pickle)
    assert b.loss_curve_ == a.loss_curve_


def test_a_copy_of_an_unfitted_estimator():
    model = mlp.MLPClassifier((3,), solver=mlp.SGD(0.1), loss=mlp.CrossEntropy(0.1))
    assert repr(through_pickle(model)) == repr(model)


def test_a_pickle_holds_no_network():
    cls, X, y = problem("classes")
    model = quietly(ours(cls, **settings("classes", max_iter=2)).fit, X, y)
    state = model.__getstate__()
    assert "_bound" not in state
    text = pickle.dumps(model)
    assert b"mlp.network" not in text
    assert b"mlp.backends" not in text
    assert b"mlp.step" not in text


def test_the_original_is_not_touched_by_its_copy():
    cls, X, y = problem("classes")
    model = quietly(ours(cls, **settings("classes", max_iter=2)).fit, X, y)
    expected, twin = model.predict_proba(X), copy.copy(model)
    twin.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert not np.array_equal(twin.predict_proba(X), expected)
