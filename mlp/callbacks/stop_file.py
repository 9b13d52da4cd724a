"""Stopping a run from outside: by making a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlp.callbacks.base import Callback
from mlp.errors import InvalidInput

if TYPE_CHECKING:
    from mlp.trainer import Trainer


class StopFile(Callback):
    """Ends training after the current epoch when a file appears, as by `touch stop`.

    It looks about every 0.1 s between steps and after every epoch. The file stays where it is.

    Args:
        path: the file to look for; what is in it does not matter.

    Raises:
        InvalidInput: in `fit`, before training: the file is there already.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.path.exists():
            raise InvalidInput(
                f"{self.path} is there already, and would stop training at once; remove it, or "
                "name another stop file"
            )

    def on_progress(self, trainer: Trainer, batches_done: int) -> None:
        self._look(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if trainer.stopped is None and self.path.exists():
            trainer.stop(f"the stop file {self.path} appeared")
