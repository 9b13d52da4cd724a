"""scikit-learn's MLPRegressor over this package's engine, and what it does beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from mlp.backends.protocol import Array, HostArray
from mlp.callbacks import AnyCallback
from mlp.estimators.base import BaseMLP, Target
from mlp.estimators.objective import REGRESSION_LOSSES, Objective
from mlp.losses import LOSSES, Loss
from mlp.optimizers import Optimizer
from mlp.schedules import Schedule

LOSS_NAMES = {name for name, loss in LOSSES.items() if loss.targets in ("values", "counts")}


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Multi-layer perceptron regressor: scikit-learn's, on this package's engine.

    The parameters from `loss` to `max_fun` and all they do are those of
    sklearn.neural_network.MLPRegressor of scikit-learn 1.9; the others are this package's own, and
    change nothing by default. docs/from-scikit-learn.md lists every difference.

    Args:
        loss: "squared_error" or "poisson" (y >= 0; outputs are logarithms of expected counts), or
            "mse", "mae", "huber", or an `mlp.Loss` for values or counts. The gradient is that of
            the sum over the outputs; `loss_` is their mean, and for counts their sum.
        hidden_layer_sizes: units of each hidden layer; a number for one layer, () for none.
        activation: of the hidden layers: "relu", "tanh", "logistic" (the sigmoid), "identity", or
            any other of `mlp.ACTIVATIONS` but softmax. A list has one name per hidden layer.
        solver: "adam", "sgd" and "lbfgs" are scikit-learn's. Any other name of `mlp.OPTIMIZERS`
            has `learning_rate_init` for its rate ("adamw" also `beta_1`, `beta_2`, `epsilon`), and
            an Optimizer is taken with its own settings.
        alpha: L2 penalty, alpha/2 sum W² over the weight matrices, divided by the rows of a batch
            (by their weight, if they have weights).
        batch_size: rows in a batch; "auto" for min(200, N). "lbfgs" takes all rows at once.
        learning_rate: of solver "sgd": "constant"; "invscaling", learning_rate_init /
            (t + 1)^power_t after t rows; "adaptive", divided by 5 where training would stop.
        learning_rate_init: the first learning rate.
        power_t: the exponent of "invscaling".
        max_iter: epochs at most; iterations of "lbfgs".
        shuffle: whether the rows come in another order in every epoch.
        random_state: a seed, a NumPy RandomState or None: initial weights, split and shuffles.
        tol: what counts as an improvement of the loss, or of the validation score.
        verbose: whether to print the loss of every epoch.
        warm_start: True goes on from the weights of the last call of `fit`, with a new optimizer;
            "optimizer" also keeps the optimizer's state, learning rate and place in the schedule.
        momentum, nesterovs_momentum: of solver "sgd".
        early_stopping: whether to stop by the score on a validation set, whose best weights are
            kept; also when training diverges. The set is split off, unless `fit` is given one.
        validation_fraction: the share of the rows that is split off.
        beta_1, beta_2, epsilon: of solver "adam".
        n_iter_no_change: epochs without an improvement before training stops.
        max_fun: calls of the loss function at most, for "lbfgs".
        dropout: probability in [0, 1) that an output of a hidden layer is dropped in training, or a
            list of one per hidden layer.
        schedule: a name from `mlp.SCHEDULES` or a Schedule, in place of `learning_rate`, for every
            solver but "lbfgs".
        clip_norm: bound on the norm of all gradients of a batch together; None for none.
        l1: L1 penalty, l1 sum|W|, divided as `alpha` is.
        weight_decay: decoupled decay, W *= 1 - learning rate * weight_decay in every step.
        callbacks: `mlp.Callback` objects, or functions that are called with the Trainer after every
            epoch.
        device: "auto" (a usable GPU, else the processor), "cpu", "cuda", "cuda:N" or "numpy".
        precision: None for the dtype of X; or "float32", "float64", "bfloat16", "tf32", "float16",
            as the device has them.
        threads: the most threads of device "cpu"; None for as many as the environment allows.

    Attributes:
        coefs_: W (I, O) of each layer, a list. On the processor they are the network's own arrays;
            on a GPU copies that cannot be written. Arrays put in their place are used from then on.
        intercepts_: b (O,) of each layer, a list; the same holds for them.
        loss_: the loss of the last epoch, with the penalties.
        best_loss_: the smallest loss; None with early_stopping.
        loss_curve_: the loss of every epoch.
        validation_scores_: the score of every epoch on the validation set (R²); None without
            one.
        best_validation_score_: the largest of them; None without a validation set.
        validation_loss_curve_: the loss of every epoch on the validation set, without penalties;
            None without one.
        n_iter_: epochs of the last call.
        t_: training rows seen, in all calls.
        n_features_in_: I.
        feature_names_in_: (I,) names of the columns of X, if it was a data frame with such.
        n_layers_: number of layers, input and output included.
        n_outputs_: O.
        out_activation_: "identity", or "exp" for the loss "poisson".

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(
    ...     hidden_layer_sizes=(8,), solver="lbfgs", random_state=0, device="numpy"
    ... ).fit(X, y)
    >>> model.score(X, y) > 0.5
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({*REGRESSION_LOSSES, *LOSS_NAMES}), Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool | str = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        schedule: str | Schedule | None = None,
        clip_norm: float | None = None,
        l1: float = 0.0,
        weight_decay: float = 0.0,
        callbacks: Sequence[AnyCallback] = (),
        device: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._keep(locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:
        """Trains from new weights, or with `warm_start` from those of the last call.

        Args:
            X: rows (N, I): an array, data frame, SciPy sparse matrix, or an array on a GPU.
            y: values (N,) or (N, O).
            sample_weight: (N,) weights >= 0, or None.
            X_val, y_val, sample_weight_val: a validation set of the same kinds, scored after every
                epoch; the weights that scored best are kept. With early_stopping it takes the
                place of the split.

        Returns:
            self.

        Raises:
            ValueError: a parameter or data that cannot be used, or training that diverged.
            BackendUnavailable: the device or precision cannot be had here.
        """
        self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))
        return self

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Trains for one epoch on these rows, from where the last call left off.

        Args:
            X, y, sample_weight: as `fit` takes them.

        Returns:
            self.

        Raises:
            AttributeError: the solver is "lbfgs".
            ValueError: as `fit`; early_stopping.
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Values (N,), or (N, O) for several outputs; expected counts for the loss "poisson".

        Args:
            X: rows (N, I), as `fit` takes them. For an array on a GPU the result is there, too.
        """
        return self._values(self._outputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R², the share of y's variance that is predicted, averaged over the outputs.

        Args:
            X, y, sample_weight: as `fit` takes them.
        """
        predictions, truth, weight = map(self._on_host, (self.predict(X), y, sample_weight))
        return float(r2_score(truth, predictions, sample_weight=weight))

    # --- what the target decides ----------------------------------------------------------------

    def _target_checks(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _validate_target(self, y: Any) -> Target:
        values = y.reshape(-1, 1) if y.ndim == 1 else y
        return Target(values, y, values.shape[1], None)

    def _out_activation(self) -> str:
        counts = Objective.of_values(self.loss, 1).loss.targets == "counts"
        return "exp" if counts else "identity"

    def _objective(self) -> Objective:
        return Objective.of_values(self.loss, self.n_outputs_)

    def _score_outputs(self, outputs: HostArray, truth: Any, weight: HostArray | None) -> float:
        predictions = self._values(outputs)
        if not np.isfinite(predictions).all():
            return float("nan")
        return float(r2_score(truth, predictions, sample_weight=weight))

    def _values(self, outputs: Array) -> Array:
        values = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return values.ravel() if values.shape[1] == 1 else values
