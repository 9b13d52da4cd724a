"""`mlp train`: the main job, from a data set to a folder with a model and how it came about."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

import mlp
from mlp.activations import ACTIVATIONS
from mlp.backends import unavailable_reason
from mlp.callbacks import BestWeights, EarlyStopping
from mlp.cli import plan
from mlp.cli.output import (
    device_option,
    json_option,
    overwrite_option,
    print_json,
    say,
    threads_option,
)
from mlp.cli.progress import Lines, LiveBar
from mlp.cli.run_folder import RunFolder
from mlp.cli.summary import measure, print_summary
from mlp.data.sources import load_data
from mlp.errors import InvalidSetting, TrainingDiverged, require_in, require_positive_int
from mlp.losses import LOSSES, get_loss
from mlp.network import Network
from mlp.optimizers import OPTIMIZERS, get_optimizer
from mlp.schedules import SCHEDULES
from mlp.spec import Dense
from mlp.trainer import Trainer


def _one_of(names: Iterable[str]) -> str:
    return f"{', '.join(names)}."


HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]


@click.command()
@click.argument("data", default="digits")
@click.option("--hidden", default="256,128", show_default=True, help='Hidden widths; "" for none.')
@click.option(
    "--activation",
    default="relu",
    show_default=True,
    metavar="NAME",
    help=_one_of(HIDDEN),
)
@click.option(
    "--loss",
    metavar="NAME",
    help=f"{_one_of(LOSSES)}  [default: cross_entropy for classes, mse for values]",
)
@click.option(
    "--optimizer", default="adam", show_default=True, metavar="NAME", help=_one_of(OPTIMIZERS)
)
@click.option("--learning-rate", type=float, help="[default: the optimizer's]")
@click.option(
    "--schedule", default="constant", show_default=True, metavar="NAME", help=_one_of(SCHEDULES)
)
@click.option("--epochs", default=200, show_default=True, help="At most.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--dropout", default=0.1, show_default=True, help="After every hidden layer.")
@click.option("--weight-decay", default=0.0, show_default=True, help="Decoupled, weights only.")
@click.option(
    "--validation", default=0.2, show_default=True, help="Share of the rows held out; 0 for none."
)
@click.option(
    "--patience",
    default=20,
    show_default=True,
    help="Stop this many epochs after the best; 0: never.",
)
@device_option
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    help="float64, float32, tf32, bfloat16 or float16; `mlp devices` shows which a device has.",
)
@threads_option
@click.option("--seed", default=0, show_default=True, help="Same seed, same model file.")
@click.option("--raw", is_flag=True, help="Do not standardise features and target values.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results. [default: runs/DATA]"
)
@overwrite_option
@click.option("--quiet", is_flag=True, help="No messages and no progress.")
@json_option
def train(**options: Any) -> int:
    """Train a network on DATA and save it.

    DATA is a data set that scikit-learn bundles (digits, iris, wine, breast_cancer, diabetes) or a
    .npz file with arrays X and y: y of integers, booleans or text holds classes, of floats values;
    --loss overrides that. The weights of the epoch with the best validation loss are kept.
    Optimizers and schedules have their default settings here; Python can set them.
    """
    quiet = options["quiet"] or options["as_json"]
    inform = (lambda message: None) if quiet else say
    job = _prepare(options)
    with RunFolder.claim(options["out"], job.data.name, overwrite=options["overwrite"]) as folder:
        inform(job.describe())
        inform(_describe_device(options["device"], job.network))
        return _run(job, folder, options, quiet=quiet)


def _run(job: plan.Job, folder: RunFolder, options: dict[str, Any], *, quiet: bool) -> int:
    """Trains and saves; also what there is when training was cut short. Returns the exit code."""
    trainer = job.trainer
    best = EarlyStopping(patience=options["patience"]) if options["patience"] else BestWeights()
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    progress = [] if quiet else [LiveBar() if on_terminal else Lines()]
    cut: KeyboardInterrupt | TrainingDiverged | None = None
    try:
        trainer.fit(job.X, job.y, options["epochs"], job.validation, callbacks=[best, *progress])
    except (KeyboardInterrupt, TrainingDiverged) as error:
        if best.best_epoch is None:
            raise
        cut = error
    metrics = measure(job, best, stopped=_why(cut, trainer), settings=_settings(options))
    metrics["model"] = str(folder.model)
    notes = folder.save(job.network, trainer.history, metrics)
    if options["as_json"]:
        print_json(metrics)
    else:
        print_summary(metrics, folder.path)
    for note in [] if quiet else [*notes, *_remarks(trainer)]:
        say(note)
    if cut is not None:
        say(f"mlp: {metrics['stopped']}; the best weights so far are in {folder.model}")
    return 0 if cut is None else 130 if isinstance(cut, KeyboardInterrupt) else 1


def _remarks(trainer: Trainer) -> list[str]:
    """What the device did otherwise than one might think."""
    remarks = []
    if trainer.streams:
        remarks.append("the rows did not fit on the device and were fed to it in chunks")
    if trainer.skipped_steps:
        remarks.append(f"{trainer.skipped_steps} steps were skipped: their gradients overflowed")
    return remarks


def _why(cut: BaseException | None, trainer: Trainer) -> str | None:
    """Why training ended before its last epoch, or None."""
    if cut is None:
        return trainer.stopped
    return "interrupted" if isinstance(cut, KeyboardInterrupt) else str(cut)


def _prepare(options: dict[str, Any]) -> plan.Job:
    """All that can fail for a reason of the user's, before anything is written or trained."""
    data = load_data(options["data"])
    loss = get_loss(options["loss"] or plan.default_loss(data))
    share = require_in("--validation", options["validation"], 0, 1, open_high=True)
    if options["patience"] < 0:
        raise InvalidSetting(f"--patience must be 0 or more, not {options['patience']}")
    for name in ("epochs", "batch_size"):
        require_positive_int(option(name), options[name])
    for name in ("learning_rate", "weight_decay"):
        require_in(option(name), options[name] or 0, 0, math.inf, open_high=True)
    require_in("--dropout", options["dropout"], 0, 1, open_high=True)
    target = plan.target_for(data, loss)
    hidden = [
        Dense(width, options["activation"], options["dropout"])
        for width in _widths(options["hidden"])
    ]
    network = Network(
        data.X.shape[1],
        [*hidden, Dense(target.outputs, target.activation)],
        device=options["device"],
        precision=options["precision"],
        seed=options["seed"],
        threads=options["threads"],
    )
    network.classes = target.classes
    network.metadata = {"data": data.name}
    trainer = Trainer(
        network,
        loss,
        get_optimizer(options["optimizer"], options["learning_rate"]),
        batch_size=options["batch_size"],
        schedule=options["schedule"],
        weight_decay=options["weight_decay"],
        seed=options["seed"],
    )
    return plan.Job.prepare(
        data, target, trainer, share, options["seed"], standardize=not options["raw"]
    )


def option(name: str) -> str:
    """The option as it is typed: batch_size is --batch-size."""
    return "--" + name.replace("_", "-")


def _widths(text: str) -> list[int]:
    try:
        widths = [int(width) for width in text.split(",") if width.strip()]
    except ValueError:
        raise InvalidSetting(f"--hidden takes widths like 128,64, not {text!r}") from None
    return [require_positive_int("--hidden", width) for width in widths]


def _describe_device(asked: str, network: Network) -> str:
    name = f"device {network.device}, {network.precision}"
    about = network.backend.about
    if asked != "auto":
        return f"{name} ({about})" if about else name
    why = about or (unavailable_reason("cuda") or "for --threads").split(" (")[0]
    return f"{name} (auto: {why})"


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """What to repeat the run with."""
    kept = {k: v for k, v in options.items() if k not in ("as_json", "quiet", "out", "overwrite")}
    return {**kept, "version": mlp.__version__}
