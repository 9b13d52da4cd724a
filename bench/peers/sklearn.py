"""scikit-learn's MLPClassifier: its own `fit`, without early stopping, and `predict_proba`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.cases import Case
from bench.data import Array, Problem


def build(case: Case, problem: Problem) -> MLPClassifier:
    """A classifier that continues from the initial weights, in float32.

    It takes no weights to start from: a step on one row makes its arrays, which are then replaced.
    """
    model = MLPClassifier(
        case.widths[1:-1], activation="relu", solver="adam", alpha=0.0, batch_size=case.batch,
        learning_rate_init=case.learning_rate, shuffle=True, random_state=0, tol=0.0,
        n_iter_no_change=np.inf, early_stopping=False,
    )  # fmt: skip
    classes = np.arange(max(2, case.widths[-1]))
    model.set_params(batch_size=1).partial_fit(problem.X[:1], problem.y[:1], classes=classes)
    set_parameters(model, problem)
    return model.set_params(batch_size=case.batch, warm_start=True)


def set_parameters(model: MLPClassifier, problem: Problem) -> None:
    model.coefs_ = [W.copy() for W in problem.weights]
    model.intercepts_ = [b.copy() for b in problem.biases]


class Training:
    """`fit` with `warm_start`: from the present weights, with a new Adam."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.problem = problem
        self.model = build(case, problem)

    def reset(self) -> None:
        set_parameters(self.model, self.problem)

    def run(self, epochs: int) -> float:
        with warnings.catch_warnings():
            # It says that it stopped after max_iter epochs, which is what it was asked to do.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.set_params(max_iter=epochs).fit(self.problem.X, self.problem.y)
        return float(self.model.loss_)

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return self.model.coefs_, self.model.intercepts_


class Prediction:
    """`predict_proba`, NumPy rows in and NumPy probabilities out."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.model = build(case, problem)
        self.calls = [problem.X[i : i + case.batch] for i in range(0, len(problem.X), case.batch)]

    def run(self) -> None:
        for rows in self.calls:
            self.answer: Array = self.model.predict_proba(rows)

    def probabilities(self) -> Array:
        return self.answer
