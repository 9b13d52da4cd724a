"""The validation set of a fit: which rows, how good the network is on them, its best weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from mlp.backends.protocol import HostArray
from mlp.estimators.inputs import dense, take_rows
from mlp.estimators.objective import Objective
from mlp.network import Network


@dataclass(frozen=True)
class Rows:
    """Rows with their targets.

    Attributes:
        X: (N, I), on the host, sparse, or on a GPU.
        y: what the loss takes: labels (N,) int64 from 0, or numbers (N, O).
        truth: what predictions are compared with.
        weight: (N,) or None.
    """

    X: Any
    y: HostArray
    truth: Any
    weight: HostArray | None

    def take(self, index: HostArray, network: Network) -> Rows:
        weight = None if self.weight is None else self.weight[index]
        return Rows(take_rows(self.X, index, network), self.y[index], self.truth[index], weight)


def split(
    rows: Rows, fraction: float, stratify: HostArray | None, random_state: Any, network: Network
) -> tuple[Rows, Rows]:
    """Training and validation rows, drawn as scikit-learn's early stopping draws them."""
    train, held_out = train_test_split(
        np.arange(rows.X.shape[0]),
        random_state=random_state,
        test_size=fraction,
        stratify=stratify,
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    kept = rows.take(held_out, network)
    return rows.take(train, network), replace(kept, X=dense(kept.X, "the validation set"))


class Validation:
    """Loss and score on a validation set after every epoch, and the weights that scored best.

    Args:
        estimator: says what outputs predict, and how predictions are scored.
        network: whose weights change between calls.
        objective: the loss.
        rows: the validation set; X stays on the network's device.
    """

    def __init__(self, estimator: Any, network: Network, objective: Objective, rows: Rows) -> None:
        backend = network.backend
        self._estimator, self._network, self._objective = estimator, network, objective
        self._rows = rows
        self._X = network.rows_to_device(rows.X, "X_val", borrow=True)
        layers = network.layers()
        self._predict = backend.predictor(layers, network.parameters.flat, repeated=True)
        self._outputs = backend.empty((len(self._X), network.spec.outputs), network.dtype)
        self._best = backend.empty(network.parameters.flat.shape, network.dtype)
        self.keep()

    def __call__(self) -> tuple[float, float]:
        """Loss without penalties, and score, which may be NaN."""
        rows = self._rows
        with np.errstate(all="ignore"):  # a network that diverges is reported by its numbers
            self._predict(self._X, self._outputs)
            outputs = self._network.backend.to_host(self._outputs)
            loss = self._objective.mean(outputs, rows.y, rows.weight)
            return loss, self._estimator._score_outputs(outputs, rows.truth, rows.weight)

    def keep(self) -> None:
        """Notes the present weights as the best."""
        self._network.backend.copy(self._network.parameters.flat, self._best)

    def put_back(self) -> None:
        """Gives the network its best weights."""
        self._network.backend.copy(self._best, self._network.parameters.flat)
        self._network.parameters_changed()
