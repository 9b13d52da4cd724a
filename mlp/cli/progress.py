"""Progress of a training run on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mlp.callbacks import Callback
from mlp.cli.output import say, short

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mlp.trainer import Trainer

LINES_PER_RUN = 20
FIRST_STEP = "training; the first step compiles kernels that are not on disk yet"


def latest(trainer: Trainer, *, brief: bool = False) -> str:
    """The newest epoch's values, as in "loss 0.1234, validation 0.2345, score 0.9722"."""
    history = trainer.history
    if not history:
        return ""
    parts = [f"loss {short(history['loss'][-1])}"]
    if trainer.has_validation:
        if not brief:
            parts.append(f"validation {short(history['validation_loss'][-1])}")
        parts.append(f"score {short(history['validation_score'][-1])}")
    return ", ".join(parts)


def rate(trainer: Trainer, unit: str = " samples/s") -> str:
    """Rows per second in the newest epoch's steps, as in "123,456 samples/s"."""
    if not trainer.history or trainer.step is None:
        return ""
    return f"{trainer.step.rows / trainer.history['seconds'][-1]:,.0f} samples/s"


class LiveBar(Callback):
    """One line that is redrawn: epoch, bar, loss, score, samples/s, time left.

    On a narrow terminal the bar, the validation loss and then the rate are left out, before the
    rest would be cut.
    """

    bar: Progress
    task: TaskID
    brief: bool
    unit: str

    def on_fit_start(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stderr)
        self.brief = console.width < 80
        self.unit = " samples/s" if console.width >= 105 else "/s"
        columns = [
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[values]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
        ]
        if console.width < 105:
            del columns[1]
        if console.width < 60:
            del columns[-2]
        self.bar = Progress(*columns, console=console)
        self.task = self.bar.add_task(
            "train", total=None, epoch=trainer.epoch, epochs=trainer.last_epoch,
            values=FIRST_STEP, rate="",
        )  # fmt: skip
        self.bar.start()

    def on_progress(self, trainer: Trainer, batches_done: int) -> None:
        self.bar.update(
            self.task,
            total=trainer.last_epoch * trainer.batches,
            completed=trainer.epoch * trainer.batches + batches_done,
        )

    def on_epoch_end(self, trainer: Trainer) -> None:
        values = latest(trainer, brief=self.brief)
        self.bar.update(
            self.task, epoch=trainer.epoch, values=values, rate=rate(trainer, self.unit)
        )

    def on_fit_end(self, trainer: Trainer) -> None:
        self.bar.stop()
        if trainer.stopped:
            say(f"stopped after epoch {trainer.epoch}: {trainer.stopped}")


class Lines(Callback):
    """About twenty lines a run, one an epoch."""

    def on_fit_start(self, trainer: Trainer) -> None:
        say(FIRST_STEP)

    def on_epoch_end(self, trainer: Trainer) -> None:
        every = max(1, trainer.last_epoch // LINES_PER_RUN)
        ends = trainer.epoch in (1, trainer.last_epoch) or trainer.stopped
        if ends or trainer.epoch % every == 0:
            say(f"epoch {trainer.epoch}/{trainer.last_epoch}: {latest(trainer)}, {rate(trainer)}")
        if trainer.stopped:
            say(f"stopped after epoch {trainer.epoch}: {trainer.stopped}")
