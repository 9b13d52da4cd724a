"""The estimators in scikit-learn's tools: pipelines, searches, clones, routing, displays."""

import os
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlp
from mlp.backends.threads import thread_limit
from mlp.errors import InvalidInput
from mlp.estimators import inputs
from tests.estimators.problems import ours, problem, quietly, theirs

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0, "batch_size": 64}


@pytest.fixture
def data():
    return problem("classes")[1:]


def test_pipeline_and_set_output(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcdefgh"))
    pipe = make_pipeline(StandardScaler(), ours("MLPClassifier", **SMALL))
    pipe.set_output(transform="pandas")
    quietly(pipe.fit, frame, y)
    assert list(pipe[-1].feature_names_in_) == list("abcdefgh")
    with pytest.raises(ValueError, match="feature names should match"):
        pipe[-1].predict(frame.rename(columns={"a": "z"}))
    plain = quietly(make_pipeline(StandardScaler(), theirs("MLPClassifier", **SMALL)).fit, X, y)
    np.testing.assert_allclose(pipe.predict_proba(frame), plain.predict_proba(X), atol=1e-10)
    assert "MLPClassifier" in pipe._repr_html_()


def test_grid_search_and_cross_validation(data):
    X, y = data
    grid = {"alpha": [1e-4, 1.0], "activation": ["tanh", "relu"]}
    found = [
        quietly(GridSearchCV(make("MLPClassifier", **SMALL), grid, cv=3).fit, X, y)
        for make in (theirs, ours)
    ]
    assert found[0].best_params_ == found[1].best_params_
    np.testing.assert_allclose(
        found[1].cv_results_["mean_test_score"], found[0].cv_results_["mean_test_score"]
    )
    scores = [
        quietly(cross_val_score, make("MLPRegressor", **SMALL), X, X[:, 0], cv=3)
        for make in (theirs, ours)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-9)


def test_other_estimators_around_ours(data):
    X, _ = data
    y = (X[:, :2] > 0).astype(int)
    model = quietly(MultiOutputClassifier(ours("MLPClassifier", **SMALL)).fit, X, y)
    assert model.predict(X).shape == y.shape


def test_clone_keeps_objects_as_parameters():
    model = mlp.MLPRegressor(
        mlp.Huber(0.5), solver=mlp.SGD(0.1, momentum=0.5), schedule=mlp.StepDecay(3),
        callbacks=[mlp.EarlyStopping(patience=2, monitor="loss")], activation=["gelu"],
    )  # fmt: skip
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin.callbacks[0] is not model.callbacks[0]  # so that fits do not share what they saw
    assert clone(model.set_params(alpha=0.5)).alpha == 0.5


def test_representations(data):
    X, y = data
    model = mlp.MLPClassifier((5,), alpha=0.5)
    assert repr(model) == "MLPClassifier(alpha=0.5, hidden_layer_sizes=(5,))"
    assert "not fitted" in model._repr_html_().lower()
    quietly(model.set_params(max_iter=1, device="numpy").fit, X, y)
    html = model._repr_html_()
    assert "MLPClassifier" in html
    assert "not fitted" not in html.lower()
    assert f"<caption>Network: {model.n_features_in_} inputs, float64 weights" in html


def test_metadata_routing(data):
    X, y = data
    weight = np.random.RandomState(0).rand(len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = ours("MLPClassifier", **SMALL).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        model.set_partial_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, model)
        quietly(pipe.fit, X, y, sample_weight=weight)
    plain = quietly(theirs("MLPClassifier", **SMALL).fit, X, y, sample_weight=weight)
    np.testing.assert_allclose(pipe[-1].loss_curve_, plain.loss_curve_, rtol=1e-9)


# --- sparse rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_array", "csr_matrix"])
@pytest.mark.parametrize("kind", ["classes", "values"])
def test_sparse_rows(kind, form, monkeypatch):
    cls, X, y = problem(kind)
    X = np.where(X > 0.5, X, 0)
    rows = getattr(sparse, form)(X)
    settings = {**SMALL, "early_stopping": True}
    a = quietly(theirs(cls, **settings).fit, rows, y)
    b = quietly(ours(cls, **settings).fit, rows, y)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, atol=1e-12)
    whole = b.predict(X)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 7 * 8 * 8)  # seven rows at a time
    assert len(list(inputs.dense_blocks(rows))) == 29
    np.testing.assert_allclose(b.predict(rows), whole, rtol=1e-12)


def test_sparse_rows_that_would_fill_the_memory(monkeypatch, data):
    X, y = data
    monkeypatch.setattr(inputs, "free_memory", lambda: 20_000)
    message = "X is sparse, and its 203 rows of 8 features take 13 KB .* a quarter of the 20 KB"
    with pytest.raises(InvalidInput, match=message):
        ours("MLPClassifier", solver="lbfgs").fit(sparse.csr_array(X), y)
    huge = sparse.csr_array((4, 10**6))  # 32 MB in all, but not at once
    assert sum(len(block) for block in inputs.dense_blocks(huge)) == 4


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_sparse_rows_in_chunks(monkeypatch, data, device, early_stopping):
    X, y = data
    X = np.where(X > 0.5, X, 0)
    weight = np.random.RandomState(1).rand(len(X))
    settings = {**SMALL, "early_stopping": early_stopping, "device": device}
    whole = quietly(ours("MLPClassifier", **settings).fit, X, y, weight)
    # Room for the rows held out, not for all.
    monkeypatch.setattr(inputs, "free_memory", lambda: 20_000)
    seen = []
    settings["callbacks"] = [lambda trainer: seen.append(trainer.streams)]
    chunks = quietly(ours("MLPClassifier", **settings).fit, sparse.csc_array(X), y, weight)
    assert all(seen)
    assert seen
    np.testing.assert_array_equal(chunks.loss_curve_, whole.loss_curve_)
    np.testing.assert_array_equal(chunks.coefs_[0], whole.coefs_[0])


# --- threads and processes ------------------------------------------------------------------------


def threads_of_a_worker():
    """In a worker: the most threads that our backend and NumPy's products take there."""
    return os.getpid(), thread_limit()


def test_workers_do_not_take_more_processors_than_there_are():
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(threads_of_a_worker)() for _ in range(4))
    assert all(pid != os.getpid() for pid, _ in found)
    processors = joblib.cpu_count()
    assert all(limit * 2 <= max(processors, 2) for _, limit in found)


def test_a_search_in_processes_is_one_in_sequence(data):
    X, y = data
    grid = {"alpha": [1e-4, 1.0]}
    model = ours("MLPClassifier", **SMALL)
    alone = quietly(GridSearchCV(model, grid, cv=2).fit, X, y)
    many = quietly(GridSearchCV(model, grid, cv=2, n_jobs=2).fit, X, y)
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(many.cv_results_[key], alone.cv_results_[key])


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_fits_at_once_in_threads_are_those_one_after_another(device, data):
    X, y = data

    def fit(seed):
        model = ours("MLPClassifier", device=device, **{**SMALL, "random_state": seed})
        return model.fit(X, y).predict_proba(X)

    def run():
        alone = [fit(seed) for seed in range(6)]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(fit, range(6)))
        with joblib.parallel_config("threading", n_jobs=3):
            by_joblib = joblib.Parallel()(joblib.delayed(fit)(seed) for seed in range(6))
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(by_joblib, alone)

    quietly(run)


def test_predictions_at_once_in_threads(data):
    X, y = data
    model = quietly(ours("MLPClassifier", device="cpu", **SMALL).fit, X, y)
    expected = model.predict_proba(X)
    model.__setstate__(model.__getstate__())  # now its network is yet to be made, in a thread
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.predict_proba, [X] * 20):
            np.testing.assert_array_equal(found, expected)
