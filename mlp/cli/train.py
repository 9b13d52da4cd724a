"""`mlp train`: the main job, from a data set to a folder with a model and how it came about."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlp.callbacks import BestWeights, EarlyStopping
from mlp.cli import plan, watching
from mlp.cli.output import print_json, say
from mlp.cli.progress import Lines, LiveBar
from mlp.cli.run_folder import RunFolder
from mlp.cli.summary import measure, print_summary
from mlp.cli.train_job import describe, prepare
from mlp.cli.train_options import settings, training_options
from mlp.errors import InvalidInput, TrainingDiverged
from mlp.trainer import Trainer


@click.command()
@click.argument("data", default="digits")
@training_options
def train(**options: Any) -> int:
    """Train a network on DATA and save it.

    DATA is a table whose column --target is to be learned from the others: a .csv, .tsv, .parquet,
    .feather or .arrow file, or a folder of .parquet files. Or it is a data set that scikit-learn
    bundles (digits, iris, wine, breast_cancer, diabetes), a .npz file with arrays X and y, or a
    .npy file with X and another, --target, with y. Text, booleans and few different whole numbers
    are learned as classes, other numbers as values; --task overrides that. The weights of the epoch
    with the best validation loss are kept. Optimizers and schedules have their default settings
    here; Python can set them.
    """
    quiet = options["quiet"] or options["as_json"]
    inform = (lambda message: None) if quiet else say
    watching.check(options)
    job = prepare(options, quiet=quiet)
    if options["find_learning_rate"]:
        inform(describe(job, options["device"]))
        return watching.show_learning_rates(job, as_json=options["as_json"])
    with RunFolder.claim(options["out"], job.data.name, overwrite=options["overwrite"]) as folder:
        inform(describe(job, options["device"]))
        return _run(job, folder, options, quiet=quiet)


def _run(job: plan.Job, folder: RunFolder, options: dict[str, Any], *, quiet: bool) -> int:
    """Trains and saves; also what there is when training was cut short. Returns the exit code."""
    trainer = job.trainer
    patience = options["patience"]
    best = EarlyStopping(patience, stop_if_diverged=False) if patience else BestWeights()
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    progress = [] if quiet else [LiveBar() if on_terminal else Lines()]
    callbacks = [best, *watching.watchers(options, job), *progress]
    cut: KeyboardInterrupt | TrainingDiverged | InvalidInput | None = None
    try:
        trainer.fit(job.X, job.y, options["epochs"], job.validation, callbacks=callbacks)
    except (KeyboardInterrupt, TrainingDiverged, InvalidInput) as error:
        if best.best_epoch is None:
            raise
        cut = error
    stopped = _why(cut, trainer)
    # Rows that are read for it are not read once more when there is no time, or they cannot be.
    whole = cut is None or job.y is not None
    metrics = measure(job, best, stopped=stopped, settings=settings(options), on_training=whole)
    metrics["model"] = str(folder.model)
    notes = folder.save(job.network, trainer.history, metrics)
    notes += watching.report(options, job, callbacks, stopped)
    if options["as_json"]:
        print_json(metrics)
    else:
        print_summary(metrics, folder.path)
    for note in [] if quiet else [*notes, *_remarks(job)]:
        say(note)
    if cut is not None:
        say(f"mlp: {metrics['stopped']}; the best weights so far are in {folder.model}")
    return 0 if cut is None else 130 if isinstance(cut, KeyboardInterrupt) else 1


def _remarks(job: plan.Job) -> list[str]:
    """What the device did otherwise than one might think."""
    remarks, trainer = [], job.trainer
    if trainer.streams and job.y is not None:
        remarks.append("the rows did not fit on the device and were fed to it in chunks")
    if trainer.skipped_steps:
        remarks.append(f"{trainer.skipped_steps} steps were skipped: their gradients overflowed")
    return remarks


def _why(cut: BaseException | None, trainer: Trainer) -> str | None:
    """Why training ended before its last epoch, or None."""
    if cut is None:
        return trainer.stopped
    return "interrupted" if isinstance(cut, KeyboardInterrupt) else str(cut)
