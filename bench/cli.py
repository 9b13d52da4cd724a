"""`python -m bench`: measure, or show what was measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from bench.cases import CASES
from bench.entrant import Settings
from bench.machine import describe_machine, describe_source, slug, usable_cores, versions
from bench.peers import PEERS
from bench.progress import progress
from bench.record import Record, UnreadableRecord, read_record
from bench.run import measure_peaks, run_cases
from mlp.errors import InvalidSetting, unknown_name
from mlp.model_file import write_atomically

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
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
    print_tables(record)
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
        click.echo(to_markdown(record))
    else:
        print_tables(record)
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


def print_tables(record: Record) -> None:
    from rich.console import Console

    from bench.tables import print_record

    print_record(record, Console())


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
