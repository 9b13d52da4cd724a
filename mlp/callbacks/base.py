"""The hooks of a callback, and how a plain function becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from mlp.errors import InvalidSetting, TrainingDiverged

if TYPE_CHECKING:
    from mlp.trainer import Trainer


class Callback:
    """Base with hooks that do nothing; override those that you need.

    Every hook gets the trainer: `trainer.epoch`, `trainer.history`, `trainer.network`, and
    `trainer.stop("why")` to end training after this epoch. docs/callbacks.md has their exact order
    and what a hook may change.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch of a call of `fit`."""

    def on_progress(self, trainer: Trainer, batches_done: int) -> None:
        """Between two steps: about every 0.1 s, and when the last step of an epoch is done."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After an epoch, when its values are in the history."""

    def on_diverged(self, trainer: Trainer, error: TrainingDiverged) -> bool:
        """When an epoch diverged: whether `fit` should end as if stopped, and not raise `error`.

        The epoch is not in the history, and its `on_epoch_end` is not called.
        """
        return False

    def on_fit_end(self, trainer: Trainer) -> None:
        """When `fit` ends, also by an interrupt or an error."""


AnyCallback: TypeAlias = "Callback | Callable[[Trainer], object]"


class EachEpoch(Callback):
    """Calls a plain function with the trainer after every epoch."""

    def __init__(self, function: Callable[[Trainer], object]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.function(trainer)


def as_callback(callback: AnyCallback) -> Callback:
    """A Callback from itself or from a function of the trainer; raises InvalidSetting otherwise."""
    if isinstance(callback, Callback):
        return callback
    if callable(callback) and not isinstance(callback, type):
        return EachEpoch(callback)
    raise InvalidSetting(f"a callback must be an mlp.Callback or a function, not {callback!r}")


def as_callbacks(callbacks: Iterable[AnyCallback]) -> list[Callback]:
    """Each of a list of callbacks by `as_callback`."""
    if not isinstance(callbacks, Iterable):
        raise InvalidSetting(f"callbacks must be a list, like [{callbacks!r}]")
    return [as_callback(callback) for callback in callbacks]
