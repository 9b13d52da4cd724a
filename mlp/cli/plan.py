"""From a data set and a loss to what is trained: outputs, split, standardisation, first outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.data.sources import Dataset, Task
from mlp.errors import InvalidInput
from mlp.losses import Loss
from mlp.network import Network
from mlp.trainer import Trainer


def default_loss(data: Dataset) -> str:
    return "cross_entropy" if data.task == "classification" else "mse"


@dataclass(frozen=True)
class Target:
    """What the network has to put out.

    Attributes:
        y: (N,) labels, or numbers (N,) or (N, O).
        classes: the label of each output (of the two sides of a single sigmoid output), or None.
    """

    y: HostArray
    task: Task
    outputs: int
    activation: str
    classes: tuple[Any, ...] | None


def target_for(data: Dataset, loss: Loss) -> Target:
    """The target as the loss needs it: a loss of classes or one of values overrides the guess.

    Raises:
        InvalidInput: the target does not go with the loss.
    """
    y = data.y
    assert y is not None  # load_data was asked for a target
    if loss.targets in ("values", "counts"):
        if y.dtype.kind not in "biuf":
            raise InvalidInput(f"{data.name}: y holds text, but loss '{loss.name}' takes numbers")
        outputs = 1 if y.ndim == 1 else y.shape[1]
        return Target(y, "regression", outputs, "identity", None)
    if y.ndim == 2:
        activation = "softmax" if loss.targets == "classes" else "sigmoid"
        return Target(y, "classification", y.shape[1], activation, None)
    if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
        raise InvalidInput(f"{data.name}: y holds fractions, but loss '{loss.name}' takes classes")
    classes = data.classes or tuple(np.unique(y).tolist())
    if len(classes) < 2:
        raise InvalidInput(f"{data.name}: y has only one class, {classes[0]!r}: nothing to learn")
    if loss.targets == "unit":
        if len(classes) != 2:
            raise InvalidInput(
                f"{data.name}: loss '{loss.name}' takes 2 classes, but y has {len(classes)}; "
                "use cross_entropy"
            )
        return Target(y, "classification", 1, "sigmoid", classes)
    return Target(y, "classification", len(classes), "softmax", classes)


@dataclass(frozen=True)
class Job:
    """A trainer and the rows that it trains and validates on."""

    data: Dataset
    target: Target
    trainer: Trainer
    X: HostArray
    y: HostArray
    validation: tuple[HostArray, HostArray] | None

    @property
    def network(self) -> Network:
        return self.trainer.network

    @classmethod
    def split(
        cls,
        data: Dataset,
        target: Target,
        trainer: Trainer,
        share: float,
        seed: int,
        *,
        standardize: bool,
    ) -> Job:
        """Holds out a share of the rows, by class where there are classes, and fits the scaler."""
        X, y, validation = data.X, target.y, None
        if share:
            X, Xv, y, yv = _split(data.name, X, y, share, seed, target.classes is not None)
            validation = Xv, yv
        if standardize:
            trainer.network.preprocessing = Standardizer.fit(X)
        if target.task == "regression":
            start_at_target(trainer.network, trainer.loss, y)
        return cls(data, target, trainer, X, y, validation)

    def describe(self) -> str:
        """One line: the data, how its target was read, the split, the network."""
        rows, features = self.data.X.shape
        kind = f"{self.target.outputs} output{'s' if self.target.outputs > 1 else ''}"
        if self.target.classes is not None:
            kind = f"{len(self.target.classes)} classes"
        held_out = 0 if self.validation is None else len(self.validation[1])
        return (
            f"{self.data.name}: {rows} rows of {features} features, {self.target.task} with "
            f"{kind}; {len(self.y)} rows to train on, {held_out} held out\n{self.network!r}"
        )


def _split(
    name: str, X: HostArray, y: HostArray, share: float, seed: int, stratify: bool
) -> list[HostArray]:
    from sklearn.model_selection import train_test_split  # deferred: slow to import

    try:
        parts: list[HostArray] = train_test_split(
            X, y, test_size=share, random_state=seed % 2**32, stratify=y if stratify else None
        )
    except ValueError as error:
        raise InvalidInput(
            f"{name}: {share:g} of the {len(X)} rows cannot be held out ({error}); "
            "change --validation"
        ) from None
    return parts


def start_at_target(network: Network, loss: Loss, y: HostArray) -> None:
    """Starts the linear output at the target's mean and spread, so that steps fit its units.

    Without it, a target around 150 would be many epochs of small steps away.
    """
    columns = y.reshape(len(y), -1).astype(np.float64)
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    weights, biases = list(network.weights), list(network.biases)
    if loss.targets == "counts":  # the output is a logarithm: its spread is of order 1 already
        biases[-1] = np.log(np.maximum(mean, 1e-3))
    else:
        weights[-1] = weights[-1] * np.where(spread > 0, spread, 1)
        biases[-1] = mean
    network.set_parameters(weights, biases)
