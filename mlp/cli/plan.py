"""From a data set and a loss to what is trained: outputs, split, preprocessing, first outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.cli.output import count
from mlp.data.arrow import is_table, quoted
from mlp.data.dataset import Dataset
from mlp.data.placing import Preprocessing
from mlp.data.preprocessing import Standardizer
from mlp.data.splitting import split_rows, take
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.data.targets import Task
from mlp.errors import InvalidInput, InvalidSetting
from mlp.losses import Loss
from mlp.network import Network
from mlp.trainer import Trainer


def default_loss(data: Dataset) -> str:
    return "cross_entropy" if data.task == "classification" else "mse"


def task_of(loss: Loss | None, task: str | None, *, named: bool) -> str | None:
    """What the target is to be read for: as --task says, or as a loss asks of a named target.

    Raises:
        InvalidSetting: the loss asks for something else than --task.
    """
    if loss is None:
        return task
    of_loss = "regression" if loss.targets in ("values", "counts") else "classification"
    if task not in (None, of_loss):
        raise InvalidSetting(f"--loss {loss.name} goes with a {of_loss}, but --task says {task}")
    return task or (of_loss if named else None)


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
    what = f"{data.name}: {_subject(data)}"
    if loss.targets in ("values", "counts"):
        if y.dtype.kind not in "biuf":
            raise InvalidInput(f"{what} holds text, but loss '{loss.name}' takes numbers")
        outputs = 1 if y.ndim == 1 else y.shape[1]
        return Target(y, "regression", outputs, "identity", None)
    if y.ndim == 2:
        activation = "softmax" if loss.targets == "classes" else "sigmoid"
        return Target(y, "classification", y.shape[1], activation, None)
    if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
        raise InvalidInput(f"{what} holds fractions, but loss '{loss.name}' takes classes")
    classes = data.classes or tuple(np.unique(y).tolist())
    if len(y) == 1 and data.X is not None:  # of streamed data, y has each class once
        raise InvalidInput(f"{data.name} has only one row, too few to learn from")
    if len(classes) < 2:
        raise InvalidInput(f"{what} has only one class, {classes[0]!r}: nothing to learn")
    if loss.targets == "unit":
        if len(classes) != 2:
            raise InvalidInput(
                f"{data.name}: loss '{loss.name}' takes 2 classes, but {_subject(data)} has "
                f"{len(classes)}; use cross_entropy"
            )
        return Target(y, "classification", 1, "sigmoid", classes)
    return Target(y, "classification", len(classes), "softmax", classes)


def _subject(data: Dataset) -> str:
    """What to call the target in a sentence."""
    return f"the target {quoted([*data.target])}" if data.target else "y"


@dataclass(frozen=True)
class Rows:
    """The rows to train on and those to validate on; X are arrays or tables."""

    X: Any
    y: HostArray
    validation: tuple[Any, HostArray] | None

    @classmethod
    def of(cls, data: Dataset, target: Target, share: float, seed: int) -> Rows:
        """Holds out a share of the rows, by class where there are classes; none if it is 0."""
        X, y = data.X, target.y
        if target.task == "regression" and y.ndim == 1:
            y = y[:, None]
        if not share:
            return cls(X, y, None)
        train, rest = split_rows(data.name, y, share, seed, target.classes)
        return cls(take(X, train), y[train], (take(X, rest), y[rest]))

    def preprocessing(self, name: str, *, standardize: bool) -> Preprocessing | None:
        """Learned from the training rows alone.

        Raises:
            InvalidInput: a column of a table that nothing can be learned from.
        """
        if not is_table(self.X):
            return Standardizer.fit(self.X) if standardize else None
        try:
            return TablePreprocessor.fit(self.X, standardize=standardize)
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from None


def fit_outputs(trainer: Trainer, y: HostArray, *, standardize: bool) -> None:
    """Makes a network's outputs begin near the target: scaled values, or the mean count."""
    network, loss = trainer.network, trainer.loss
    if loss.targets == "counts":
        start_at_mean_count(network, y)
    elif loss.targets == "values" and standardize:
        network.target_scaler = Standardizer.fit(y)


@dataclass(frozen=True)
class Job:
    """A trainer and the rows that it trains and validates on.

    Values are standardised by the network, so losses are in units of the target's spread: an mse of
    1 is what always predicting the mean would have.
    """

    data: Dataset
    target: Target
    trainer: Trainer
    X: Any
    y: HostArray | None
    validation: tuple[Any, HostArray] | None

    @property
    def rows(self) -> int:
        """How many are trained on."""
        return len(self.X)

    @property
    def network(self) -> Network:
        return self.trainer.network

    def describe(self) -> str:
        """Two lines: the data, how its target was read, the split; the network."""
        return f"{self.data.name}: {self.describe_rows()}\n{self.network!r}"

    def describe_rows(self) -> str:
        """The rows and columns, the kind of target, and the split."""
        kind = count(self.target.outputs, "output")
        if self.target.classes is not None:
            kind = count(len(self.target.classes), "class", "classes")
        held_out = 0 if self.validation is None else len(self.validation[1])
        return (
            f"{count(self.rows + held_out, 'row')} of {self._describe_columns()}, "
            f"{self.target.task} with {kind}; {self.rows:,} to train on, {held_out:,} held out"
        )

    def _describe_columns(self) -> str:
        columns = self.network.preprocessing
        if not isinstance(columns, TablePreprocessor):
            return count(self.network.spec.inputs, "feature")
        kinds: Counter[str] = Counter(column.kind for column in columns.columns)
        plural = {"number": "numbers", "boolean": "booleans", "category": "categories"}
        words = [f"{kinds[kind]} of {plural[kind]}" for kind in plural if kinds[kind]]
        return (
            f"{count(len(columns.columns), 'column')} ({', '.join(words)}) as "
            f"{count(columns.inputs, 'feature')}"
        )


def start_at_mean_count(network: Network, y: HostArray) -> None:
    """Starts the output, which is a logarithm, at that of the mean count."""
    biases = list(network.biases)
    biases[-1] = np.log(np.maximum(y.mean(axis=0), 1e-3))
    network.set_parameters(network.weights, biases)
