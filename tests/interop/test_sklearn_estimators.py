"""scikit-learn's fitted MLPs, both ways: its predictions are the truth, or have to be ours."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import mlp
from mlp.errors import InvalidInput, InvalidSetting
from tests import problems
from tests.interop.made import HIDDEN, OUTPUTS, answering, deep, network, raw_rows

BOUND = {"float32": 2e-6, "float64": 1e-13}
X = problems.rows(60, 4)
CLASS = (X @ [1, -1, 2, 0.5] > 0).astype(int) + (X[:, 0] > 1)
TARGETS = {
    "classes": CLASS,
    "text": np.array(["zebra", "ape", "dög"])[CLASS],
    "two classes": np.array(["yes", "no"])[CLASS.clip(max=1)],
    "several labels": np.stack([CLASS > 0, CLASS > 1, X[:, 3] > 0], axis=1).astype(int),
    "values": X @ [1, 2, 3, 4],
    "several values": X[:, :2] * 3 + 1,
    "counts": np.random.default_rng(0).poisson(np.exp(X[:, 0])),
}


def fitted(made, y, dtype=np.float64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return made.set_params(max_iter=4, random_state=0, hidden_layer_sizes=(6, 5)).fit(
            X.astype(dtype), y
        )


def estimator(kind: str, activation: str = "tanh", dtype=np.float64):
    if kind in ("values", "several values", "counts"):
        loss = "poisson" if kind == "counts" else "squared_error"
        return fitted(MLPRegressor(activation=activation, loss=loss), TARGETS[kind], dtype)
    return fitted(MLPClassifier(activation=activation), TARGETS[kind], dtype)


def assert_same_answers(net: mlp.Network, theirs, rows: np.ndarray, bound: float) -> None:
    """`predict` and, of classifiers, `predict_proba`, whose columns are the sorted classes."""
    expected = theirs.predict(rows)
    found = net.predict(rows)
    if not hasattr(theirs, "predict_proba"):
        assert problems.difference(found, expected) < bound
        return
    assert found.tolist() == expected.tolist()
    p = net.forward(rows)
    if p.shape[1] == 1:
        p = np.hstack([1 - p, p])
    if net.classes is not None:
        p = p[:, np.argsort(net.classes)]
    assert problems.difference(p, theirs.predict_proba(rows)) < bound


# --- from scikit-learn ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", TARGETS)
def test_every_kind_of_target(kind: str, dtype: str) -> None:
    theirs = estimator(kind, dtype=dtype)
    net = mlp.from_sklearn(theirs, device="numpy")
    assert net.precision == dtype
    rows = problems.rows(50, 4, seed=9).astype(dtype)
    assert_same_answers(net, theirs, rows, BOUND[dtype])


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_every_activation_of_theirs(activation: str) -> None:
    theirs = estimator("text", activation)
    net = mlp.from_sklearn(theirs, device="numpy")
    assert_same_answers(net, theirs, X, BOUND["float64"])
    hidden = {layer.activation for layer in net.spec.layers[:-1]}
    assert hidden == {{"logistic": "sigmoid"}.get(activation, activation)}


@pytest.mark.parametrize("scaler", [{}, {"with_mean": False}, {"with_std": False}])
def test_a_pipeline_with_a_standard_scaler(scaler: dict) -> None:
    raw = raw_rows(60)
    made = make_pipeline(StandardScaler(**scaler), MLPClassifier(max_iter=3, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made.fit(raw, TARGETS["text"])
    assert_same_answers(mlp.from_sklearn(made, device="numpy"), made, raw, BOUND["float64"])


def test_the_copy_is_no_view_of_the_estimator() -> None:
    theirs = estimator("values")
    net = mlp.from_sklearn(theirs, device="numpy")
    before = net.predict(X)
    theirs.coefs_[0][:] = 0
    assert np.array_equal(net.predict(X), before)


def test_what_cannot_be_read() -> None:
    unfitted = make_pipeline(StandardScaler(), MLPClassifier())
    for made, sentence in (
        (MLPClassifier(), "MLPClassifier is not a fitted MLPClassifier"),
        (LinearRegression(), "LinearRegression is not"),
        (42, "int is not a fitted"),
        (unfitted, "MLPClassifier is not a fitted"),
        (make_pipeline(MinMaxScaler(), estimator("values")), "not one of MinMaxScaler, MLPRegr"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            mlp.from_sklearn(made)
    theirs = estimator("values").set_params(activation="swish")
    with pytest.raises(InvalidSetting, match="unknown activation 'swish'"):
        mlp.from_sklearn(theirs)


# --- our own estimators ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
def test_our_estimators(kind: str) -> None:
    """Our estimator's own predictions are the truth, for a network and for scikit-learn's class."""
    counts = {"loss": "poisson"} if kind == "counts" else {}
    classifies = kind not in ("values", "several values", "counts")
    made = mlp.MLPClassifier() if classifies else mlp.MLPRegressor(**counts)
    ours = fitted(made.set_params(device="numpy", activation="tanh"), TARGETS[kind])
    assert_same_answers(mlp.from_sklearn(ours, device="numpy"), ours, X, BOUND["float64"])
    theirs = mlp.to_sklearn(ours)
    assert type(theirs).__module__.startswith("sklearn.")
    assert np.array_equal(theirs.predict(X), ours.predict(X)) or not classifies
    answer = "predict_proba" if classifies else "predict"
    found, expected = getattr(theirs, answer)(X), getattr(ours, answer)(X)
    assert problems.difference(found, expected) < BOUND["float64"]


def test_our_estimators_further_settings() -> None:
    made = mlp.MLPClassifier(device="numpy", activation=["gelu", "logistic"], dropout=[0.1, 0.2])
    ours = fitted(made, TARGETS["text"])
    net = mlp.from_sklearn(ours, device="numpy")
    assert net.spec.layers[:2] == (mlp.Dense(6, "gelu", 0.1), mlp.Dense(5, "sigmoid", 0.2))
    assert_same_answers(net, ours, X, BOUND["float64"])
    with pytest.raises(InvalidSetting, match="gelu and sigmoid"):
        mlp.to_sklearn(ours)


# --- to scikit-learn ------------------------------------------------------------------------------

# What scikit-learn's estimators have, too.
LACKING = {"values of softplus", "values of sigmoids", "classes of fractions"}
SHARED = [kind for kind in OUTPUTS if kind not in LACKING]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("kind", SHARED)
def test_every_kind_of_output(kind: str, standardized: bool, precision: str) -> None:
    net = answering(kind, precision, standardized=standardized)
    rows = (raw_rows(40) if standardized else problems.rows(40, 4)).astype(precision)
    theirs = pickle.loads(pickle.dumps(mlp.to_sklearn(net)))
    assert type(theirs).__module__.startswith("sklearn.")
    assert_same_answers(net, theirs, rows, BOUND[precision])
    if hasattr(theirs, "classes_") and net.classes is not None:
        assert theirs.classes_.tolist() == sorted(net.classes)


@pytest.mark.parametrize("activation", HIDDEN)
def test_activations(activation: str) -> None:
    net = deep(activation, 3)
    if activation not in ("identity", "sigmoid", "tanh", "relu"):
        with pytest.raises(InvalidSetting, match=f"lacks the activation '{activation}'"):
            mlp.to_sklearn(net)
        return
    assert_same_answers(net, mlp.to_sklearn(net), X, BOUND["float64"])


def test_no_hidden_layer() -> None:
    net = network([(3, "softmax")])
    assert_same_answers(net, mlp.to_sklearn(net), X, BOUND["float64"])


@pytest.mark.parametrize("kind", TARGETS)
def test_there_and_back(kind: str) -> None:
    theirs = estimator(kind)
    back = mlp.to_sklearn(mlp.from_sklearn(theirs, device="numpy"))
    assert type(back) is type(theirs)
    for name in ("out_activation_", "n_layers_", "n_outputs_", "n_features_in_"):
        assert getattr(back, name) == getattr(theirs, name)
    assert np.array_equal(back.predict(X), theirs.predict(X))
    if hasattr(theirs, "classes_"):
        assert back.classes_.tolist() == theirs.classes_.tolist()
        assert back._label_binarizer.y_type_ == theirs._label_binarizer.y_type_
        assert np.array_equal(back.predict_proba(X), theirs.predict_proba(X))
        assert back.score(X, TARGETS[kind]) == theirs.score(X, TARGETS[kind])


def test_what_is_returned_can_be_cloned_and_fitted_anew() -> None:
    made = mlp.to_sklearn(answering("named classes", standardized=False))
    assert made.get_params()["hidden_layer_sizes"] == (6,)
    assert fitted(clone(made), TARGETS["text"]).n_iter_ == 4


def test_what_scikit_learn_lacks() -> None:
    tables = network([(3, "softmax")], inputs=1)
    tables.preprocessing = mlp.TablePreprocessor((mlp.data.columns.Column("a", "number"),))
    for net, sentence in (
        (network([(5, "tanh"), (5, "relu"), (1, "identity")]), "one activation for all hidden .*"
         "relu and tanh"),
        (answering("values of sigmoids"), "no output activation, and the network has 'sigmoid'"),
        (answering("values of softplus"), "'softplus'"),
        (answering("classes of fractions"), "no fractions as class labels"),
        (network([(1, "softmax")]), "no classifier of one class"),
        (tables, "takes a table's columns"),
    ):  # fmt: skip
        with pytest.raises(InvalidSetting, match=sentence):
            mlp.to_sklearn(net)
