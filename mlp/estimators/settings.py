"""What the constructors take: constraints as scikit-learn states them, and the engine's terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from mlp.activations import ACTIVATIONS
from mlp.errors import InvalidSetting, lookup, require_in
from mlp.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, get_optimizer
from mlp.schedules import SCHEDULES, Schedule
from mlp.spec import Dense

# scikit-learn's names of activations that have another one here.
ENGINE_NAMES = {"logistic": "sigmoid"}
HIDDEN_ACTIVATIONS = {*ACTIVATIONS, *ENGINE_NAMES} - {"softmax"}
# A warm start that goes on with the optimizer's state, too.
KEEP_OPTIMIZER = "optimizer"

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(HIDDEN_ACTIVATIONS), "array-like"],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean", StrOptions({KEEP_OPTIMIZER})],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "schedule": [None, StrOptions(set(SCHEDULES)), Schedule],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "l1": [Interval(Real, 0, None, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "callbacks": ["array-like"],
    "device": [str],
    "precision": [None, str],
    "threads": [None, Interval(Integral, 1, None, closed="left")],
}


def hidden_sizes(given: Any) -> list[int]:
    """`hidden_layer_sizes` as a list; raises ValueError for a size that is not positive."""
    sizes = list(given) if hasattr(given, "__iter__") else [given]
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def per_layer(name: str, given: Any, depth: int) -> list[Any]:
    """One value for each of `depth` hidden layers, from one for all or from a list."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given] * depth
    values = list(given)
    if len(values) != depth:
        raise InvalidSetting(f"{name} has {len(values)} entries for {depth} hidden layers")
    return values


def hidden_layers(estimator: Any, sizes: list[int]) -> list[Dense]:
    """The hidden layers of an estimator's network."""
    names = per_layer("activation", estimator.activation, len(sizes))
    rates = per_layer("dropout", estimator.dropout, len(sizes))
    for name in names:
        lookup("activation", name, dict.fromkeys(sorted(HIDDEN_ACTIVATIONS)))
    return [
        Dense(int(size), ENGINE_NAMES.get(name, name), require_in("dropout", rate, 0, 1))
        for size, name, rate in zip(sizes, names, rates, strict=True)
    ]


def optimizer_of(estimator: Any) -> Optimizer:
    """The optimizer that `solver` stands for: "sgd" and "adam" are scikit-learn's.

    An Optimizer is taken as it is; one by name has `learning_rate_init` for its rate, AdamW
    `beta_1`, `beta_2` and `epsilon` too, and else its own defaults.
    """
    solver, rate = estimator.solver, float(estimator.learning_rate_init)
    if isinstance(solver, Optimizer):
        return solver
    betas, eps = (float(estimator.beta_1), float(estimator.beta_2)), float(estimator.epsilon)
    if solver == "sgd":
        momentum = float(estimator.momentum)
        # Without momentum Nesterov's is the plain update, too.
        return SGD(rate, momentum, nesterov=bool(estimator.nesterovs_momentum and momentum > 0))
    if solver == "adam":
        return Adam(rate, betas, eps, eps_hat=True)
    if solver == "adamw":
        return AdamW(rate, betas, eps)
    return get_optimizer(solver, rate)


@dataclass(frozen=True)
class RateRule:
    """How the learning rate changes by itself: scikit-learn's three rules of its "sgd".

    Attributes:
        name: "constant", "invscaling" or "adaptive".
        power: `power_t`.
    """

    name: str = "constant"
    power: float = 0.5

    @classmethod
    def of(cls, estimator: Any) -> RateRule:
        if estimator.solver != "sgd" or estimator.schedule is not None:
            return cls()
        return cls(estimator.learning_rate, estimator.power_t)


def check_settings(estimator: Any) -> None:
    """Raises InvalidSetting for parameters that contradict each other."""
    if estimator.schedule is not None and estimator.learning_rate != "constant":
        raise InvalidSetting(
            f"schedule takes the place of learning_rate={estimator.learning_rate!r}: give one"
        )
    if estimator.solver != "lbfgs":
        return
    for name, without in (
        ("dropout", 0), ("schedule", None), ("clip_norm", None), ("weight_decay", 0),
    ):  # fmt: skip
        given = getattr(estimator, name)
        if np.any(given) if name == "dropout" else given != without:
            raise InvalidSetting(f"solver 'lbfgs' has no {name}; use a stochastic solver")
    if len(estimator.callbacks):
        raise InvalidSetting("solver 'lbfgs' has no epochs for callbacks; use a stochastic solver")
