"""The folder of one training run: what is in it, and the care not to lose what was there."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.cli.output import to_json, write_result
from mlp.errors import InvalidInput
from mlp.network import Network
from mlp.trainer import History

FILES = ("model.safetensors", "history.csv", "metrics.json", "curves.png")


@dataclass(frozen=True)
class RunFolder:
    """A folder that exists and that results can be written to."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @classmethod
    @contextlib.contextmanager
    def claim(cls, path: Path | None, data: str, *, overwrite: bool) -> Iterator[RunFolder]:
        """Makes the folder, or finds that it can be written to, before hours are spent on training.

        Without a path it is the first of runs/NAME, runs/NAME-2, ... that does not exist. On the
        way out, folders that were made and stayed empty are removed again.

        Raises:
            InvalidInput: it cannot be written to, or holds results and `overwrite` is not set.
        """
        path = path or _unused(Path("runs"), Path(data).stem)
        folder = cls(path)
        there = [name for name in FILES if (path / name).exists()]
        if there and not overwrite:
            raise InvalidInput(
                f"{path} already holds {', '.join(there)}; choose another --out, or pass "
                "--overwrite"
            )
        made = [p for p in (path, *path.parents) if not p.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise InvalidInput(
                f"{path}: cannot be written to: {error.strerror}; choose another --out"
            ) from None
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):  # the first that is not empty ends it
                for p in made:
                    p.rmdir()

    def save(self, network: Network, history: History, metrics: dict[str, Any]) -> list[str]:
        """Writes all results, the model first; returns what there is to say about them."""
        network.save(self.model)
        self._write("history.csv", _history_csv(history))
        self._write("metrics.json", to_json(metrics) + "\n")
        if importlib.util.find_spec("matplotlib") is None:
            return ["no curves.png: it needs matplotlib, which the extra fused-mlp[plot] installs"]
        from mlp.cli.curves import draw_curves

        self._write("curves.png", draw_curves(history, metrics["data"], metrics["best_epoch"]))
        return []

    def _write(self, name: str, content: str | bytes) -> None:
        # Whether a run may replace results was decided when it claimed the folder.
        write_result(self.path / name, content, overwrite=True)


def _unused(parent: Path, name: str) -> Path:
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(parent / name for name in names if not (parent / name).exists())


def _history_csv(history: History) -> str:
    """One line per epoch; without the seconds, so that equal runs give equal files."""
    names = [name for name in history if name != "seconds"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *names])
    columns = zip(*(history[name] for name in names), strict=True)
    writer.writerows([epoch, *values] for epoch, values in enumerate(columns, start=1))
    return text.getvalue()
