"""`python -m bench`: measure, or show what was measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from bench.cases import CASES, GPU_CASES
from bench.entrant import Settings
from bench.gpu import describe, measure
from bench.kernels import KERNELS
from bench.machine import (
    describe_machine,
    describe_source,
    slug,
    slug_of_gpu,
    usable_cores,
    versions,
)
from bench.peers import GPU_PEERS, PEERS
from bench.process import PeerFailed
from bench.progress import progress
from bench.record import Record, UnreadableRecord, read_record
from bench.run import measure_peaks, run_cases
from mlp.errors import InvalidSetting, unknown_name
from mlp.model_file import write_atomically

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
WIDTH = 120  # of the widest table
RESULTS = Path(__file__).parent / "results"

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Measure training and prediction beside other libraries.

    Tables go to stdout, progress to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage,
    130 interrupted.
    """


@cli.command()
@click.option("--cases", help=f"Names, divided by commas. [default: all: {','.join(CASES)}]")
@click.option("--peers", help=f"Names, divided by commas. [default: all: {','.join(PEERS)}]")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True,
              help="Measurements of each peer in each case.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Least length of a measurement.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="For each peer. [default: all cores]")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False),
              help="JSON file, replaced if there; the picture goes beside it. "
              "[default: bench/results/MACHINE-DATE-cpu.json]")  # fmt: skip
def cpu(
    cases: str | None,
    peers: str | None,
    repeats: int,
    seconds: float,
    threads: int | None,
    output: Path | None,
) -> None:
    """Measure on this machine's processor; all cases take about a quarter of an hour."""
    chosen_cases, chosen_peers = pick("case", cases, CASES), pick("peer", peers, PEERS)
    if threads is not None and threads > usable_cores():
        raise InvalidSetting(f"--threads must be at most {usable_cores()}, the cores there are")
    settings = Settings(threads or usable_cores(), repeats, seconds)
    record = new_record(settings)
    path = output or free_path(RESULTS / f"{slug(record.machine)}-{record.date[:10]}-cpu.json")
    with progress() as shown:
        precisions = dict.fromkeys(case.precision for case in chosen_cases)
        record = replace(record, peaks=measure_peaks(precisions, settings, shown))
        for result in run_cases(chosen_cases, chosen_peers, settings, shown):
            record = replace(record, cases=[*record.cases, result])
            record.write(path)  # after each case, so that an interrupt loses only the one it hits
    print_tables(record, path)
    click.echo(f"saved in {path}; {save_picture(record, path.with_suffix('.png'))}")


@cli.command()
@click.option("--cases", help="Names, divided by commas; an unknown one lists them. [default: all]")
@click.option("--peers", help=f"Names, divided by commas. [default: all: {','.join(GPU_PEERS)}]")
@click.option("--only", type=click.Choice(["cases", "kernels"]),
              help="Networks beside the peers, or operations alone. [default: both]")  # fmt: skip
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True,
              help="Measurements of each peer in each case.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Least length of a measurement.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False),
              help="JSON file, replaced if there; the picture goes beside it. "
              "[default: bench/results/GPU-DATE-gpu.json]")  # fmt: skip
def gpu(
    cases: str | None,
    peers: str | None,
    only: str | None,
    repeats: int,
    seconds: float,
    output: Path | None,
) -> None:
    """Measure on the first GPU; all cases take some hours."""
    chosen_cases, chosen_peers = pick("case", cases, GPU_CASES), pick("peer", peers, GPU_PEERS)
    settings = Settings(usable_cores(), repeats, seconds)
    try:
        found = describe(settings)
    except PeerFailed as error:
        raise click.ClickException(f"there is no GPU to measure on: {error}") from error
    beside = latest_cpu_record(RESULTS)
    record = replace(new_record(settings), gpu=found, beside=beside.name if beside else None)
    path = output or free_path(RESULTS / f"{slug_of_gpu(found)}-{record.date[:10]}-gpu.json")
    if only == "kernels":
        chosen_cases = []
    with progress() as shown:
        kernels = [] if only == "cases" else KERNELS
        for longer in measure(record, chosen_cases, chosen_peers, kernels, settings, shown):
            record = longer
            record.write(path)  # after each, so that an interrupt loses only the one it hits
    print_tables(record, path)
    click.echo(f"saved in {path}; {save_picture(record, path.with_suffix('.png'))}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--markdown", is_flag=True, help="As a table for GitHub.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw the picture again, into this PNG file.")  # fmt: skip
def show(file: Path, markdown: bool, picture: Path | None) -> None:
    """Print the tables of a JSON file of an earlier run."""
    from bench.markdown import to_markdown

    record = read_record(file)
    if markdown:
        click.echo(to_markdown(record, record_beside(record, file)))
    else:
        print_tables(record, file)
    if picture is not None:
        click.echo(save_picture(record, picture), err=True)


def pick(kind: str, names: str | None, table: Mapping[str, T]) -> list[T]:
    """The entries of "a,b", in the table's order; all without names.

    Raises:
        InvalidSetting: a name that the table does not have.
    """
    if names is None:
        return list(table.values())
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in table:
            raise unknown_name(kind, name, table)
    return [entry for name, entry in table.items() if name in wanted]


def new_record(settings: Settings) -> Record:
    return Record(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions=versions(),
        source=describe_source(),
        settings=vars(settings),
    )


def free_path(path: Path) -> Path:
    """The path itself, or with the first number after it that is not taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def print_tables(record: Record, path: Path) -> None:
    from rich.console import Console

    from bench.tables import print_record

    print_record(record, Console(), record_beside(record, path))


def latest_cpu_record(folder: Path) -> Path | None:
    """The newest record of a processor in a folder, or None."""
    dates = {path: read_record(path).date for path in sorted(folder.glob("*-cpu*.json"))}
    return max(dates, key=dates.__getitem__) if dates else None


def record_beside(record: Record, path: Path) -> Record | None:
    """The record of a processor that a GPU's record at `path` names, or None if it names none."""
    if record.beside is None:
        return None
    beside = path.parent / record.beside
    return read_record(beside if beside.exists() else RESULTS / record.beside)


def save_picture(record: Record, path: Path) -> str:
    """Draws the picture, and says where it is or why there is none."""
    try:
        from bench.plot import draw

        png = draw(record)
    except ImportError:
        return "no picture: matplotlib is not installed"
    if png is None:
        return "no picture: nothing to compare"
    write_atomically(path, png)
    return f"picture in {path}"


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns its exit code and raises nothing for a user's mistake."""
    try:
        cli.main(list(arguments), prog_name="python -m bench", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return USAGE
    except InvalidSetting as error:
        return _fail(str(error), USAGE)
    except (UnreadableRecord, click.ClickException) as error:
        return _fail(str(error), FAILURE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", FAILURE)
    return OK


def _fail(message: str, code: int) -> int:
    click.echo(f"bench: {message}", err=True)
    return code


def main() -> None:
    sys.exit(run(sys.argv[1:]))
