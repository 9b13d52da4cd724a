"""scikit-learn's MLPClassifier over this package's engine, and what it does beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from mlp.backends.protocol import Array, HostArray
from mlp.callbacks import AnyCallback
from mlp.data.placing import to_check
from mlp.errors import InvalidSetting
from mlp.estimators.base import BaseMLP, Target
from mlp.estimators.checks import backend_of
from mlp.estimators.inputs import on_device
from mlp.estimators.objective import Objective
from mlp.losses import BinaryCrossEntropy, CrossEntropy, Loss
from mlp.optimizers import Optimizer
from mlp.schedules import Schedule


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Multi-layer perceptron classifier: scikit-learn's, on this package's engine.

    The parameters from `hidden_layer_sizes` to `max_fun` and all they do are those of
    sklearn.neural_network.MLPClassifier of scikit-learn 1.9; the others are this package's own, and
    change nothing by default. docs/from-scikit-learn.md lists every difference.

    Args:
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
        loss: "log_loss", or an `mlp.CrossEntropy` with its label smoothing.
        class_weight: label -> weight, "balanced" for N / (classes * rows of the class), or None.
            With several labels per row: a list of one dict per label.
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
        classes_: (C,) the labels, sorted.
        coefs_: W (I, O) of each layer, a list. On the processor they are the network's own arrays;
            on a GPU copies that cannot be written. Arrays put in their place are used from then on.
        intercepts_: b (O,) of each layer, a list; the same holds for them.
        loss_: the loss of the last epoch, with the penalties.
        best_loss_: the smallest loss; None with early_stopping.
        loss_curve_: the loss of every epoch.
        validation_scores_: the score of every epoch on the validation set (accuracy); None without
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
        out_activation_: "softmax", or "logistic" for two classes and for several labels per row.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((8,), solver="lbfgs", random_state=0, device="numpy").fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"log_loss"}), CrossEntropy, BinaryCrossEntropy],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
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
        loss: str | Loss = "log_loss",
        class_weight: Any = None,
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
    ) -> MLPClassifier:
        """Trains from new weights, or with `warm_start` from those of the last call.

        Args:
            X: rows (N, I): an array, data frame, SciPy sparse matrix, or an array on a GPU.
            y: labels (N,), or (N, O) of 0 and 1 for several labels per row.
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
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Trains for one epoch on these rows, from where the last call left off.

        Args:
            X, y, sample_weight: as `fit` takes them.
            classes: (C,) all labels that later calls may have; needed in the first call only.

        Returns:
            self.

        Raises:
            AttributeError: the solver is "lbfgs".
            ValueError: as `fit`; early_stopping; labels that are not among the classes.
        """
        if self.class_weight == "balanced":
            raise InvalidSetting(
                "class_weight='balanced' needs all rows at once, which partial_fit has not; give "
                "a dict of weights, such as sklearn.utils.class_weight.compute_class_weight makes"
            )
        if on_device(y):
            y = to_check(y, backend_of(self))
        if _check_partial_fit_first_call(self, classes):
            many = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if many else classes)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Labels (N,), or (N, O) of 0 and 1 for several labels per row.

        Args:
            X: rows (N, I), as `fit` takes them. For an array on a GPU the labels are there, too,
                if they are numbers.
        """
        outputs = self._outputs(X)
        return self._labels(outputs) if isinstance(outputs, np.ndarray) else self._codes(outputs)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, C) of the classes, in the order of `classes_`.

        Args:
            X: rows (N, I), as `fit` takes them. For an array on a GPU the result is there, too.
        """
        outputs = self._outputs(X)
        if self.n_outputs_ > 1:
            return outputs
        p = outputs[:, 0]
        return np.stack([1 - p, p], axis=1)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms (N, C) of what `predict_proba` returns.

        Args:
            X: rows (N, I), as `fit` takes them.
        """
        return np.log(self.predict_proba(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy: the share of rows, or of weight, all of whose labels are right.

        Args:
            X, y, sample_weight: as `fit` takes them.
        """
        predictions, truth, weight = map(self._on_host, (self.predict(X), y, sample_weight))
        return float(accuracy_score(truth, predictions, sample_weight=weight))

    # --- what the target decides ----------------------------------------------------------------

    def _validate_target(self, y: Any) -> Target:
        binarizer = self._label_binarizer
        if binarizer.y_type_ == "multiclass" and y.ndim == 1:
            codes = np.searchsorted(self.classes_, y).astype(np.int64)
            return Target(codes, y, len(self.classes_), None)
        binary = binarizer.transform(y).astype(bool)
        outputs = binary.shape[1]
        return Target(binary, y, outputs, binary if outputs == 1 else None)

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return
        if not self.warm_start:
            self._check_classes(y, "y")
            return
        classes = unique_labels(y)
        if set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )

    def _check_classes(self, y: Any, name: str) -> None:
        classes = unique_labels(y)
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`{name}` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. '{name}' has {classes}."
            )

    def _class_weighted(self, weight: Any, truth: Any) -> Any:
        if self.class_weight is None:
            return weight
        of_classes = compute_sample_weight(self.class_weight, truth)
        if not (np.isfinite(of_classes) & (of_classes >= 0)).all():
            raise InvalidSetting(
                f"class_weight must hold finite numbers >= 0, not {self.class_weight}"
            )
        return of_classes if weight is None else weight * of_classes

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _objective(self) -> Objective:
        return Objective.of_classes(
            self.loss, self.out_activation_, self.n_outputs_, self._binding.network(self).dtype
        )

    def _score_outputs(self, outputs: HostArray, truth: Any, weight: HostArray | None) -> float:
        right = self._labels(outputs) == truth
        # What accuracy_score returns, without its checks, which cost more than a small epoch.
        return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=weight))

    # --- labels ---------------------------------------------------------------------------------

    def _labels(self, outputs: HostArray) -> HostArray:
        """Labels of outputs (N, O) on the host."""
        labels: HostArray
        if self.out_activation_ == "softmax":
            labels = self.classes_[outputs.argmax(axis=1)]
            return labels
        if self.n_outputs_ == 1:
            outputs = outputs.ravel()
        labels = self._label_binarizer.inverse_transform(outputs)
        return labels

    def _codes(self, outputs: Array) -> Array:
        """Labels of outputs (N, O) on a GPU, there, unless they are no numbers."""
        kind = self._label_binarizer.y_type_
        if kind.startswith("multilabel"):
            return (outputs > 0.5).astype(np.int64)
        if self.classes_.dtype.kind not in "biuf":
            return self._labels(self._on_host(outputs))
        codes = (
            outputs.argmax(axis=1) if kind == "multiclass"
            else (outputs[:, 0] > 0.5).astype(np.int64)
        )  # fmt: skip
        backend = self._binding.network(self).backend
        whole = self.classes_.dtype.kind != "f"
        on_gpu = backend.from_host(self.classes_, np.int64 if whole else np.float64)
        return on_gpu[codes]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
