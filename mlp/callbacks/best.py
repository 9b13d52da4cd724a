"""The best weights of a run, and stopping where they do not get better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlp.backends.protocol import HostArray
from mlp.callbacks.base import Callback
from mlp.errors import (
    InvalidSetting,
    TrainingDiverged,
    require_in,
    require_positive_int,
    unknown_name,
)

if TYPE_CHECKING:
    from mlp.trainer import Trainer

MONITORS = ("auto", "loss", "validation_loss", "validation_score")


@dataclass(kw_only=True)
class BestWeights(Callback):
    """Keeps the parameters of the best epoch of a call of `fit`, and puts them back when it ends.

    The optimizer's state stays that of the last epoch.

    Args:
        monitor: a key of the history, or "auto": the validation loss where there is a validation
            set, else the training loss. Scores are better when higher, losses when lower.
        min_delta: how much better an epoch has to be to count.

    Attributes:
        best_epoch: the best epoch so far, from 1; None before the first one.
        best: its value.
    """

    monitor: str = "auto"
    min_delta: float = 0.0
    best_epoch: int | None = field(default=None, init=False)
    best: float = field(default=math.nan, init=False)
    parameters: HostArray | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.monitor not in MONITORS:
            raise unknown_name("monitor", self.monitor, MONITORS)
        require_in("min_delta", self.min_delta, 0, math.inf)

    def on_fit_start(self, trainer: Trainer) -> None:
        # What was best of other rows or another network is nothing here.
        self.best_epoch, self.best, self.parameters = None, math.nan, None
        if self.monitor.startswith("validation") and not trainer.has_validation:
            raise InvalidSetting(f"to monitor {self.monitor}, pass fit a validation set")

    def on_epoch_end(self, trainer: Trainer) -> None:
        key = self.monitor
        if key == "auto":
            key = "validation_loss" if trainer.has_validation else "loss"
        value = trainer.history[key][-1]
        gain = value - self.best if key == "validation_score" else self.best - value
        first = math.isnan(self.best) and not math.isnan(value)
        if self.best_epoch is None or first or gain > self.min_delta:
            self.best_epoch, self.best = trainer.epoch, value
            network = trainer.network
            self.parameters = network.backend.to_host(network.parameters.flat)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.parameters is not None:
            backend = trainer.network.backend
            best = backend.from_host(self.parameters, trainer.network.dtype)
            backend.copy(best, trainer.network.parameters.flat)
            trainer.network.parameters_changed()


@dataclass
class EarlyStopping(BestWeights):
    """Stops when `patience` epochs in a row were no better than the best, whose weights it keeps.

    A run that diverges, so that the trainer would raise TrainingDiverged, is stopped in the same
    way if an epoch before was good: `fit` returns, the network has the best weights, and
    `trainer.stopped` says what happened. The optimizer's state is then that of the diverged epoch:
    to train on, make a new Trainer with a smaller rate. Where the first epoch of a call of `fit`
    diverges there is nothing to keep, and the error is raised.

    Args:
        patience: epochs to wait.
        stop_if_diverged: False to have TrainingDiverged raised in any case; the best weights are
            put back before that, too.
        monitor, min_delta: as in BestWeights.
    """

    patience: int = 10
    stop_if_diverged: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive_int("patience", self.patience)

    def on_epoch_end(self, trainer: Trainer) -> None:
        super().on_epoch_end(trainer)
        if self.best_epoch is not None and trainer.epoch - self.best_epoch >= self.patience:
            trainer.stop(f"no better epoch than {self.best_epoch} in the last {self.patience}")

    def on_diverged(self, trainer: Trainer, error: TrainingDiverged) -> bool:
        return self.stop_if_diverged and self.best_epoch is not None
