"""What the readers of files share: progress, and a library's complaint as half a sentence."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TypeAlias

# Called with the bytes read so far, and those there are to read.
Progress: TypeAlias = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """The Progress of nobody who looks."""


class Counted:
    """A binary file that reports how far it was read; what `pyarrow.PythonFile` reads from."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._file = path.open("rb")
        self._progress, self._done = progress, 0
        self._total = path.stat().st_size

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._done += len(content)
        self._progress(self._done, self._total)
        return content

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()


# Seconds to wait for the threads of a reader to let go of a file that is closed.
LONGEST_READ = 2.0


def counted(path: Path, progress: Progress) -> tuple[Counted, Event]:
    """A file, and the event that nothing holds it any more.

    pyarrow's threads read ahead, and may hold a file for a moment after the reader has returned. A
    process that ends in that moment is aborted, since they come back to a Python that is gone.
    """
    let_go = Event()
    file = Counted(path, progress)
    weakref.finalize(file, let_go.set).atexit = False
    return file, let_go


def reason(error: BaseException) -> str:
    """A library's message as the end of a sentence: its first line, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
