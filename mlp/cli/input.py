"""What the subcommands share where they read data: options, progress, a model's kind of rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mlp.cli.output import Command, say
from mlp.data.arrow import is_table, kind_of, numbers
from mlp.data.dataset import Dataset
from mlp.data.reading import Progress, ignore
from mlp.data.sources import BUNDLED, load_data
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.data.tables import is_table_path
from mlp.errors import InvalidInput, InvalidSetting
from mlp.network import Network

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

# Files that are read in less say nothing.
QUIET_SECONDS = 1.0
SECONDS_PER_LINE = 5.0


def table_options(command: Command) -> Command:
    """How CSV files are written, where it is not as usual."""
    encoding = click.option(
        "--encoding", default="utf-8", show_default=True, help="Of a CSV file, such as latin-1."
    )
    separator = click.option(
        "--separator", metavar="CHARACTER", help="Of a CSV file.  [default: comma; tab in a .tsv]"
    )
    return separator(encoding(command))


def true_values_options(command: Command) -> Command:
    """For commands on a model: where the true values are, and how a CSV file is written."""
    target = click.option(
        "--target",
        multiple=True,
        metavar="COLUMN",
        help="The column of a table with the true values; of a .npy file the file with them.  "
        "[default: that of training]",
    )
    return target(table_options(command))


@contextmanager
def reading(source: object, *, quiet: bool = False) -> Iterator[Progress]:
    """A Progress that shows, on stderr, how far a file is read, once that has taken a second."""
    if quiet:
        yield ignore
        return
    shown = _Reading(str(source))
    try:
        yield shown
    finally:
        shown.close()


class _Reading:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next = time.monotonic() + QUIET_SECONDS
        self.bar: Bar | None = None

    def __call__(self, done: int, total: int) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() >= self.next:
            self.next = time.monotonic() + SECONDS_PER_LINE
            if sys.stderr is not None and sys.stderr.isatty():
                self.bar = _bar(self.name, done, total)
            else:
                share = done / max(total, 1)
                say(
                    f"reading {self.name}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({share:.0%})"
                )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _bar(name: str, done: int, total: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("reading {task.description}"),
        BarColumn(bar_width=16),
        DownloadColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    bar.add_task(name, total=total, completed=done)
    bar.start()
    return bar


def data_for(
    network: Network,
    model: Path,
    source: str | None,
    *,
    need_target: bool,
    target: Sequence[str] = (),
    separator: str | None = None,
    encoding: str = "utf-8",
    quiet: bool = False,
) -> Dataset:
    """The data set named on the command line, or the bundled one that the model was trained on.

    Its X is what the network's methods take. A table's columns hold what they held in training,
    even where a CSV file would be read otherwise.

    Args:
        target: columns with the true values; by default those that the model was trained on.

    Raises:
        InvalidSetting: none was named, and the model was trained on a file.
        InvalidInput: it cannot be read, or lacks the target, which is needed.
    """
    if source is None:
        source = network.metadata.get("data")
        if source not in BUNDLED:
            raise InvalidSetting(f"{model} was not trained on a bundled data set; name the DATA")
    table = source not in BUNDLED and is_table_path(Path(source))
    columns = network.preprocessing
    trained_on = network.metadata.get("target") if table else None
    targets = [*target] or [str(name) for name in trained_on or ()]
    text = [c.name for c in getattr(columns, "columns", ()) if c.kind == "category"]
    if network.classes is not None and isinstance(network.classes[0], str):
        text += targets
    with reading(source, quiet=quiet) as progress:
        # Columns that the model does not take may hold anything.
        found = load_data(
            source, target=targets or None, need_target=need_target and not table,
            separator=separator, encoding=encoding, text_columns=text, progress=progress,
        )  # fmt: skip
    if need_target and found.y is None:
        named = ", ".join(f"'{name}'" for name in targets)
        raise InvalidInput(
            found.note or f"{found.name} lacks the target {named}" if targets
            else f"{found.name}: which column holds the true values is not known"
        )  # fmt: skip
    if is_table(found.X) and not isinstance(columns, TablePreprocessor):
        if not quiet:
            say(f"{model} names no columns: those of {found.name} are taken in their order")
        found = replace(found, X=_as_array(found))
    return found


def _as_array(data: Dataset) -> Any:
    """The columns of a table side by side (N, I), for a network that was trained on arrays."""
    columns = []
    for field in data.X.schema:
        if kind_of(field.name, field.type) not in ("number", "boolean"):
            raise InvalidInput(
                f"{data.name}: column '{field.name}' holds {field.type}, but the model was trained "
                "on arrays of numbers"
            )
        columns.append(numbers(data.X.column(field.name)))
    return np.column_stack(columns)
