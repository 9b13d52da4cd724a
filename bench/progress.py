"""What is running now, and for how long yet, on stderr: a live line on a terminal, else lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# Over which the time left is estimated, in seconds: cases differ by more than a minute does.
ESTIMATE_OVER = 600


class Progress:
    """Plain lines, one for each thing that begins."""

    def expect(self, steps: int) -> None:
        """How often `advance` will be called."""

    def now(self, what: str) -> None:
        click.echo(what, err=True)

    def advance(self) -> None:
        """One step is done."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Silent(Progress):
    """For tests."""

    def now(self, what: str) -> None:
        pass


class LiveLine(Progress):
    """One line that is redrawn: bar, steps, time left, and what runs now."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar: RichProgress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
            console=Console(file=sys.stderr),
            speed_estimate_period=ESTIMATE_OVER,
            transient=True,
        )
        self.task = self.bar.add_task("", total=None)

    def expect(self, steps: int) -> None:
        self.bar.update(self.task, total=steps)

    def now(self, what: str) -> None:
        self.bar.update(self.task, description=what)

    def advance(self) -> None:
        self.bar.advance(self.task)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()


def progress() -> Progress:
    return LiveLine() if sys.stderr.isatty() else Progress()
