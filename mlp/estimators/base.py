"""What both estimators share: parameters, the order of a fit, outputs, copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, estimator_html_repr
from sklearn.utils.validation import check_is_fitted, validate_data

from mlp.backends import precision_dtype
from mlp.backends.protocol import Array, HostArray
from mlp.data.placing import to_check
from mlp.errors import InvalidInput, InvalidSetting
from mlp.estimators.binding import Binding, spec_of
from mlp.estimators.checks import (
    backend_of,
    check_device_rows,
    check_rows_and_target,
    check_weights,
)
from mlp.estimators.inputs import dense, dense_blocks, dense_if_small, on_device
from mlp.estimators.lbfgs import fit_lbfgs
from mlp.estimators.memory import OptimizerMemory
from mlp.estimators.objective import Objective
from mlp.estimators.settings import (
    CONSTRAINTS,
    KEEP_OPTIMIZER,
    RateRule,
    check_settings,
    hidden_layers,
    hidden_sizes,
    optimizer_of,
    per_layer,
)
from mlp.estimators.stochastic import NOT_FINITE, fit_stochastic
from mlp.estimators.validation import Rows, split
from mlp.schedules import get_schedule
from mlp.summary import layers_html

NOT_PARAMETERS = ("self", "__class__")


@dataclass(frozen=True)
class Target:
    """A target that was checked.

    Attributes:
        y: what the loss takes: labels (N,) int64 from 0, or numbers (N, O).
        truth: what predictions are compared with.
        outputs: O.
        stratify: what a split keeps the shares of, or None.
    """

    y: HostArray
    truth: Any
    outputs: int
    stratify: HostArray | None


class BaseMLP(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of MLPClassifier and MLPRegressor, with what does not depend on the target."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    # Of an estimator whose arrays were set by hand.
    _bound: Binding | None = None
    _optimizer: OptimizerMemory | None = None

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Sets an attribute for each argument of `__init__`."""
        for name, value in parameters.items():
            if name not in NOT_PARAMETERS:
                setattr(self, name, value)

    @property
    def _binding(self) -> Binding:
        """What joins `coefs_` and `intercepts_` to a network."""
        if self._bound is None:
            self._bound = Binding()
        return self._bound

    # --- what differs ---------------------------------------------------------------------------

    @abstractmethod
    def _validate_target(self, y: Any) -> Target:
        """A checked target in the engine's terms."""

    @abstractmethod
    def _out_activation(self) -> str:
        """scikit-learn's name of the output activation."""

    @abstractmethod
    def _objective(self) -> Objective:
        """What is minimised, for `n_outputs_` outputs and `out_activation_`."""

    @abstractmethod
    def _score_outputs(self, outputs: HostArray, truth: Any, weight: HostArray | None) -> float:
        """The score of outputs (N, O) of the network; NaN where they are not finite."""

    # --- fit ------------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        incremental: bool = False,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Any:
        sizes = hidden_sizes(self.hidden_layer_sizes)
        hidden_layers(self, sizes)
        check_settings(self)
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        named = self.device != "auto" or self.precision is not None
        if named and (first_pass or not self._binding.restored):
            backend_of(self)  # what cannot be had is said before anything changes
        X, target = self._validate_input(X, y, incremental, reset=first_pass)
        weight = self._class_weighted(check_weights(self, sample_weight, X), target.truth)
        rows = Rows(
            dense(X) if self.solver == "lbfgs" else dense_if_small(X),
            target.y, target.truth, weight,
        )  # fmt: skip
        self.n_outputs_ = target.outputs
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *sizes, self.n_outputs_], X.dtype)
        else:
            self._check_sizes(sizes)
        if self.solver == "lbfgs":
            self._fit_lbfgs(rows, validation)
        else:
            self._fit_stochastic(rows, target, incremental, validation)
        self._binding.show(self)
        return self

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Target]:
        X, y = check_rows_and_target(self, X, y, reset=reset, **self._target_checks())
        self._learn_classes(y, incremental)
        return X, self._validate_target(y)

    def _target_checks(self) -> dict[str, Any]:
        """What `validate_data` has to check of the target."""
        return {}

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """Sets `classes_`, or checks the labels against what it holds."""

    def _check_classes(self, y: Any, name: str) -> None:
        """Raises ValueError for labels that `classes_` does not hold."""

    def _class_weighted(self, weight: Any, truth: Any) -> Any:
        """Sample weights times what the classes weigh."""
        return weight

    def _initialize(self, units: list[int], dtype: Any) -> None:
        """All fitted attributes before the first epoch, and the initial weights."""
        dtype = np.dtype(dtype) if dtype in (np.float32, np.float64) else np.dtype(np.float64)
        coefs: list[HostArray] = []
        intercepts: list[HostArray] = []
        names = per_layer("activation", self.activation, len(units) - 2)
        names.append(names[-1] if names else self.activation)
        kept = precision_dtype(self.precision) if self.precision else dtype
        for inputs, outputs, name in zip(units, units[1:], names, strict=False):
            W, b = self._draw(inputs, outputs, name)
            coefs.append(W.astype(dtype).astype(kept, copy=False))
            intercepts.append(b.astype(dtype).astype(kept, copy=False))
        # Only now, so that a size that cannot be drawn leaves no half of a network behind.
        self.coefs_, self.intercepts_ = coefs, intercepts
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(units)
        self.out_activation_ = self._out_activation()
        self._bound, self._optimizer = Binding(), None
        if self.solver != "lbfgs":
            self._begin_curves()

    def _check_sizes(self, sizes: list[int]) -> None:
        """Raises InvalidSetting where a call would go on with hidden layers of other sizes."""
        present = [len(b) for b in self.intercepts_[:-1]]
        if present != list(sizes):
            raise InvalidSetting(
                f"this call goes on with hidden layers of {present} units, but hidden_layer_sizes "
                f"asks for {sizes}; call fit with warm_start=False for a new network"
            )

    def _draw(self, inputs: int, outputs: int, activation: Any) -> tuple[HostArray, HostArray]:
        """W (I, O), then b (O,), uniform in +- sqrt(6 / (I + O)), or sqrt(2 / (I + O)).

        Source: Glorot, Bengio, AISTATS 2010; the smaller bound for the logistic function, and
        biases that do not start at zero, are scikit-learn's.
        """
        factor = 2.0 if activation in ("logistic", "sigmoid") else 6.0
        bound = np.sqrt(factor / (inputs + outputs))
        uniform = self._random_state.uniform
        return uniform(-bound, bound, (inputs, outputs)), uniform(-bound, bound, outputs)

    def _begin_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = None
        self.validation_loss_curve_: list[float] | None = None
        self.best_validation_score_: float | None = None
        if self.early_stopping:
            self._begin_validation_curves()

    def _begin_validation_curves(self) -> None:
        self.validation_scores_, self.validation_loss_curve_ = [], []
        self.best_validation_score_ = -np.inf

    def _fit_stochastic(
        self, rows: Rows, target: Target, incremental: bool, validation: tuple[Any, Any, Any]
    ) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        network = self._binding.network(self)
        held_out = self._held_out(validation)
        if held_out is None and self.early_stopping:
            rows, held_out = split(
                rows, self.validation_fraction, target.stratify, self._random_state, network
            )
        if not hasattr(self, "loss_curve_"):  # a warm start after lbfgs
            self._begin_curves()
        if held_out is not None and getattr(self, "validation_scores_", None) is None:
            self._begin_validation_curves()
        if not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
        self._optimizer = self._memory_for(incremental)
        fit_stochastic(
            self, network, self._objective(), self._optimizer, rows, held_out,
            incremental=incremental,
        )  # fmt: skip

    def _memory_for(self, incremental: bool) -> OptimizerMemory:
        """The optimizer to train with: the one of earlier calls, or a new one."""
        kept = self._optimizer
        if incremental and kept is not None:
            return kept
        optimizer, schedule = optimizer_of(self), None
        if self.schedule is not None:
            schedule = get_schedule(self.schedule)
        new = OptimizerMemory(optimizer, RateRule.of(self), schedule, float(optimizer.lr))
        if schedule is not None:
            new.schedule_state = schedule.start()
        if self.warm_start == KEEP_OPTIMIZER and kept is not None:
            new.take_over(kept)
        return new

    def _fit_lbfgs(self, rows: Rows, validation: tuple[Any, Any, Any]) -> None:
        if any(part is not None for part in validation):
            raise InvalidSetting("solver 'lbfgs' has no epochs for X_val; use a stochastic solver")
        if self.precision is None:
            # scikit-learn's parameters become float64 here, too: SciPy's are.
            self.coefs_ = [W.astype(np.float64) for W in self.coefs_]
            self.intercepts_ = [b.astype(np.float64) for b in self.intercepts_]
        network = self._binding.network(self)
        fit_lbfgs(self, network, self._objective(), rows)
        if not network.backend.is_finite(network.parameters.flat):
            raise ValueError(NOT_FINITE)

    def _held_out(self, validation: tuple[Any, Any, Any]) -> Rows | None:
        """The validation set that `fit` was given, checked against the training set."""
        X, y, sample_weight = validation
        if X is None and y is None:
            if sample_weight is not None:
                raise InvalidSetting("sample_weight_val needs X_val and y_val")
            return None
        if X is None or y is None:
            raise InvalidSetting("a validation set needs both X_val and y_val")
        X, y = check_rows_and_target(self, X, y, reset=False, **self._target_checks())
        self._check_classes(y, "y_val")
        target = self._validate_target(y)
        if target.outputs != self.n_outputs_:
            raise InvalidInput(f"y_val has {target.outputs} outputs, but y has {self.n_outputs_}")
        weight = check_weights(self, sample_weight, X, "sample_weight_val")
        return Rows(dense(X, "X_val"), target.y, target.truth, weight)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    # --- outputs --------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """Output activations (N, O): on the host, or on the GPU that X lives on."""
        check_is_fitted(self, "coefs_")
        if on_device(X):
            network = self._binding.network(self)
            rows = check_device_rows(self, X, network.backend, reset=False)
            return network.forward_on_device(rows)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        network = self._binding.network(self)
        if isinstance(X, np.ndarray):
            return network.forward(X)
        return np.concatenate([network.forward(block) for block in dense_blocks(X)])

    def _on_host(self, value: Any) -> Any:
        """A prediction or target as scikit-learn's metrics take it."""
        return to_check(value, self._binding.network(self).backend) if on_device(value) else value

    # --- scikit-learn's protocol ----------------------------------------------------------------

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and once fitted the network's layers."""
        diagram = str(estimator_html_repr(self))
        if not hasattr(self, "coefs_"):
            return diagram
        dtype = self.coefs_[0].dtype
        return diagram + layers_html(spec_of(self), dtype.itemsize, f"{dtype} weights")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Host arrays only: no network, no device."""
        state = dict(super().__getstate__())
        if state.pop("_bound", None) is not None:
            state["coefs_"], state["intercepts_"] = list(self.coefs_), list(self.intercepts_)
            memory = state.get("_optimizer")
            state["_optimizer"] = None if memory is None else memory.on_host()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "coefs_" in state:
            self._bound = Binding(restored=True)
