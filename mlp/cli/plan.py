"""From a data set and a loss to what is trained: outputs, split, standardisation, first outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.cli.output import count
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
    """A trainer and the rows that it trains and validates on.

    Values are standardised by the network, so losses are in units of the target's spread: an mse of
    1 is what always predicting the mean would have.
    """

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
    def prepare(
        cls,
        data: Dataset,
        target: Target,
        trainer: Trainer,
        share: float,
        seed: int,
        *,
        standardize: bool,
    ) -> Job:
        """Holds out a share of the rows, by class where there are classes, and fits the scalers."""
        network, loss = trainer.network, trainer.loss
        X, y, validation = data.X, target.y, None
        if target.task == "regression" and y.ndim == 1:
            y = y[:, None]
        if share:
            X, Xv, y, yv = _split(data.name, X, y, share, seed, target.classes)
            validation = Xv, yv
        if standardize:
            network.preprocessing = Standardizer.fit(X)
        if loss.targets == "counts":
            start_at_mean_count(network, y)
        elif loss.targets == "values" and standardize:
            network.target_scaler = Standardizer.fit(y)
        return cls(data, target, trainer, X, y, validation)

    def describe(self) -> str:
        """Two lines: the data, how its target was read, the split; the network."""
        rows, features = self.data.X.shape
        kind = count(self.target.outputs, "output")
        if self.target.classes is not None:
            kind = count(len(self.target.classes), "class", "classes")
        held_out = 0 if self.validation is None else len(self.validation[1])
        return (
            f"{self.data.name}: {count(rows, 'row')} of {count(features, 'feature')}, "
            f"{self.target.task} with {kind}; {len(self.y):,} to train on, {held_out:,} held out\n"
            f"{self.network!r}"
        )


def _split(
    name: str,
    X: HostArray,
    y: HostArray,
    share: float,
    seed: int,
    classes: tuple[Any, ...] | None,
) -> list[HostArray]:
    from sklearn.model_selection import train_test_split  # deferred: slow to import

    held_out = math.ceil(share * len(X))
    if classes is not None:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < 2:
            raise InvalidInput(
                f"{name}: only one row has the class {labels[counts.argmin()]}, of "
                f"{len(labels)} classes, so none can be held out; give it more rows, pass "
                "--validation 0, or --loss mse if y holds values"
            )
    least = 1 if classes is None else len(np.unique(y))
    if min(held_out, len(X) - held_out) < least:
        raise InvalidInput(
            f"{name}: {share:g} of {count(len(X), 'row')} leaves too few on one side; change "
            "--validation"
        )
    parts: list[HostArray] = train_test_split(
        X, y, test_size=share, random_state=seed % 2**32, stratify=y if classes else None
    )
    return parts


def start_at_mean_count(network: Network, y: HostArray) -> None:
    """Starts the output, which is a logarithm, at that of the mean count."""
    biases = list(network.biases)
    biases[-1] = np.log(np.maximum(y.mean(axis=0), 1e-3))
    network.set_parameters(network.weights, biases)
