"""What the subcommands share: where they write, how they name devices, what they keep safe."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from mlp.data.sources import BUNDLED
from mlp.data.tables import PARQUET
from mlp.errors import InvalidInput
from mlp.losses import Loss
from mlp.model_file import atomic_file
from mlp.network import Network

Command = TypeVar("Command", bound=Callable[..., Any])


def device_option(command: Command) -> Command:
    return click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, numpy, cuda or cuda:N."
    )(command)


def precision_option(command: Command) -> Command:
    return click.option(
        "--precision",
        help="What the model computes in: float32 works everywhere. [default: its own]",
    )(command)


def threads_option(command: Command) -> Command:
    return click.option(
        "--threads",
        type=int,
        help="Most threads on the CPU; no result depends on it. [default: all]",
    )(command)


def json_option(command: Command) -> Command:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else."
    )(command)


def overwrite_option(command: Command) -> Command:
    return click.option(
        "--overwrite", is_flag=True, help="Replace results that are already there."
    )(command)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun: 1 row, 2 rows."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def short(value: float | None) -> str:
    """A number for a table or a progress line: four decimals where they say something."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def say(message: str) -> None:
    """A message for the person at the terminal, on stderr."""
    click.echo(message, err=True)


def print_json(value: dict[str, Any]) -> None:
    """The one JSON object on stdout; numbers that JSON lacks become null."""
    click.echo(to_json(value))


def to_json(value: dict[str, Any]) -> str:
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_result(path: Path, content: str | bytes, *, overwrite: bool) -> None:
    """Writes a result file whole or not at all, and never over another unless asked.

    Raises:
        InvalidInput: the file exists, or cannot be written.
    """
    with result_file(path, overwrite=overwrite) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def result_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """`write_result` of what is written to the file that this gives."""
    if path.is_dir():
        raise InvalidInput(f"{path}: a folder; name a file")
    if path.exists() and not overwrite:
        raise InvalidInput(f"{path} already exists; pass --overwrite to replace it")
    try:
        with atomic_file(path) as file:
            yield file
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error


def require_other(path: Path | None, *sources: str | Path | None) -> None:
    """Raises InvalidInput where a result would go over what is read, which --overwrite never means.

    A Parquet file in a folder that is read counts, since it would be read with it the next time.
    """
    for source in sources:
        if path is None or source is None or str(source) in BUNDLED:
            continue
        read, written = Path(source).resolve(), path.resolve()
        if written == read or (written.parent == read and written.suffix.lower() in PARQUET):
            raise InvalidInput(f"{path}: {source} is what is read; name another file to write")


def loss_of(network: Network, model: Path) -> Loss:
    """The loss that a model was trained with; raises InvalidInput where it was never trained."""
    if network.loss is None:
        raise InvalidInput(f"{model}: the network was saved untrained, so its loss is not known")
    return network.loss
