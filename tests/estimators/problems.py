"""Small sets of rows for every kind of target, and the pair of classes that are compared."""

import warnings

import numpy as np
import sklearn.neural_network
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import mlp

ROWS = 203  # so that the last batch of 200, or of 64, is smaller
WEIGHT = np.random.RandomState(1).rand(ROWS)

CLASSIFICATION = {
    "classes": make_classification(ROWS, 8, n_informative=6, n_classes=3, random_state=0),
    "binary": make_classification(ROWS, 8, random_state=0),
    "labels": make_multilabel_classification(ROWS, 8, n_classes=4, random_state=0),
}
REGRESSION = {
    "value": make_regression(ROWS, 8, random_state=0),
    "values": make_regression(ROWS, 8, n_targets=3, random_state=0),
    "counts": (
        make_regression(ROWS, 8, random_state=0)[0],
        np.random.RandomState(0).poisson(3, (ROWS, 2)).astype(float),
    ),
}
BUNDLED = {
    "digits": load_digits, "iris": load_iris, "wine": load_wine,
    "breast_cancer": load_breast_cancer, "diabetes": load_diabetes,
}  # fmt: skip
KINDS = [*CLASSIFICATION, *REGRESSION]


def problem(kind, dtype=np.float64):
    """(name of the class, X, y) for one of KINDS; X and values are of the size of 1."""
    if kind in CLASSIFICATION:
        X, y = CLASSIFICATION[kind]
        return "MLPClassifier", scale(X).astype(dtype), y
    X, y = REGRESSION[kind]
    return "MLPRegressor", scale(X).astype(dtype), y if kind == "counts" else y / y.std()


def bundled(name, rows=None, *, raw=False):
    """(name of the class, X, y) of a data set of scikit-learn, as it is or standardised."""
    X, y = BUNDLED[name](return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))[:rows]
    X = X if raw else scale(X)
    if name == "diabetes":
        return "MLPRegressor", X[order], (y if raw else scale(y))[order]
    return "MLPClassifier", X[order], y[order]


def theirs(cls, **settings):
    return getattr(sklearn.neural_network, cls)(**settings)


def ours(cls, **settings):
    return getattr(mlp, cls)(**{"device": "numpy", **settings})


def quietly(function, *arguments, **named):
    """Calls a function without warnings that training has not converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*arguments, **named)


def both(cls, settings, X, y, sample_weight=None, device="numpy"):
    """scikit-learn's estimator and ours, fitted alike."""
    with np.errstate(all="ignore"):
        return (
            quietly(theirs(cls, **settings).fit, X, y, sample_weight=sample_weight),
            quietly(ours(cls, device=device, **settings).fit, X, y, sample_weight=sample_weight),
        )


def largest_difference(a, b):
    """Of all parameters of two estimators."""
    return max(
        np.abs(p - q).max()
        for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True)
    )
