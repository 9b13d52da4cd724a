"""`mlp train` on data that is larger than the memory it may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends import precision_dtype
from mlp.cli import plan
from mlp.cli.input import reading
from mlp.cli.output import count
from mlp.data.blocks import ArrayBlocks, open_npy, row_count
from mlp.data.dataset import Dataset
from mlp.data.memory import as_bytes, default_limit, in_words
from mlp.data.parquet_blocks import ParquetBlocks, decoded_bytes
from mlp.data.placing import Preprocessing
from mlp.data.survey import TargetSurvey, survey
from mlp.data.tables import PARQUET
from mlp.data.targets import check_task
from mlp.errors import InvalidInput, InvalidSetting
from mlp.losses import Loss, get_loss
from mlp.streaming import PROCESS_BYTES, room_to_keep
from mlp.trainer import Trainer

Source = ParquetBlocks | ArrayBlocks


@dataclass(frozen=True)
class StreamedJob(plan.Job):
    """A job whose training rows are read in blocks; y is None, for they bring their own.

    Attributes:
        remarks: what is different from training in memory, one sentence each.
    """

    remarks: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return row_count(self.X)

    def describe(self) -> str:
        return "\n".join([*self.remarks, super().describe()])


def memory_limit(options: dict[str, Any]) -> int | None:
    """The bytes of --memory-limit, or None for the default."""
    given = options["memory_limit"]
    return None if given is None else as_bytes(given, "--memory-limit")


def too_large(options: dict[str, Any]) -> Source | None:
    """The data as blocks if it does not fit in the memory that may be used, else None.

    Raises:
        InvalidSetting: it is too large, of a kind that is read as a whole.
        InvalidInput: it is too large, and cannot be read.
    """
    limit, path = memory_limit(options), Path(options["data"])
    room = (default_limit() if limit is None else limit) - PROCESS_BYTES
    itemsize = precision_dtype(options["precision"]).itemsize
    kind = path.suffix.lower()
    if path.is_dir() or (kind in PARQUET and path.is_file()):
        return _parquet(path, options) if _exceeds(path, room, itemsize) else None
    if kind == ".npy" and path.is_file():
        return _arrays(path, options, room, itemsize)
    if limit is not None and path.is_file() and path.stat().st_size > max(room, 0):
        raise InvalidSetting(
            f"{path}: its {in_words(path.stat().st_size)} do not fit in --memory-limit "
            f"{in_words(limit)}, and only Parquet and .npy files are read in parts; convert it"
        )
    return None


def _exceeds(path: Path, room: int, itemsize: int) -> bool:
    try:
        table = decoded_bytes(path)
    except InvalidInput:
        return False  # whoever reads it as a whole says what is wrong
    # The table, the same split in two parts, and their features in the network's dtype.
    return (2 + itemsize / 8) * table > room


def _parquet(path: Path, options: dict[str, Any]) -> ParquetBlocks:
    targets = options["target"]
    if not targets:
        raise InvalidSetting(f"{path}: name the column to learn with --target")
    return ParquetBlocks(path, targets, drop=options["drop"])


def _arrays(path: Path, options: dict[str, Any], room: int, itemsize: int) -> ArrayBlocks | None:
    if len(options["target"]) != 1 or options["drop"]:
        return None  # whoever reads it as a whole says what is wrong
    try:
        X, y = open_npy(path), open_npy(Path(options["target"][0]))
    except InvalidInput:
        return None
    if X.ndim != 2 or 2 * X.nbytes + X.size * itemsize <= room:
        return None
    return ArrayBlocks(X, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, name=str(path))


# Data, target, loss, preprocessing and number of features -> a trainer.
MakeTrainer = Callable[[Dataset, plan.Target, Loss, Preprocessing | None, int], Trainer]


def prepare(
    source: Source,
    options: dict[str, Any],
    loss: Loss | None,
    make_trainer: MakeTrainer,
    *,
    quiet: bool,
) -> StreamedJob:
    """The job of data in blocks: one pass for statistics, classes, and the rows held out."""
    limit, rows = memory_limit(options), row_count(source)
    share, remarks = _share(source, options)
    task = check_task(plan.task_of(loss, options["task"], named=bool(options["target"])))
    with reading(source.name, quiet=quiet) as progress:
        found = survey(
            source, share, options["seed"], task=task, standardize=not options["raw"],
            progress=progress,
        )  # fmt: skip
    data = _described(source, found.target)
    loss = loss or get_loss(plan.default_loss(data))
    target = plan.target_for(data, loss)
    inputs = getattr(found.preprocessing, "inputs", None) or source.features
    trainer = make_trainer(data, target, loss, found.preprocessing, inputs)
    _fit_outputs(trainer, found.target, standardize=not options["raw"])
    shown = in_words(default_limit() if limit is None else limit)
    remarks = (
        f"{source.name}: too large to be trained on within {shown} of memory as a whole, so its "
        f"{rows:,} rows are read in {count(len(source.sizes), 'block')} as they are needed, and "
        "shuffled within windows",
        *remarks,
    )
    return StreamedJob(data, target, trainer, found.training, None, found.validation, remarks)


def _share(source: Source, options: dict[str, Any]) -> tuple[float, tuple[str, ...]]:
    """The share of the rows that is held out, and what is to be said of it."""
    asked, rows = float(options["validation"]), row_count(source)
    width = sum(source.bytes_of(k) for k in range(len(source.sizes))) / rows
    most = room_to_keep(memory_limit(options)) / (2 * width + 1)  # as they are, and as features
    if asked * rows <= most:
        return asked, ()
    share = most / rows
    return share, (
        f"{source.name}: {share:.2%} of the rows are held out, not {asked:.2%}: as many as can "
        "stay in memory",
    )


def _described(source: Source, target: TargetSurvey) -> Dataset:
    """A data set whose target stands for the whole one by a row of each kind; it has no rows."""
    tables = isinstance(source, ParquetBlocks)
    names = source.target if isinstance(source, ParquetBlocks) else ()
    how = target.how if tables else ""
    if target.is_classes:
        classes = target.classes
        y = np.asarray(classes)
        return Dataset(source.name, None, y, "classification", classes, target=names, how=how)
    y = target.means if target.width is None else target.means[None, :]
    return Dataset(source.name, None, y, target.task or "regression", None, target=names, how=how)


def _fit_outputs(trainer: Trainer, target: TargetSurvey, *, standardize: bool) -> None:
    """`plan.fit_outputs`, from the moments of the target."""
    if trainer.loss.targets == "counts":
        plan.start_at_mean_count(trainer.network, target.means[None, :])
    elif trainer.loss.targets == "values" and standardize:
        trainer.network.target_scaler = target.scaler
