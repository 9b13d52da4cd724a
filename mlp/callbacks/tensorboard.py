"""The history of a run for TensorBoard, through the small writer library tensorboardX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.callbacks.base import Callback
from mlp.callbacks.logs import row_of
from mlp.callbacks.norms import NormsLog
from mlp.errors import InvalidInput, InvalidSetting

if TYPE_CHECKING:
    from mlp.trainer import Trainer

# Names that TensorBoard shows in one group each; training and validation loss side by side.
TAGS = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "validation_score": "score/validation",
}


class TensorBoard(Callback):
    """Writes scalars for TensorBoard, a point per epoch; `tensorboard --logdir FOLDER` shows them.

    loss/training, loss/validation, score/validation, learning_rate, samples_per_second, and any
    other values in the history under their names. With `norms` also weights/0, gradients/0,
    activations/0, ... for the layers, counted from 0. The step is the epoch, from 1. Numbers that
    are not finite are left out.

    Args:
        folder: made where it does not exist. A trainer that has epochs behind it adds to what is
            there, and hides what an earlier run wrote for later epochs.
        norms: a NormsLog that stands before this one in the list of callbacks.

    Raises:
        InvalidSetting: tensorboardX is not installed.
        InvalidInput: in `fit`, before training: the folder holds another run's events, or cannot be
            written.
    """

    def __init__(self, folder: str | Path, norms: NormsLog | None = None) -> None:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise InvalidSetting(
                'logs for TensorBoard need tensorboardX: pip install "fused-mlp[tensorboard]"'
            ) from None
        self.folder, self.norms = Path(folder), norms
        self.writer: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        from tensorboardX import SummaryWriter

        there = sorted(self.folder.glob("events.out.tfevents.*"))
        if there and trainer.epoch == 0:
            raise InvalidInput(
                f"{self.folder} already holds the events of another run ({there[0].name}); "
                "name another folder"
            )
        purge = {"purge_step": trainer.epoch + 1} if trainer.epoch else {}
        try:
            # The writer names its file after the second, and empties one that has the name.
            self.writer = SummaryWriter(
                str(self.folder), flush_secs=10, filename_suffix=f".{len(there)}", **purge
            )
        except OSError as error:
            raise InvalidInput(f"{self.folder}: cannot be written: {error.strerror}") from error
        self._seen = len(self.norms.records) if self.norms else 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        for name, value in row_of(trainer).items():
            if value is not None and name not in ("epoch", "seconds"):
                self.writer.add_scalar(TAGS.get(name, name), value, trainer.epoch)
        for record in self.norms.records[self._seen :] if self.norms else []:
            for kind in ("weights", "gradients", "activations"):
                for layer, value in enumerate(getattr(record, kind)):
                    self.writer.add_scalar(f"{kind}/{layer}", value, record.epoch)
        self._seen = len(self.norms.records) if self.norms else 0

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
