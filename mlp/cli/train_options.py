"""The options of `mlp train`, and what their values have to be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

import mlp
from mlp.activations import ACTIVATIONS
from mlp.cli.input import table_options
from mlp.cli.output import (
    Command,
    device_option,
    json_option,
    overwrite_option,
    threads_option,
)
from mlp.cli.watching import NAMES, WATCHING
from mlp.errors import InvalidSetting, require_in, require_positive_int
from mlp.losses import LOSSES
from mlp.optimizers import OPTIMIZERS
from mlp.schedules import SCHEDULES


def _one_of(names: Iterable[str]) -> str:
    return f"{', '.join(names)}."


HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]

Option = Callable[[Any], Any]

DATA: list[Option] = [
    click.option(
        "--target",
        multiple=True,
        metavar="COLUMN",
        help="The column of a table to learn; repeated, several columns of numbers. Of a .npz file "
        "its array, of a .npy file another such file.",
    ),
    click.option(
        "--task",
        metavar="NAME",
        help="classification or regression.  [default: as the target says]",
    ),
    click.option(
        "--drop",
        multiple=True,
        metavar="COLUMN",
        help="Leave this column of a table out; may be repeated.",
    ),
    table_options,
    click.option(
        "--validation",
        default=0.2,
        show_default=True,
        help="Share of the rows held out; 0 for none.",
    ),
    click.option("--raw", is_flag=True, help="Do not standardise features and target values."),
]
NETWORK: list[Option] = [
    click.option(
        "--hidden", default="256,128", show_default=True, help='Hidden widths; "" for none.'
    ),
    click.option(
        "--activation", default="relu", show_default=True, metavar="NAME", help=_one_of(HIDDEN)
    ),
    click.option("--dropout", default=0.1, show_default=True, help="After every hidden layer."),
]
TRAINING: list[Option] = [
    click.option(
        "--loss",
        metavar="NAME",
        help=f"{_one_of(LOSSES)}  [default: cross_entropy for classes, mse for values]",
    ),
    click.option(
        "--optimizer", default="adam", show_default=True, metavar="NAME", help=_one_of(OPTIMIZERS)
    ),
    click.option("--learning-rate", type=float, help="[default: the optimizer's]"),
    click.option(
        "--schedule", default="constant", show_default=True, metavar="NAME", help=_one_of(SCHEDULES)
    ),
    click.option("--epochs", default=200, show_default=True, help="At most."),
    click.option("--batch-size", default=32, show_default=True),
    click.option("--weight-decay", default=0.0, show_default=True, help="Decoupled, weights only."),
    click.option(
        "--patience",
        default=20,
        show_default=True,
        help="Stop this many epochs after the best; 0: never.",
    ),
    click.option("--seed", default=0, show_default=True, help="Same seed, same model file."),
]
MACHINE: list[Option] = [
    device_option,
    click.option(
        "--precision",
        default="float32",
        show_default=True,
        help="float64, float32, tf32, bfloat16 or float16; `mlp devices` shows which a device has.",
    ),
    threads_option,
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Most memory of the process, as in 2GB; more data is read in parts as it is needed: "
        "Parquet files and folders, .npy files.  [default: half of what there is]",
    ),
]
RESULTS: list[Option] = [
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for the results. [default: runs/DATA]",
    ),
    overwrite_option,
    click.option("--quiet", is_flag=True, help="No messages and no progress."),
    json_option,
]


def training_options(command: Command) -> Command:
    """All options of `mlp train`, in the order in which `--help` shows them."""
    for option in reversed([*DATA, *NETWORK, *TRAINING, *MACHINE, *RESULTS, *WATCHING]):
        command = option(command)
    return command


def typed(name: str) -> str:
    """The option as it is typed: batch_size is --batch-size."""
    return "--" + name.replace("_", "-")


def check(options: dict[str, Any]) -> None:
    """Raises InvalidSetting for a number out of its range, before any data is read."""
    require_in("--validation", options["validation"], 0, 1, open_high=True)
    if options["patience"] < 0:
        raise InvalidSetting(f"--patience must be 0 or more, not {options['patience']}")
    for name in ("epochs", "batch_size"):
        require_positive_int(typed(name), options[name])
    for name in ("learning_rate", "weight_decay"):
        require_in(typed(name), options[name] or 0, 0, math.inf, open_high=True)
    require_in("--dropout", options["dropout"], 0, 1, open_high=True)


def widths(text: str) -> list[int]:
    """The widths of --hidden; raises InvalidSetting where they are none."""
    try:
        found = [int(width) for width in text.split(",") if width.strip()]
    except ValueError:
        raise InvalidSetting(f"--hidden takes widths like 128,64, not {text!r}") from None
    return [require_positive_int("--hidden", width) for width in found]


LEFT_OUT = ("as_json", "quiet", "out", "overwrite", *NAMES)  # no result depends on them


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """What to repeat the run with."""
    kept = {k: v for k, v in options.items() if k not in LEFT_OUT}
    return {**kept, "version": mlp.__version__}
