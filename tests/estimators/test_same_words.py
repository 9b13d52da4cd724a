"""Parameters, messages, warnings and printed lines are scikit-learn's."""

import inspect
import re
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError

import mlp
from tests.estimators.problems import ours, problem, quietly, theirs

CLASSES = ["MLPClassifier", "MLPRegressor"]


def parameters(function):
    return inspect.signature(function).parameters


@pytest.mark.parametrize("cls", CLASSES)
def test_the_constructor_begins_as_theirs(cls):
    expected = parameters(getattr(sklearn.neural_network, cls))
    found = parameters(getattr(mlp, cls))
    for name, theirs_ in expected.items():
        assert (found[name].default, found[name].kind) == (theirs_.default, theirs_.kind)
    assert [*found][: len(expected)] == [*expected]
    beyond = [found[name] for name in [*found][len(expected) :]]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in beyond)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "method",
    ["fit", "partial_fit", "predict", "score", "predict_proba", "predict_log_proba",
     "get_params", "set_params", "get_metadata_routing"],
)  # fmt: skip
def test_methods_take_what_theirs_take(cls, method):
    if not hasattr(getattr(sklearn.neural_network, cls), method):
        assert not hasattr(getattr(mlp, cls), method)
        return
    expected = parameters(getattr(getattr(sklearn.neural_network, cls), method))
    found = parameters(getattr(getattr(mlp, cls), method))
    assert [*found][: len(expected)] == [*expected]
    assert all(found[name].default == expected[name].default for name in expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_same_public_methods(cls):
    def public(owner):
        return {name for name in dir(owner) if not name.startswith("_")}

    # What their metadata routing makes of fit's arguments differs in those that ours has more of.
    assert public(getattr(mlp, cls)) == public(getattr(sklearn.neural_network, cls))


@pytest.mark.parametrize("kind", ["classes", "value"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_same_fitted_attributes(kind, early, solver):
    pandas = pytest.importorskip("pandas")
    cls, X, y = problem(kind)
    X = pandas.DataFrame(X, columns=list("abcdefgh"))
    settings = {"max_iter": 2, "early_stopping": early, "solver": solver, "random_state": 0}
    a, b = theirs(cls, **settings), ours(cls, **settings)
    for model in (a, b):
        quietly(model.fit, X, y)

    def fitted(model):
        return {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}

    beyond = {"validation_loss_curve_"} if solver == "adam" else set()
    assert fitted(b) == fitted(a) | beyond
    for name in fitted(a) - {"coefs_", "intercepts_"}:
        x, y = getattr(a, name), getattr(b, name)
        assert np.shape(x) == np.shape(y), name
        assert (x is None) == (y is None), name
    assert list(b.feature_names_in_) == list("abcdefgh")


WRONG = [
    {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (3, 0)}, {"alpha": -1.0},
    {"batch_size": 0}, {"batch_size": "all"}, {"learning_rate": "fast"}, {"max_iter": 0},
    {"learning_rate_init": 0}, {"power_t": -1.0}, {"shuffle": 2}, {"tol": -1}, {"momentum": 1.5},
    {"nesterovs_momentum": 3}, {"early_stopping": "yes"}, {"validation_fraction": 1},
    {"beta_1": 1.0}, {"beta_2": -0.1}, {"epsilon": 0}, {"n_iter_no_change": 0}, {"max_fun": 0},
    {"verbose": -1}, {"random_state": "x"},
    {"early_stopping": True, "validation_fraction": 0.004},
]  # fmt: skip


def in_order(message):
    """With the words of a set, which has no order of its own, sorted."""
    return re.sub(r"\{(.*?)\}", lambda words: str(sorted(words[1].split(", "))), message)


def error_of(function, *arguments, **named):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*arguments, **named)
    except Exception as error:
        return type(error), in_order(str(error))
    return None


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_parameters(cls, wrong):
    _, X, y = problem("classes")
    expected = error_of(theirs(cls, **wrong).fit, X, y)
    assert expected is not None
    assert error_of(ours(cls, **wrong).fit, X, y) == expected


@pytest.mark.parametrize(
    ("name", "beyond"), [("activation", "gelu"), ("solver", "lion"), ("warm_start", "optimizer")]
)
def test_names_may_be_more_here(name, beyond):
    _, X, y = problem("classes")
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be") as e:
        ours("MLPClassifier", **{name: "x"}).fit(X, y)
    assert beyond in str(e.value)


X8 = np.random.default_rng(0).normal(size=(20, 8))
LABELS = np.arange(20) % 3
DATA = {
    "nan": (np.full((20, 8), np.nan), LABELS),
    "text": (np.full((20, 8), "a"), LABELS),
    "one dimension": (X8[0], LABELS),
    "lengths": (X8[:7], LABELS),
    "no rows": (X8[:0], LABELS[:0]),
    "y with nan": (X8, np.full(20, np.nan)),
    "no y": (X8, None),
    "outputs of labels": (X8, np.stack([LABELS, LABELS], axis=1)),
    "complex": (X8 * 1j, LABELS),
}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", DATA)
def test_wrong_data(cls, name):
    expected = error_of(theirs(cls, max_iter=1).fit, *DATA[name])
    assert error_of(ours(cls, max_iter=1).fit, *DATA[name]) == expected


WEIGHTS = [np.ones(3), np.ones((20, 2)), np.full(20, np.nan), np.zeros(20), "x"]


@pytest.mark.parametrize("weight", WEIGHTS, ids=["length", "shape", "nan", "zeros", "text"])
def test_wrong_weights(weight):
    expected = error_of(theirs("MLPClassifier", max_iter=1).fit, X8, LABELS, weight)
    assert expected is not None
    assert error_of(ours("MLPClassifier", max_iter=1).fit, X8, LABELS, weight) == expected


def test_negative_weights_are_refused():
    with pytest.raises(mlp.InvalidInput, match=r"sample_weight holds -1\.0; weights must be >= 0"):
        ours("MLPClassifier").fit(X8, LABELS, -np.ones(20))


def wrong_calls(model, cls):
    """Errors of a fitted model, of partial_fit and of warm starts."""
    y = LABELS if cls == "MLPClassifier" else X8[:, 0]
    yield error_of(model.predict, X8)
    yield error_of(getattr(model, "predict_proba", model.predict), X8)
    if cls == "MLPClassifier":
        yield error_of(model.partial_fit, X8, y)
        yield error_of(model.partial_fit, X8, y, classes=[0, 1])
        yield error_of(lambda: model.set_params(solver="lbfgs").partial_fit)
    model.set_params(max_iter=1, solver="adam")
    quietly(model.fit, X8, y)
    yield error_of(model.predict, X8[:, :5])
    yield error_of(model.predict, X8[0])
    yield error_of(model.predict, np.full((2, 8), np.inf))
    if cls == "MLPClassifier":
        yield error_of(model.partial_fit, X8, y + 1)
        yield error_of(model.partial_fit, X8, y, classes=[0, 1])
        yield error_of(model.set_params(warm_start=True).fit, X8, LABELS % 2)
        yield error_of(model.partial_fit, X8, LABELS % 2)
    yield error_of(model.set_params(warm_start=True).fit, X8[:, :5], y)
    yield error_of(model.set_params(early_stopping=True).partial_fit, X8, y)


@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_calls(cls):
    expected, found = list(wrong_calls(theirs(cls), cls)), list(wrong_calls(ours(cls), cls))
    # theirs has no word for a warm start whose outputs are the same but whose first call is not
    assert found == expected
    assert expected.count(None) == 0
    assert {kind for kind, _ in found} <= {NotFittedError, ValueError, AttributeError}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("sizes", [(7,), (7, 5), ()])
def test_a_network_of_other_sizes_does_not_go_on(cls, sizes):
    y = LABELS if cls == "MLPClassifier" else X8[:, 0]
    model = quietly(ours(cls, hidden_layer_sizes=(6,), warm_start=True, max_iter=1).fit, X8, y)
    before = model.predict(X8)
    model.set_params(hidden_layer_sizes=sizes)
    message = rf"hidden layers of \[6\] units, but .* asks for {re.escape(str(list(sizes)))};"
    for call in (model.fit, model.partial_fit):
        with pytest.raises(mlp.InvalidSetting, match=message):
            call(X8, y)
    np.testing.assert_array_equal(model.predict(X8), before)
    quietly(model.set_params(warm_start=False).fit, X8, y)
    assert [len(b) for b in model.intercepts_[:-1]] == list(sizes)


def test_a_first_fit_that_fails_leaves_no_half_of_a_network():
    model = ours("MLPClassifier", hidden_layer_sizes=(3.5,), max_iter=1)
    with pytest.raises(TypeError):
        model.fit(X8, LABELS)
    with pytest.raises(NotFittedError):
        model.predict(X8)
    model.set_params(warm_start=True, hidden_layer_sizes=(3,))
    assert quietly(model.fit, X8, LABELS).predict(X8).shape == (20,)


def test_partial_fit_is_not_there_for_lbfgs():
    for cls in CLASSES:
        assert not hasattr(ours(cls, solver="lbfgs"), "partial_fit")
        assert hasattr(ours(cls, solver="adam"), "partial_fit")


@pytest.mark.parametrize(
    ("settings", "category"),
    [
        ({"max_iter": 2}, ConvergenceWarning),
        ({"max_iter": 2, "solver": "lbfgs"}, ConvergenceWarning),
        ({"max_iter": 300, "batch_size": 500, "tol": 1.0}, UserWarning),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["classes", "value"])
def test_warnings(kind, settings, category):
    cls, X, y = problem(kind)
    with pytest.warns(category) as expected:
        theirs(cls, random_state=0, **settings).fit(X, y)
    with pytest.warns(category) as found:
        ours(cls, random_state=0, **settings).fit(X, y)
    assert [str(w.message) for w in found] == [str(w.message) for w in expected]


@pytest.mark.parametrize("kind", ["classes", "value"])
def test_a_column_for_y(kind):
    cls, X, y = problem(kind)
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        model = quietly(ours(cls, max_iter=1).fit, X, y[:, None])
    assert model.predict(X).ndim == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 3},
        {"tol": 1.0, "n_iter_no_change": 2},
        {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.1},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    ],
    ids=str,
)
def test_what_is_printed(settings, capsys):
    cls, X, y = problem("classes")
    quietly(theirs(cls, verbose=True, random_state=0, **settings).fit, X, y)
    expected = capsys.readouterr().out
    quietly(ours(cls, verbose=True, random_state=0, **settings).fit, X, y)
    assert capsys.readouterr().out == expected
    assert "Iteration 1, loss = " in expected


@pytest.mark.parametrize("early", [False, True])
def test_an_interrupt_ends_training_with_a_warning(early):
    cls, X, y = problem("classes")

    def interrupt(trainer):
        if trainer.epoch == 3:
            raise KeyboardInterrupt

    model = ours(cls, callbacks=[interrupt], random_state=0, early_stopping=early)
    with pytest.warns(UserWarning, match=re.escape("Training interrupted by user.")):
        model.fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.predict(X).shape == (len(X),)
    if early:
        assert model.best_validation_score_ == max(model.validation_scores_)
