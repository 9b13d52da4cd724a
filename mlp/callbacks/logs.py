"""The history of a run as a text file that grows by a line per epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from mlp.callbacks.base import Callback
from mlp.errors import InvalidInput

if TYPE_CHECKING:
    from mlp.trainer import Trainer

Row = dict[str, "float | None"]


def row_of(trainer: Trainer) -> Row:
    """The newest epoch: its number from 1, its values in the history, and samples_per_second.

    What is not a finite number is None.
    """
    history = trainer.history
    values = {name: float(column[-1]) for name, column in history.items()}
    if trainer.step is not None and values["seconds"] > 0:
        values["samples_per_second"] = trainer.step.rows / values["seconds"]
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {"epoch": trainer.epoch, **finite}


class EpochLog(Callback):
    """Base of the logs: one line per epoch, appended by one write, so that `tail -f` shows it.

    Args:
        path: the file. Its folder must exist.
        overwrite: whether a run from epoch 1 may replace a file that is there.

    A trainer that has epochs behind it appends to the file of an earlier call of `fit`. Lines are
    never changed: where a run was resumed from before the end of a log, epochs appear twice, and
    the later line counts.

    Raises:
        InvalidInput: in `fit`, before training: the file exists and `overwrite` is not set, it is
            no log of this kind, or it cannot be written. After an epoch: it cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path, self.overwrite = Path(path), overwrite

    @abstractmethod
    def line(self, row: Row) -> str:
        """The text that an epoch adds to the file, with its line ends."""

    def check_start(self, first: str) -> None:
        """Raises InvalidInput where `first`, the file's first line, is not of such a log."""

    def on_fit_start(self, trainer: Trainer) -> None:
        # A run that ended before its first epoch leaves an empty file, in which nothing is to lose.
        there = self.path.exists() and self.path.stat().st_size > 0
        if there and trainer.epoch == 0:
            if not self.overwrite:
                raise InvalidInput(
                    f"{self.path} already exists; name another log file, or pass overwrite=True"
                )
            self._write("", truncate=True)
        elif there:
            self._continue()
        else:
            self._write("")  # what cannot be written should be found out before training

    def _continue(self) -> None:
        try:
            with self.path.open("rb") as file:
                first = file.readline().decode("utf-8", errors="replace")
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                cut = file.read(1) not in (b"", b"\n")
        except OSError as error:
            raise InvalidInput(f"{self.path}: cannot be read: {error.strerror}") from error
        if first:
            self.check_start(first)
        if cut:  # the last line was cut off by a crash: begin a new one
            self._write("\n")

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._write(self.line(row_of(trainer)))

    def _write(self, text: str, *, truncate: bool = False) -> None:
        # One write call on a file opened for appending: lines of two processes do not mix.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if truncate else 0)
        try:
            handle = os.open(self.path, flags, 0o666)
            try:
                content = text.encode()
                whole = os.write(handle, content) == len(content)
            finally:
                os.close(handle)
        except OSError as error:
            raise InvalidInput(f"{self.path}: cannot be written: {error.strerror}") from error
        if not whole:
            raise InvalidInput(f"{self.path}: only a part of a line could be written")


class CSVLog(EpochLog):
    """A CSV file with a header: the epoch, every value in the history, samples per second.

    The columns are those of the first epoch that is written. A number that is not finite leaves its
    field empty. Arguments, appending and errors are as in EpochLog.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        super().__init__(path, overwrite=overwrite)
        self.columns: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.columns = []
        super().on_fit_start(trainer)

    def check_start(self, first: str) -> None:
        columns = next(csv.reader([first.strip()]), [])
        if columns[:1] != ["epoch"]:
            raise InvalidInput(f"{self.path} is not a log of epochs; name another log file")
        self.columns = columns

    def line(self, row: Row) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.columns:
            self.columns = list(row)
            writer.writerow(self.columns)
        writer.writerow([row.get(name) for name in self.columns])
        return text.getvalue()


class JSONLinesLog(EpochLog):
    """A file with one JSON object per epoch: its number, every value in the history, samples/s.

    A number that is not finite is null. Arguments, appending and errors are as in EpochLog.
    """

    def check_start(self, first: str) -> None:
        try:
            found = json.loads(first)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "epoch" not in found:
            raise InvalidInput(f"{self.path} is not a log of epochs; name another log file")

    def line(self, row: Row) -> str:
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
