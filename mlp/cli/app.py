"""The subcommands put together, and errors turned into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

import mlp
from mlp.cli.devices import devices
from mlp.cli.explain import explain
from mlp.cli.export import export
from mlp.cli.gradcheck import gradcheck
from mlp.cli.predict import predict
from mlp.cli.train import train
from mlp.cli.verify import verify
from mlp.errors import InvalidSetting, MLPError

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(mlp.__version__, prog_name="mlp", message="%(prog)s %(version)s")
def cli() -> None:
    """Train, use and understand multi-layer perceptrons.

    Results go to stdout, messages to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage,
    130 interrupted.
    """


for command in (train, predict, export, verify, explain, gradcheck, devices):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns its exit code and raises nothing for a user's mistake."""
    try:
        code = cli.main(list(arguments), prog_name="mlp", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written should be found out here, not at exit
    except click.UsageError as error:
        error.show()
        return USAGE
    except InvalidSetting as error:
        return _fail(str(error), USAGE)
    except MLPError as error:
        return _fail(str(error), FAILURE)
    except click.ClickException as error:
        return _fail(error.format_message(), FAILURE)
    except MemoryError as error:
        return _fail(f"out of memory: {error}; use a smaller batch or network", FAILURE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout went away (`mlp ... | head`); keep the exit from complaining again.
        _discard_stdout()
        return FAILURE
    except OSError as error:
        _discard_stdout()
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", FAILURE)
    return code if isinstance(code, int) else OK


def _discard_stdout() -> None:
    """Sends what is still buffered nowhere, so that Python's exit does not fail over it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    click.echo(f"mlp: {message}", err=True)
    return code
