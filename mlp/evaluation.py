"""Loss and score of a network on a fixed set of rows, without dropout; reused epoch after epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import LOSS_SUM, WEIGHT_SUM, HostArray
from mlp.backpropagation import OutputLoss
from mlp.losses import Loss
from mlp.network import Network


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, and score: accuracy for class or yes-no targets, R² for values."""

    loss: float
    score: float


class Evaluator:
    """Evaluates a network on rows that stay on its device.

    Args:
        network: the network, whose parameters may change between calls.
        loss: the loss to report.
        X, y, sample_weight: as `Trainer.fit` takes them; `name` prefixes them in errors.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        name: str = "",
    ) -> None:
        self.network, self.loss = network, loss
        self.joined = OutputLoss.of(loss, network.spec.output_activation)
        self.X = network.rows_to_device(X, f"{name}X", borrow=True)
        self.target = network.check_target(y, len(self.X), loss, f"{name}y")
        self.y = network.checked_target_to_device(self.target, f"{name}y", given=y)
        self.weight = network.weight_to_device(sample_weight, len(self.X), f"{name}sample_weight")
        backend, shape = network.backend, (len(self.X), network.spec.outputs)
        layers = self.joined.layers(network.layers())
        self._predict = backend.predictor(layers, network.parameters.flat, repeated=True)
        self._outputs = backend.empty(shape, network.dtype)
        self._delta = backend.empty(shape, network.compute.flat.dtype)

    def __call__(self) -> Evaluation:
        # A network that diverges is reported by its loss, not by a warning per operation.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._evaluate()

    def _evaluate(self) -> Evaluation:
        backend = self.network.backend
        totals = backend.zeros((2,), np.float64)
        self._predict(self.X, self._outputs)
        backend.loss(
            self.joined.form, self._outputs, self.y, self.weight,
            self.joined.parameter, self._delta, totals,
        )  # fmt: skip
        outputs = backend.to_host(self._outputs)
        sums = backend.to_host(totals)
        weight = None if self.weight is None else backend.to_host(self.weight)
        # Outputs before a sigmoid or softmax order as those after it, but are cut at 0, not 0.5.
        threshold = 0.0 if self.joined.form == "sigmoid_cross_entropy" else 0.5
        if self.loss.name == "poisson":
            outputs = np.exp(outputs)
        return Evaluation(
            float(sums[LOSS_SUM] / sums[WEIGHT_SUM]),
            score(self.loss, outputs, self.target, threshold, weight),
        )


def score(
    loss: Loss,
    outputs: HostArray,
    target: HostArray,
    threshold: float = 0.5,
    weight: HostArray | None = None,
) -> float:
    """How good outputs (N, O) are for a target as `as_target` returns it.

    Classes: the weighted share of rows whose largest output is the label's. Numbers in [0, 1] under
    binary cross-entropy: the share of outputs on the target's side of the threshold. Values:
    R² = 1 - sum (y - a)² / sum (y - mean y)², averaged over the outputs, as sklearn's r2_score; it
    is NaN for fewer than two rows, and an output whose target does not vary counts 1 if it is
    met exactly and else 0.
    """
    if loss.targets == "classes":
        labels = target if target.ndim == 1 else target.argmax(axis=1)
        return float(np.average(outputs.argmax(axis=1) == labels, weights=weight))
    if loss.targets == "unit":
        right = (outputs >= threshold) == (target >= 0.5)
        return float(np.average(right.mean(axis=1), weights=weight))
    if len(target) < 2:
        return float("nan")
    w = np.ones(len(target)) if weight is None else weight.astype(np.float64)
    y, a = target.astype(np.float64), outputs.astype(np.float64)
    residual = (w[:, None] * (y - a) ** 2).sum(axis=0)
    spread = (w[:, None] * (y - np.average(y, axis=0, weights=w)) ** 2).sum(axis=0)
    flat = spread == 0
    ratio = np.where(flat, residual > 0, residual / np.where(flat, 1, spread))
    return float(np.mean(1 - ratio))
