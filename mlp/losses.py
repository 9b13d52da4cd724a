"""The loss table: formula, gradient, and the stable form that a matching output activation allows.

Notation: one row has outputs a_k and targets y_k, k = 1..O; z is the output layer's input. Every
loss is the mean over the batch of its value per row, weighted by the sample weights w_i where they
are given: sum_i w_i L_i / sum_i w_i.

A `form` is one way of computing a loss on a device; its name crosses the backend contract. A loss
has a general form, in terms of `a`, and may have a matched one, in terms of `z`, that merges the
output activation into the loss: no logarithm of a rounded probability, and a first delta of the
shape "prediction - target". `FORMS` defines every form in NumPy; backends are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from mlp.activations import Floats, sigmoid
from mlp.errors import InvalidSetting, lookup, require_in

Target: TypeAlias = np.ndarray[Any, np.dtype[Any]]
RowLoss: TypeAlias = tuple[Floats, Floats]  # value per row (B,), its gradient (B, O)

# PyTorch's bounds for losses of probabilities: log(a) >= -100, and a divisor of at least 1e-12.
LOG_FLOOR = -100.0
DIVISOR_FLOOR = 1e-12


def _clipped(value: Floats, parameter: float) -> Floats:
    """A negative parameter -c clips losses to those of probabilities in [c, 1 - c]."""
    if parameter >= 0:
        return value
    return np.clip(value, -np.log1p(parameter), -np.log(-parameter)).astype(value.dtype)


def _class_probabilities(y: Target, like: Floats, smoothing: float) -> Floats:
    """Targets as smoothed rows of probabilities: y_k (1 - s) + s / O, from labels or rows."""
    outputs = like.shape[1]
    rows = y
    if y.ndim == 1:
        rows = np.zeros_like(like)
        rows[np.arange(len(y)), y] = 1
    result: Floats = rows * (1 - smoothing) + smoothing / outputs
    return result.astype(like.dtype, copy=False)


def _softmax_cross_entropy(z: Floats, y: Target, parameter: float) -> RowLoss:
    # log p_k = z_k - logsumexp(z); the gradient p_k sum(y) - y_k holds for any row of targets.
    shifted = z - z.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(axis=1, keepdims=True)
    target = _class_probabilities(y, z, max(parameter, 0.0))
    value = -(target * (shifted - np.log(total))).sum(axis=1)
    gradient = exponential / total * target.sum(axis=1, keepdims=True) - target
    return _clipped(value, parameter), gradient


def _sigmoid_cross_entropy(z: Floats, y: Target, parameter: float) -> RowLoss:
    a = sigmoid(z)
    if parameter < 0:
        # From the rounded probability, as scikit-learn does: 1 - a has few digits near 1.
        p = np.clip(a, -parameter, 1 + parameter)
        value = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    else:
        value = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return value.mean(axis=1), (a - y) / z.shape[1]


def _log(a: Floats) -> Floats:
    # The smallest normal number stands in for 0: its logarithm is above the floor or clipped to it.
    with np.errstate(divide="ignore"):
        result: Floats = np.maximum(np.log(a), LOG_FLOOR)
    return result


def _cross_entropy(a: Floats, y: Target, smoothing: float) -> RowLoss:
    target = _class_probabilities(y, a, smoothing)
    return -(target * _log(a)).sum(axis=1), -target / np.maximum(a, DIVISOR_FLOOR)


def _binary_cross_entropy(a: Floats, y: Target, _: float) -> RowLoss:
    value = -(y * _log(a) + (1 - y) * _log(1 - a))
    return value.mean(axis=1), (a - y) / np.maximum(a * (1 - a), DIVISOR_FLOOR) / a.shape[1]


def _half_squared_error(a: Floats, y: Target, _: float) -> RowLoss:
    return 0.5 * np.square(a - y).mean(axis=1), (a - y) / a.shape[1]


def _mse(a: Floats, y: Target, _: float) -> RowLoss:
    return np.square(a - y).mean(axis=1), 2 * (a - y) / a.shape[1]


def _mae(a: Floats, y: Target, _: float) -> RowLoss:
    return np.abs(a - y).mean(axis=1), np.sign(a - y) / a.shape[1]


def _huber(a: Floats, y: Target, delta: float) -> RowLoss:
    error = a - y
    size = np.abs(error)
    value = np.where(size <= delta, 0.5 * error * error, delta * (size - 0.5 * delta))
    return value.mean(axis=1), np.clip(error, -delta, delta) / a.shape[1]


def _poisson(a: Floats, y: Target, _: float) -> RowLoss:
    rate = np.exp(a)
    return (rate - y * a).mean(axis=1), (rate - y) / a.shape[1]


FORMS: dict[str, Callable[[Floats, Target, float], RowLoss]] = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "sigmoid_cross_entropy": _sigmoid_cross_entropy,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "half_squared_error": _half_squared_error,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "poisson": _poisson,
}


@dataclass(frozen=True)
class Loss:
    """A loss: a name, its formula and source, and the forms that compute it.

    Attributes:
        matched: output activation -> the form that takes z in its place.
        targets: what y holds. "classes": labels (N,) int, or rows of probabilities (N, O);
            "unit": numbers in [0, 1]; "counts": numbers >= 0; "values": any finite numbers.
        needs: output activations that the general form accepts; empty for any.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    matched: ClassVar[dict[str, str]] = {}
    targets: ClassVar[Literal["classes", "unit", "counts", "values"]] = "values"
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def parameter(self) -> float:
        """The one number that the form takes (label smoothing, Huber's delta); else 0."""
        return 0.0

    @property
    def kinks(self) -> tuple[float, ...]:
        """Values of a_k - y_k at which the gradient jumps, or its slope does."""
        return ()

    def form(self, output_activation: str) -> tuple[str, bool]:
        """(form, matched) for an output activation; raises InvalidSetting where they do not fit."""
        if output_activation in self.matched:
            return self.matched[output_activation], True
        if self.needs and output_activation not in self.needs:
            raise InvalidSetting(
                f"loss '{self.name}' needs probabilities, but the output activation is "
                f"'{output_activation}'; use one of: {', '.join(self.needs)}"
            )
        return self.name, False


def _require_matched(
    loss: BinaryCrossEntropy | CrossEntropy, activation: str, form: tuple[str, bool]
) -> tuple[str, bool]:
    """The form, unless the loss clips what only a matched form computes."""
    if loss.clip and not form[1]:
        raise InvalidSetting(f"loss '{loss.name}' with clip does not fit the output '{activation}'")
    return form


class HalfSquaredError(Loss):
    """L = 1/(2 O) sum_k (a_k - y_k)^2; dL/da_k = (a_k - y_k) / O.

    Source: half of `MSE`; the error of Rumelhart, Hinton, Williams, "Learning representations by
    back-propagating errors", Nature 323 (1986), averaged over the outputs.
    """

    name = "half_squared_error"
    formula = "L = 1/(2O) Σ_k (a_k - y_k)²"
    source = "Rumelhart, Hinton, Williams (1986), averaged over outputs"


class MSE(Loss):
    """L = 1/O sum_k (a_k - y_k)^2; dL/da_k = 2 (a_k - y_k) / O. Source: torch.nn.MSELoss."""

    name = "mse"
    formula = "L = 1/O Σ_k (a_k - y_k)²"
    source = "torch.nn.MSELoss"


class MAE(Loss):
    """L = 1/O sum_k |a_k - y_k|; dL/da_k = sign(a_k - y_k) / O, 0 at 0. Source: torch.nn.L1Loss."""

    name = "mae"
    formula = "L = 1/O Σ_k |a_k - y_k|"
    source = "torch.nn.L1Loss"

    @property
    def kinks(self) -> tuple[float, ...]:
        return (0.0,)


@dataclass(frozen=True)
class Huber(Loss):
    """L = 1/O sum_k h(a_k - y_k), h(e) = e^2/2 where |e| <= delta, else delta (|e| - delta/2).

    dL/da_k = clip(a_k - y_k, -delta, delta) / O. Source: P. J. Huber, "Robust estimation of a
    location parameter", Ann. Math. Statist. 35 (1964); torch.nn.HuberLoss.
    """

    name = "huber"
    formula = "L = 1/O Σ_k h(a_k - y_k), h(e) = e²/2 if |e| ≤ δ else δ(|e| - δ/2)"
    source = "Huber (1964); torch.nn.HuberLoss"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if require_in("Huber's delta", self.delta, 0, float("inf"), open_high=True) == 0:
            raise InvalidSetting("Huber's delta must be greater than 0")

    @property
    def parameter(self) -> float:
        return self.delta

    @property
    def kinks(self) -> tuple[float, ...]:
        return (-self.delta, self.delta)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """L = 1/O sum_k [-y_k log(a_k) - (1 - y_k) log(1 - a_k)].

    dL/da_k = (a_k - y_k) / (a_k (1 - a_k)) / O. After a sigmoid it is computed from z:
    L_k = max(z, 0) - z y + log(1 + exp(-|z|)) and dL/dz_k = (sigmoid(z_k) - y_k) / O. After a
    softmax, from a, with log(a) >= -100 and a (1 - a) >= 1e-12. Source: torch.nn.BCELoss and
    torch.nn.BCEWithLogitsLoss. For `clip` see `CrossEntropy`; it is of use after a sigmoid.
    """

    name = "binary_cross_entropy"
    formula = "L = 1/O Σ_k [-y_k log a_k - (1 - y_k) log(1 - a_k)]"
    source = "torch.nn.BCELoss, torch.nn.BCEWithLogitsLoss"
    matched: ClassVar[dict[str, str]] = {"sigmoid": "sigmoid_cross_entropy"}
    targets = "unit"
    needs = ("sigmoid", "softmax")
    clip: float = 0.0

    def __post_init__(self) -> None:
        require_in("clip", self.clip, 0, 0.5, open_high=True)

    @property
    def parameter(self) -> float:
        return -self.clip

    def form(self, output_activation: str) -> tuple[str, bool]:
        return _require_matched(self, output_activation, super().form(output_activation))


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """L = -sum_k t_k log(a_k), t_k = (1 - s) y_k + s / O with label smoothing s.

    y is a class label per row, or a row of class probabilities. After a softmax it is computed from
    z: log a_k = z_k - log sum_j exp(z_j), dL/dz_k = a_k sum_j t_j - t_k. After a sigmoid, from a,
    with log(a) >= -100: dL/da_k = -t_k / a_k. Source: torch.nn.CrossEntropyLoss; smoothing from
    Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.

    With `clip` c > 0, after a softmax, the value (not the gradient) is that of a label's
    probability clipped to [c, 1 - c]. Source: sklearn.metrics.log_loss, where c is the eps of the
    dtype.
    """

    name = "cross_entropy"
    formula = "L = -Σ_k t_k log a_k, t_k = (1 - s) y_k + s/O"
    source = "torch.nn.CrossEntropyLoss"
    matched: ClassVar[dict[str, str]] = {"softmax": "softmax_cross_entropy"}
    targets = "classes"
    needs = ("softmax", "sigmoid")
    label_smoothing: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        require_in("label_smoothing", self.label_smoothing, 0, 1)
        if require_in("clip", self.clip, 0, 0.5, open_high=True) and self.label_smoothing:
            raise InvalidSetting("a loss has either label_smoothing or clip")

    @property
    def parameter(self) -> float:
        return self.label_smoothing or -self.clip

    def form(self, output_activation: str) -> tuple[str, bool]:
        return _require_matched(self, output_activation, super().form(output_activation))


class Poisson(Loss):
    """L = 1/O sum_k [exp(a_k) - y_k a_k]; dL/da_k = (exp(a_k) - y_k) / O.

    The output is the logarithm of the expected count. Source: torch.nn.PoissonNLLLoss with
    log_input=True and full=False: the negative log-likelihood without the constant log(y!).
    """

    name = "poisson"
    formula = "L = 1/O Σ_k [exp(a_k) - y_k a_k]"
    source = "torch.nn.PoissonNLLLoss(log_input=True)"
    targets = "counts"


LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (HalfSquaredError, MSE, MAE, Huber, BinaryCrossEntropy, CrossEntropy, Poisson)
}


def get_loss(loss: str | Loss) -> Loss:
    """A Loss from itself or from its name with default parameters."""
    return loss if isinstance(loss, Loss) else lookup("loss", loss, LOSSES)()
