"""What `mlp train` writes beside the run folder, if asked: a report, logs; and the stop file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mlp.callbacks import Callback, CSVLog, JSONLinesLog, NormsLog, StopFile, TensorBoard
from mlp.cli.output import print_json, require_other
from mlp.cli.plan import Job
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput, InvalidSetting

LOGS: dict[str, type[CSVLog] | type[JSONLinesLog]] = {
    ".csv": CSVLog,
    ".jsonl": JSONLinesLog,
    ".ndjson": JSONLinesLog,
}
MOST_COLUMNS = 40  # named in a report

WATCHING: list[Callable[[Any], Any]] = [
    click.option(
        "--report", type=click.Path(), help="Write a page about the run to this HTML file."
    ),
    click.option(
        "--log",
        type=click.Path(),
        help="Write a line per epoch, as it ends, to this .csv or .jsonl file.",
    ),
    click.option("--tensorboard", type=click.Path(), help="Write TensorBoard's events here."),
    click.option(
        "--stop-file",
        type=click.Path(),
        help="End after the epoch in which this file appears.",
    ),
    click.option(
        "--find-learning-rate",
        is_flag=True,
        help="Only try rates on a few steps, and show what the loss does; nothing is saved.",
    ),
]
NAMES = ("report", "log", "tensorboard", "stop_file", "find_learning_rate")


def check(options: dict[str, Any]) -> None:
    """Finds out before data is read what could not be written when training has ended.

    Raises:
        InvalidInput: a file is there already, and --overwrite is not given; or is a folder, or
            the data.
        InvalidSetting: a log of an unknown kind, or tensorboardX is not installed.
    """
    if options["log"] is not None and Path(options["log"]).suffix.lower() not in LOGS:
        raise InvalidSetting(f"--log takes a .csv or .jsonl file, not {options['log']}")
    for name in ("report", "log"):
        if options[name] is None:
            continue
        path = Path(options[name])
        if path.is_dir():
            raise InvalidInput(f"{path}: a folder; --{name} takes a file")
        require_other(path, options["data"], *options["target"])
        there = path.exists()
        if there and name == "log":  # a run that never began leaves an empty one
            there = path.stat().st_size > 0
        if there and not options["overwrite"]:
            raise InvalidInput(f"{path} already exists; pass --overwrite to replace it")
    if options["tensorboard"] is not None:
        TensorBoard(options["tensorboard"])


def watchers(options: dict[str, Any], job: Job) -> list[Callback]:
    """The callbacks that the options ask for; makes the folders of their files.

    Raises:
        InvalidInput: a folder cannot be made.
    """
    for name in NAMES[:2]:
        if options[name] is not None:
            _make_folder(Path(options[name]).parent)
    found: list[Callback] = []
    norms = NormsLog(job.X, job.y) if options["report"] or options["tensorboard"] else None
    if norms is not None:
        found.append(norms)
    if options["log"] is not None:
        path = Path(options["log"])
        found.append(LOGS[path.suffix.lower()](path, overwrite=options["overwrite"]))
    if options["tensorboard"] is not None:
        found.append(TensorBoard(options["tensorboard"], norms))
    if options["stop_file"] is not None:
        found.append(StopFile(options["stop_file"]))
    return found


def show_learning_rates(job: Job, *, as_json: bool) -> int:
    """Prints what a range test finds; returns the exit code."""
    from mlp.learning_rate_finder import find_learning_rate

    curve = find_learning_rate(job.trainer, job.X, job.y)
    if as_json:
        print_json(
            {
                "suggested": curve.suggested,
                "steepest": curve.steepest,
                "lowest_loss": curve.lowest_loss,
                "diverged": curve.diverged,
                "rates": curve.rates.tolist(),
                "losses": curve.losses.tolist(),
                "smoothed": curve.smoothed.tolist(),
            }
        )
    else:
        click.echo(str(curve))
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be made: {error.strerror}") from error


def report(
    options: dict[str, Any], job: Job, callbacks: list[Callback], stopped: str | None
) -> list[str]:
    """Writes the page if it was asked for; returns what there is to say about it."""
    if options["report"] is None:
        return []
    from mlp.report import write_report

    columns = job.network.preprocessing
    data = {"source": job.data.name, "rows": job.describe_rows(), "target": job.data.how}
    if isinstance(columns, TablePreprocessor):
        names = [f"{column.name} ({column.kind})" for column in columns.columns]
        rest = len(names) - MOST_COLUMNS
        data["columns"] = ", ".join(names[:MOST_COLUMNS]) + (f", {rest} more" if rest > 0 else "")
    write_report(
        options["report"],
        job.trainer,
        job.X,
        job.y,
        job.validation,
        callbacks=callbacks,
        title=job.data.name,
        outputs=job.data.target if len(job.data.target) == job.network.spec.outputs else None,
        details={"Data": {name: value for name, value in data.items() if value}},
        command=command_line(click.get_current_context()),
        stopped=stopped,
    )
    return [f"report in {options['report']}"]


def command_line(context: click.Context) -> str:
    """The command as it was given: its arguments, and the options that were typed."""
    words = context.command_path.split()
    for parameter in sorted(context.command.params, key=lambda p: isinstance(p, click.Option)):
        name = parameter.name or ""
        value = context.params.get(name)
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        values = value if isinstance(value, tuple) else (value,)
        for one in values:
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[0])
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                words.append(str(one))
    return shlex.join(words)
