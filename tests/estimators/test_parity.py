"""For the same settings and seed, scikit-learn's numbers: losses, scores, weights, predictions."""

import numpy as np
import pytest

import mlp
from tests.estimators.problems import (
    BUNDLED,
    KINDS,
    ROWS,
    WEIGHT,
    both,
    bundled,
    largest_difference,
    ours,
    problem,
    quietly,
)

# Both compute in float64, in another order; 20 epochs multiply the differences of single steps.
LOSS, WEIGHTS = 1e-11, 1e-9

SETTINGS = {
    "adam": {},
    "adam_betas": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "alpha": 1.0},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.02},
    "no_nesterov": {"solver": "sgd", "nesterovs_momentum": False, "alpha": 0.3},
    "no_momentum": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1},
    "all_momentum": {"solver": "sgd", "momentum": 1.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.05},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.02, "tol": 0.05,
        "n_iter_no_change": 1,
    },
    "in_order": {"shuffle": False, "activation": "tanh", "batch_size": 64},
    "early": {"early_stopping": True, "n_iter_no_change": 3, "batch_size": 32},
    "deep": {"activation": "logistic", "hidden_layer_sizes": (7, 5), "batch_size": 64},
    "linear": {"hidden_layer_sizes": (), "batch_size": 100},
    "one_batch": {"batch_size": ROWS, "activation": "identity"},
    "stops": {"tol": 0.5, "n_iter_no_change": 2},
}  # fmt: skip


def settings(name, kind):
    chosen = {"hidden_layer_sizes": (9,), "max_iter": 20, "random_state": 3, **SETTINGS[name]}
    if kind == "counts":
        chosen |= {"loss": "poisson"}
        if chosen.get("solver") == "sgd":  # a sum over outputs of exponentials
            chosen |= {"learning_rate_init": 0.002}
    return chosen


def assert_alike(a, b):
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=0, atol=LOSS)
    assert (a.n_iter_, a.t_, a.n_layers_, a.n_outputs_, a.out_activation_) == (
        b.n_iter_, b.t_, b.n_layers_, b.n_outputs_, b.out_activation_,
    )  # fmt: skip
    for name in ("loss_", "best_loss_", "best_validation_score_"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        assert x is None or abs(x - y) <= LOSS
    assert (a.validation_scores_ is None) == (b.validation_scores_ is None)
    if a.validation_scores_ is not None:
        np.testing.assert_allclose(b.validation_scores_, a.validation_scores_, rtol=0, atol=LOSS)
    assert largest_difference(a, b) <= WEIGHTS


def in_turn(*names):
    """A weight or None for a combination, so that every two of all values come together once."""
    return WEIGHT if sum(all_of.index(name) for name, all_of in names) % 2 else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_epochs(name, kind):
    cls, X, y = problem(kind)
    weight = in_turn((name, list(SETTINGS)), (kind, KINDS))
    a, b = both(cls, settings(name, kind), X, y, weight)
    assert_alike(a, b)
    np.testing.assert_allclose(b.predict(X[:9]), a.predict(X[:9]), rtol=0, atol=WEIGHTS)
    if cls == "MLPClassifier":
        for method in ("predict_proba", "predict_log_proba"):
            expected, found = getattr(a, method)(X[:9]), getattr(b, method)(X[:9])
            np.testing.assert_allclose(found, expected, rtol=0, atol=WEIGHTS)
    assert abs(a.score(X, y, weight) - b.score(X, y, weight)) <= WEIGHTS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adam", "adaptive", "early"])
def test_compiled_steps_too(name, kind):
    cls, X, y = problem(kind)
    assert_alike(*both(cls, settings(name, kind), X, y, WEIGHT, device="cpu"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_lbfgs(device, kind):
    cls, X, y = problem(kind)
    weight = in_turn((device, ["numpy", "cpu"]), (kind, KINDS))
    chosen = {"solver": "lbfgs", "activation": "tanh", "alpha": 0.1, "max_iter": 12}
    chosen |= {"hidden_layer_sizes": (5,), "random_state": 3}
    if kind == "counts":
        chosen["loss"] = "poisson"
    a, b = both(cls, chosen, X, y, weight, device)
    assert a.n_iter_ == b.n_iter_
    assert abs(a.loss_ - b.loss_) <= 1e-9
    # A line search repeats what rounding says: the weights drift apart faster.
    assert largest_difference(a, b) <= 1e-6
    assert not hasattr(b, "loss_curve_")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["classes", "binary", "values"])
def test_float32_is_kept_as_there(kind, solver):
    cls, X, y = problem(kind, np.float32)
    chosen = {"hidden_layer_sizes": (9,), "max_iter": 10, "random_state": 3, "solver": solver}
    a, b = both(cls, chosen, X, y)
    assert [W.dtype for W in b.coefs_] == [W.dtype for W in a.coefs_]
    # With lbfgs theirs rounds the parameters to float32 before each call, and ours does not.
    np.testing.assert_allclose(b.loss_, a.loss_, rtol=1e-3 if solver == "lbfgs" else 2e-6)


@pytest.mark.parametrize("raw", [False, True], ids=["", "raw"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data(name, solver, raw):
    cls, X, y = bundled(name, 400, raw=raw)
    chosen = {"random_state": 0, "max_iter": 20, "solver": solver, "hidden_layer_sizes": (30,)}
    if raw and cls == "MLPRegressor" and solver == "sgd":
        chosen["learning_rate_init"] = 1e-5  # else both diverge
    a, b = both(cls, chosen, X, y, device="cpu")
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("kind", ["classes", "binary", "labels"])
def test_log_losses_are_clipped_as_theirs(kind, device):
    """Probabilities at eps, so that a label's loss ends at 36, and 1 - p with the digits it has."""
    cls, X, y = problem(kind)
    chosen = {"max_iter": 5, "random_state": 0, "hidden_layer_sizes": (9,), "batch_size": 64}
    a, b = both(cls, chosen, 100 * X, y, device=device)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=1e-11)
    exact = ours(cls, loss=mlp.CrossEntropy(), device=device, **chosen)
    quietly(exact.fit, 100 * X, y)
    assert exact.loss_curve_[0] > 1.05 * a.loss_curve_[0]
    # What is trained is the same.
    assert largest_difference(exact, b) == 0


def test_batches_of_no_weight():
    """There scikit-learn's loss is not defined; here they train nothing and count for nothing."""
    cls, X, y = problem("value")
    weight = np.ones(ROWS)
    weight[64:128] = 0
    chosen = {"shuffle": False, "batch_size": 64, "max_iter": 3, "random_state": 0}
    chosen |= {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "hidden_layer_sizes": (4,)}
    with pytest.raises(ZeroDivisionError):
        both(cls, chosen, X, y, weight)
    kept = weight > 0
    a, _ = both(cls, chosen, X[kept], y[kept])
    b = quietly(ours(cls, **chosen).fit, X, y, weight)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=1e-12)
    assert largest_difference(a, b) < 1e-12
