"""What an estimator minimises, in the engine's terms, and what it reports of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from mlp.backends.protocol import HostArray
from mlp.errors import InvalidSetting
from mlp.estimators.scaling import OutputScaling
from mlp.losses import (
    FORMS,
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    get_loss,
)

# scikit-learn's names of losses that have another one here.
REGRESSION_LOSSES = {"squared_error": "half_squared_error"}
# scikit-learn's names of output activations -> those of the network. A Poisson network ends in the
# logarithm of the expected count, and `predict` takes the exponential.
OUTPUT_ACTIVATIONS = {
    "softmax": "softmax", "logistic": "sigmoid", "identity": "identity", "exp": "identity",
}  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """A loss of the engine, with what makes scikit-learn's numbers of its values.

    Attributes:
        loss: what the engine minimises.
        scaling: whether and how the engine's gradient is smaller than scikit-learn's.
        reported: by what the engine's mean loss is multiplied: scikit-learn reports a squared error
            averaged over the outputs, but sums cross-entropies and Poisson deviances.
        smoothing: of yes-no targets: y becomes y (1 - s) + s / 2.
    """

    loss: Loss
    scaling: OutputScaling
    reported: float
    smoothing: float = 0.0

    @classmethod
    def of_classes(
        cls, loss: str | Loss, out_activation: str, outputs: int, dtype: np.dtype[Any]
    ) -> Objective:
        """Of a classifier, whose output is a softmax over classes or a sigmoid for each label.

        "log_loss" takes probabilities of `dtype` as scikit-learn does, clipped at its eps.
        """
        chosen = CrossEntropy(clip=float(np.finfo(dtype).eps)) if isinstance(loss, str) else loss
        if out_activation == "softmax":
            if not isinstance(chosen, CrossEntropy):
                raise InvalidSetting(
                    f"loss '{chosen.name}' does not fit {outputs} classes; use 'log_loss' or "
                    "mlp.CrossEntropy()"
                )
            return cls(chosen, OutputScaling(1), 1.0)
        if not isinstance(chosen, CrossEntropy | BinaryCrossEntropy):
            raise InvalidSetting(
                f"loss '{chosen.name}' is none of a classifier's; use 'log_loss', "
                "mlp.CrossEntropy() or mlp.BinaryCrossEntropy()"
            )
        smoothing = chosen.label_smoothing if isinstance(chosen, CrossEntropy) else 0.0
        binary = BinaryCrossEntropy(chosen.clip)
        return cls(binary, OutputScaling(outputs), float(outputs), smoothing)

    @classmethod
    def of_values(cls, loss: str | Loss, outputs: int) -> Objective:
        """Of a regressor."""
        chosen = get_loss(REGRESSION_LOSSES.get(loss, loss) if isinstance(loss, str) else loss)
        if chosen.targets not in ("values", "counts"):
            raise InvalidSetting(f"loss '{chosen.name}' is none of a regressor's")
        counts = chosen.targets == "counts"
        return cls(chosen, OutputScaling(outputs), float(outputs) if counts else 1.0)

    def target(self, y: HostArray) -> HostArray:
        """What the engine is trained towards: labels (N,) int64, or numbers (N, O)."""
        return y * (1 - self.smoothing) + self.smoothing / 2 if self.smoothing else y

    def constants(self, y: HostArray) -> HostArray | None:
        """What scikit-learn's loss of each row has beside the engine's (N,); None for nothing."""
        if self.loss.targets != "counts":
            return None
        counts = y.astype(np.float64)
        result: HostArray = (xlogy(counts, counts) - counts).sum(axis=1)
        return result

    def mean(self, outputs: HostArray, y: HostArray, weight: HostArray | None) -> float:
        """The reported mean loss of outputs (N, O) of the network, without any penalty.

        Computed on the host from what the network ends in.
        """
        form, a, parameter = FORMS[self.loss.name], outputs.astype(np.float64), self.loss.parameter
        if isinstance(self.loss, CrossEntropy | BinaryCrossEntropy):
            # The form of probabilities has no clipping of its own, which is a negative parameter.
            clip, parameter = self.loss.clip, max(parameter, 0.0)
            a = np.clip(a, clip, 1 - clip) if clip else a
        rows, _ = form(a, self.target(y), parameter)
        rows = rows * self.reported
        constants = self.constants(y)
        return float(np.average(rows if constants is None else rows + constants, weights=weight))
