"""What the estimators do beyond scikit-learn's."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight

import mlp
from mlp.errors import InvalidInput, InvalidSetting
from tests.estimators.problems import (
    KINDS,
    WEIGHT,
    both,
    largest_difference,
    ours,
    problem,
    quietly,
    theirs,
)

BASE = {"hidden_layer_sizes": (7,), "random_state": 3, "max_iter": 5, "batch_size": 64}


def fitted(kind, *, fit=None, weight=None, **settings):
    cls, X, y = problem(kind)
    return quietly(ours(cls, **{**BASE, **settings}).fit, X, y, weight, **(fit or {}))


# --- class_weight ---------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5, 2: 1.0}], ids=str)
def test_class_weight_is_a_sample_weight(class_weight):
    cls, X, y = problem("classes")
    weights = compute_sample_weight(class_weight, y)
    a = quietly(theirs(cls, **BASE).fit, X, y, sample_weight=weights * WEIGHT)
    b = fitted("classes", weight=WEIGHT, class_weight=class_weight)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, atol=1e-12)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_class_weights_that_are_none(weight):
    cls, X, y = problem("classes")
    with pytest.raises(InvalidSetting, match="class_weight must hold finite numbers >= 0"):
        ours(cls, class_weight={0: weight, 1: 1.0, 2: 1.0}).fit(X, y)


@pytest.mark.parametrize("kind", ["classes", "binary", "labels"])
def test_scores_of_an_own_validation_set_are_accuracies(kind):
    cls, X, y, val = own_split(kind)
    weight = WEIGHT[150:]
    model = ours(cls, **{**BASE, "max_iter": 1})
    quietly(model.fit, X, y, **val, sample_weight_val=weight)
    expected = accuracy_score(val["y_val"], model.predict(val["X_val"]), sample_weight=weight)
    assert model.validation_scores_ == [expected]
    assert 0 < expected < 1


def test_class_weight_of_several_labels():
    cls, X, y = problem("labels")
    each = [{0: 1, 1: 2}] * 4
    a = quietly(theirs(cls, **BASE).fit, X, y, sample_weight=compute_sample_weight(each, y))
    b = fitted("labels", class_weight=each)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, atol=1e-12)


def test_class_weight_in_parts():
    cls, X, y = problem("classes")
    with pytest.raises(InvalidSetting, match="'balanced' needs all rows at once"):
        ours(cls, class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    by_label = {0: 2.0, 1: 1.0, 2: 1.0}
    model = ours(cls, class_weight=by_label, **BASE).partial_fit(X, y, classes=[0, 1, 2])
    whole = quietly(ours(cls, class_weight=by_label, **{**BASE, "max_iter": 1}).fit, X, y)
    assert model.loss_curve_ == whole.loss_curve_


# --- a validation set of one's own ----------------------------------------------------------------


def own_split(kind):
    cls, X, y = problem(kind)
    return cls, X[:150], y[:150], {"X_val": X[150:], "y_val": y[150:]}


@pytest.mark.parametrize("kind", KINDS)
def test_an_own_validation_set(kind):
    cls, X, y, val = own_split(kind)
    more = {"loss": "poisson", "learning_rate_init": 0.02} if kind == "counts" else {}
    model = ours(cls, **{**BASE, "max_iter": 25, **more})
    quietly(model.fit, X, y, **val, sample_weight_val=WEIGHT[150:])
    plain = quietly(ours(cls, **{**BASE, "max_iter": 25, **more}).fit, X, y)
    assert model.loss_curve_ == plain.loss_curve_  # the set has no say in training
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == 25
    # The best weights are there, not the last.
    score = model.score(val["X_val"], val["y_val"], WEIGHT[150:])
    assert score == max(model.validation_scores_) == model.best_validation_score_
    assert plain.validation_scores_ is plain.validation_loss_curve_ is None


def test_its_loss_is_the_loss():
    cls, X, y, val = own_split("binary")
    model = quietly(ours(cls, **{**BASE, "max_iter": 1}).fit, X, y, **val)
    expected = log_loss(val["y_val"], model.predict_proba(val["X_val"]))
    assert model.validation_loss_curve_ == pytest.approx([expected])
    far = {"X_val": 1000 * val["X_val"], "y_val": val["y_val"]}  # clipped as the training loss is
    for kind in ("binary", "classes"):
        y = problem(kind)[2][:150]
        far["y_val"] = problem(kind)[2][150:]
        model = quietly(ours(cls, **{**BASE, "max_iter": 1}).fit, X, y, **far)
        expected = log_loss(far["y_val"], model.predict_proba(far["X_val"]))
        assert model.validation_loss_curve_ == pytest.approx([expected])
    cls, X, y, val = own_split("values")
    model = quietly(ours(cls, **{**BASE, "max_iter": 1}).fit, X, y, **val)
    expected = 0.5 * np.square(model.predict(val["X_val"]) - val["y_val"]).mean()
    assert model.validation_loss_curve_ == pytest.approx([expected])


def test_a_sparse_validation_set():
    cls, X, y, val = own_split("classes")
    model = quietly(ours(cls, **BASE).fit, X, y, **val)
    val["X_val"] = sparse.csr_array(val["X_val"])
    again = quietly(ours(cls, **BASE).fit, X, y, **val)
    assert again.validation_loss_curve_ == model.validation_loss_curve_


def test_early_stopping_on_an_own_validation_set():
    cls, X, y, val = own_split("classes")
    settings = {**BASE, "max_iter": 200, "early_stopping": True, "n_iter_no_change": 3}
    model = ours(cls, **settings).fit(X, y, **val)
    assert model.n_iter_ < 200
    assert model.t_ == 150 * model.n_iter_  # no rows were split off
    last = model.validation_scores_[-4:]
    best = max(model.validation_scores_[:-4])
    assert all(score < best + model.tol for score in last)


def test_a_validation_set_that_cannot_be_used():
    cls, X, y, val = own_split("classes")
    with pytest.raises(InvalidSetting, match="needs both X_val and y_val"):
        ours(cls).fit(X, y, X_val=X)
    with pytest.raises(InvalidSetting, match="sample_weight_val needs X_val"):
        ours(cls).fit(X, y, sample_weight_val=WEIGHT)
    with pytest.raises(ValueError, match=r"`y_val` has classes not in `self.classes_`"):
        ours(cls).fit(X, y, X_val=val["X_val"], y_val=val["y_val"] + 1)
    with pytest.raises(ValueError, match="X has 7 features, but MLPClassifier is expecting 8"):
        ours(cls).fit(X, y, X_val=val["X_val"][:, 1:], y_val=val["y_val"])
    with pytest.raises(InvalidSetting, match="solver 'lbfgs' has no epochs for X_val"):
        ours(cls, solver="lbfgs").fit(X, y, **val)
    cls, X, y, val = own_split("values")
    with pytest.raises(InvalidInput, match="y_val has 2 outputs, but y has 3"):
        ours(cls).fit(X, y, X_val=val["X_val"], y_val=val["y_val"][:, :2])


def test_early_stopping_ends_a_run_that_diverges():
    cls, X, y, val = own_split("value")
    settings = {**BASE, "max_iter": 50, "solver": "sgd", "learning_rate_init": 2.0}
    settings |= {"activation": "identity", "momentum": 0.0, "n_iter_no_change": 50}
    settings |= {"device": "cpu"}  # the reference's operations warn of overflows
    stopped = ours(cls, early_stopping=True, **settings)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*best weights before that are kept"):
        stopped.fit(X, y, **val)
    assert 0 < stopped.n_iter_ < 50
    assert np.isfinite(stopped.predict(X)).all()
    assert stopped.score(val["X_val"], val["y_val"]) == stopped.best_validation_score_
    # From the first epoch on, these are the initial weights, as with scikit-learn.
    at_once = {**settings, "device": "numpy", "learning_rate_init": 1e200, "early_stopping": True}
    with np.errstate(all="ignore"), pytest.warns(ConvergenceWarning, match="diverged in epoch 1"):
        model = ours(cls, **at_once).fit(X, y)
    with np.errstate(all="ignore"):
        del at_once["device"]
        start = quietly(theirs(cls, **at_once).fit, X, y)
    assert largest_difference(start, model) == 0
    assert np.isnan(model.loss_)
    assert stopped._optimizer is None  # what it was left with is not gone on with
    with pytest.raises(ValueError, match=r"^Solver produced non-finite parameter weights"):
        quietly(ours(cls, **settings).fit, X, y)


# --- layers ---------------------------------------------------------------------------------------


def test_one_activation_for_each_layer():
    two = {"hidden_layer_sizes": (6, 5), "max_iter": 8}
    cls, X, y = problem("classes")
    a, b = both(cls, {**BASE, **two, "activation": "tanh"}, X, y)
    same = fitted("classes", **two, activation=["tanh", "tanh"])
    assert same.loss_curve_ == b.loss_curve_
    mixed = fitted("classes", **two, activation=["tanh", "identity"])
    hidden = np.tanh(X @ mixed.coefs_[0] + mixed.intercepts_[0])
    z = (hidden @ mixed.coefs_[1] + mixed.intercepts_[1]) @ mixed.coefs_[2] + mixed.intercepts_[2]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(mixed.predict_proba(X), e / e.sum(axis=1, keepdims=True), rtol=1e-9)
    assert largest_difference(a, b) < 1e-9
    with pytest.raises(InvalidSetting, match="activation has 3 entries for 2 hidden layers"):
        fitted("classes", **two, activation=["tanh"] * 3)
    with pytest.raises(InvalidSetting, match="unknown activation 'tnah'; did you mean 'tanh'"):
        fitted("classes", **two, activation=["tanh", "tnah"])


@pytest.mark.parametrize("name", sorted({*mlp.ACTIVATIONS} - {"softmax"}))
def test_every_activation(name):
    model = fitted("value", activation=name, solver="lbfgs", max_iter=30)
    _, X, y = problem("value")
    hidden = mlp.ACTIVATIONS[name].forward(X @ model.coefs_[0] + model.intercepts_[0])
    expected = (hidden @ model.coefs_[1] + model.intercepts_[1])[:, 0]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)
    assert model.score(X, y) > 0.9


def test_dropout():
    plain, none = fitted("classes"), fitted("classes", dropout=0.0)
    some = fitted("classes", dropout=0.5)
    assert none.loss_curve_ == plain.loss_curve_
    assert some.loss_curve_ != plain.loss_curve_
    assert fitted("classes", dropout=[0.5]).loss_curve_ == some.loss_curve_  # of the same seed
    assert fitted("classes", dropout=0.5, random_state=4).loss_curve_ != some.loss_curve_
    # In prediction nothing is dropped.
    X = problem("classes")[1]
    np.testing.assert_array_equal(some.predict_proba(X), some.predict_proba(X))
    with pytest.raises(InvalidSetting, match="dropout has 2 entries for 1 hidden layers"):
        fitted("classes", dropout=[0.1, 0.2])


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["value", "values"])
@pytest.mark.parametrize(
    ("loss", "row"),
    [
        ("mse", lambda e: e**2),
        ("mae", np.abs),
        ("huber", lambda e: np.where(abs(e) <= 1, e**2 / 2, abs(e) - 0.5)),
        (mlp.Huber(0.1), lambda e: np.where(abs(e) <= 0.1, e**2 / 2, 0.1 * (abs(e) - 0.05))),
        ("half_squared_error", lambda e: e**2 / 2),
    ],
    ids=["mse", "mae", "huber", "narrow huber", "half squared error"],
)
def test_losses_of_values(kind, loss, row):
    _, X, y = problem(kind)
    # With a rate of almost nothing the reported loss is that of the weights that are there.
    model = fitted(kind, loss=loss, learning_rate_init=1e-12, max_iter=1, alpha=0.0)
    assert model.loss_ == pytest.approx(row(model.predict(X) - y).mean(), rel=1e-6)
    long = fitted(kind, loss=loss, max_iter=300, learning_rate_init=0.01, tol=0.0)
    assert long.loss_ < 0.2 * model.loss_


def test_mse_is_twice_the_squared_error():
    """And so is its gradient, summed over the outputs as scikit-learn's is."""
    half = fitted("values", solver="sgd", learning_rate_init=0.02)
    double = fitted("values", loss="mse", solver="sgd", learning_rate_init=0.01, alpha=2e-4)
    np.testing.assert_allclose(double.loss_curve_, 2 * np.array(half.loss_curve_), rtol=1e-9)


@pytest.mark.parametrize("kind", ["classes", "binary", "labels"])
def test_label_smoothing(kind):
    _, X, y = problem(kind)
    s = 0.2
    model = fitted(kind, loss=mlp.CrossEntropy(s), learning_rate_init=1e-12, max_iter=1, alpha=0.0)
    p = model.predict_proba(X)
    rows = y if kind == "labels" else np.eye(p.shape[1])[y]
    if kind == "labels":
        t = rows * (1 - s) + s / 2
        expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum(axis=1).mean()
    else:
        t = rows * (1 - s) + s / p.shape[1]
        expected = -(t * np.log(p)).sum(axis=1).mean()
    assert model.loss_ == pytest.approx(expected, rel=1e-6)


def test_losses_that_do_not_fit():
    with pytest.raises(InvalidSetting, match="'binary_cross_entropy' does not fit 3 classes"):
        fitted("classes", loss=mlp.BinaryCrossEntropy())
    with pytest.raises(InvalidSetting, match="'cross_entropy' is none of a regressor's"):
        fitted("value", loss=mlp.CrossEntropy())
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPClassifier must be"):
        fitted("classes", loss="mse")
    with pytest.raises(InvalidInput, match="numbers >= 0"):
        fitted("value", loss="poisson")


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["values", "labels"])
@pytest.mark.parametrize(
    "optimizer",
    [
        mlp.SGD(0.01, momentum=0.9, weight_decay=0.1),
        mlp.RMSprop(0.01, eps=1e-2, weight_decay=0.1),
        mlp.RMSprop(0.01, momentum=0.5, centered=True),
        mlp.Adagrad(0.05, initial_accumulator_value=0.01, eps=1e-3, weight_decay=0.1),
        mlp.Adam(0.01, eps=1e-2, weight_decay=0.1, amsgrad=True),
        mlp.AdamW(0.01, eps=1e-2, weight_decay=0.5),
        mlp.Lion(0.001, weight_decay=0.5),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_optimizers_see_the_gradient_of_the_sum_over_outputs(kind, optimizer):
    """One output alone, trained with its own copy of the optimizer, is what it is among several.

    Without hidden layers, outputs share nothing. If gradients were means over outputs, the rates
    and the bounds that go with a gradient's size would not be those of one output.
    """
    cls, X, y = problem(kind)
    settings = {
        "hidden_layer_sizes": (), "solver": optimizer, "shuffle": False, "max_iter": 6,
        "alpha": 0.5, "l1": 0.1, "batch_size": 64, "weight_decay": 0.3,
    }  # fmt: skip
    whole = quietly(ours(cls, random_state=0, **settings).fit, X, y)
    column = y.shape[1] - 1
    alone = ours(cls, random_state=0, **settings)
    start = ours(cls, random_state=0, **{**settings, "max_iter": 1, "solver": mlp.SGD(0.0)})
    quietly(start.fit, X, y)
    alone.set_params(warm_start=True)
    quietly(alone.set_params(max_iter=1).fit, X, y[:, column])
    alone.coefs_ = [start.coefs_[0][:, [column]].copy()]
    alone.intercepts_ = [start.intercepts_[0][[column]].copy()]
    quietly(alone.set_params(max_iter=6).fit, X, y[:, column])
    np.testing.assert_allclose(alone.coefs_[0][:, 0], whole.coefs_[0][:, column], rtol=1e-9)


def test_weight_decay_and_l1_by_hand():
    cls, X, y = problem("value")
    settings = {"hidden_layer_sizes": (), "solver": "sgd", "momentum": 0.0, "max_iter": 1}
    settings |= {"learning_rate_init": 0.1, "alpha": 0.0, "random_state": 0, "batch_size": 203}
    before = quietly(ours(cls, **{**settings, "learning_rate_init": 1e-300}).fit, X, y)
    plain = quietly(ours(cls, **settings).fit, X, y)
    W = before.coefs_[0]
    decayed = quietly(ours(cls, weight_decay=0.2, **settings).fit, X, y)
    np.testing.assert_allclose(decayed.coefs_[0], plain.coefs_[0] - 0.1 * 0.2 * W, rtol=1e-12)
    sparse = quietly(ours(cls, l1=3.0, **settings).fit, X, y)
    expected = plain.coefs_[0] - 0.1 * 3.0 / 203 * np.sign(W)
    np.testing.assert_allclose(sparse.coefs_[0], expected, rtol=1e-12)
    assert sparse.loss_ - plain.loss_ == pytest.approx(3.0 * abs(W).sum() / 203)


@pytest.mark.parametrize("kind", ["value", "values"])
def test_clip_norm_by_hand(kind):
    cls, X, y = problem(kind)
    settings = {"hidden_layer_sizes": (), "solver": "sgd", "momentum": 0.0, "max_iter": 1}
    settings |= {"learning_rate_init": 0.1, "random_state": 0, "batch_size": 203}
    before = quietly(ours(cls, **{**settings, "learning_rate_init": 1e-300}).fit, X, y)
    clipped = quietly(ours(cls, clip_norm=0.01, **settings).fit, X, y)
    moved = [a - b for a, b in zip(clipped.coefs_ + clipped.intercepts_,
                                   before.coefs_ + before.intercepts_, strict=True)]  # fmt: skip
    norm = np.sqrt(sum(np.square(m).sum() for m in moved))
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-5)  # 1e-6 is added to the norm, as in PyTorch


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_schedule_in_place_of_learning_rate(solver):
    seen = []
    schedule = mlp.Exponential(gamma=0.5)
    model = fitted(
        "values", solver=solver, schedule=schedule,
        callbacks=[lambda trainer: seen.append(trainer.history["learning_rate"][-1])],
    )  # fmt: skip
    np.testing.assert_allclose(seen, 1e-3 * 0.5 ** np.arange(5))
    assert model.loss_curve_ != fitted("values", solver=solver).loss_curve_
    by_name = fitted("values", solver=solver, schedule="constant")
    assert by_name.loss_curve_ == fitted("values", solver=solver).loss_curve_
    with pytest.raises(
        InvalidSetting, match="schedule takes the place of learning_rate='adaptive'"
    ):
        fitted("values", solver="sgd", schedule=schedule, learning_rate="adaptive")


def test_a_schedule_counts_calls_of_partial_fit():
    cls, X, y = problem("value")
    seen = []
    note = [lambda trainer: seen.append(trainer.history["learning_rate"][-1])]
    model = ours(cls, schedule="cosine", callbacks=note, **{**BASE, "max_iter": 4})
    for _ in range(4):
        model.partial_fit(X[:64], y[:64])
    np.testing.assert_allclose(seen, 5e-4 * (1 + np.cos(np.pi * np.arange(4) / 4)))


def test_a_plateau_watches_the_validation_loss():
    cls, X, y, val = own_split("value")
    seen = []
    model = ours(
        cls, schedule=mlp.ReduceOnPlateau(patience=0, threshold=0.9), **BASE,
        callbacks=[lambda trainer: seen.append(trainer.history["learning_rate"][-1])],
    )  # fmt: skip
    quietly(model.fit, X, y, **val)
    np.testing.assert_allclose(seen, [1e-3, 1e-3, 1e-4, 1e-5, 1e-6])


def test_callbacks_see_what_is_reported_and_can_stop():
    seen = {}

    def look(trainer):
        seen.update({key: list(values) for key, values in trainer.history.items()})
        if len(trainer.history["loss"]) == 3:
            trainer.stop("enough")

    cls, X, y, val = own_split("labels")
    model = ours(cls, alpha=1.0, callbacks=[look], **BASE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, **val)
    assert model.n_iter_ == 3
    assert seen["loss"] == model.loss_curve_
    assert seen["validation_loss"] == model.validation_loss_curve_
    assert seen["validation_score"] == model.validation_scores_
    early = ours(cls, callbacks=[mlp.EarlyStopping(patience=1, monitor="validation_loss")])
    early.set_params(**{**BASE, "max_iter": 500, "learning_rate_init": 0.1})
    early.fit(X, y, **val)
    assert early.n_iter_ < 500


def test_lbfgs_refuses_what_it_has_not():
    for name, value in {
        "dropout": 0.1, "schedule": "cosine", "clip_norm": 1.0, "weight_decay": 0.1,
    }.items():  # fmt: skip
        with pytest.raises(InvalidSetting, match=f"solver 'lbfgs' has no {name}"):
            fitted("value", solver="lbfgs", **{name: value})
    with pytest.raises(InvalidSetting, match="no epochs for callbacks"):
        fitted("value", solver="lbfgs", callbacks=[print])


def test_l1_with_lbfgs():
    _, X, y = problem("binary")
    model = fitted("binary", solver="lbfgs", hidden_layer_sizes=(), l1=5.0, max_iter=200)
    (W,), (b,) = model.coefs_, model.intercepts_
    p = expit(X @ W + b)[:, 0]
    penalty = (5.0 * abs(W).sum() + 0.5e-4 * np.square(W).sum()) / len(X)
    assert model.loss_ == pytest.approx(log_loss(y, p) + penalty)


# --- precision and threads ------------------------------------------------------------------------


def test_precision_and_threads():
    cls, X, y = problem("classes")
    single = quietly(ours(cls, precision="float32", **BASE).fit, X, y)
    assert single.coefs_[0].dtype == single.predict_proba(X).dtype == np.float32
    np.testing.assert_allclose(single.loss_curve_, fitted("classes").loss_curve_, rtol=1e-5)
    double = quietly(ours(cls, precision="float64", **BASE).fit, X.astype(np.float32), y)
    assert double.coefs_[0].dtype == np.float64
    one = quietly(ours(cls, device="cpu", threads=1, **BASE).fit, X, y)
    two = quietly(ours(cls, device="cpu", threads=2, **BASE).fit, X, y)
    assert one.loss_curve_ == two.loss_curve_
    with pytest.raises(InvalidSetting, match="threads can be set for device 'cpu' alone"):
        ours(cls, device="numpy", threads=1).fit(X, y)
    with pytest.raises(InvalidSetting, match="unknown device 'gpu'"):
        ours(cls, device="gpu").fit(X, y)
