"""Kernels compiled before they are called, and a word on the terminal if that takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba import typeof
from numba.core import event

_said = False


class _Speaker(event.Listener):  # type: ignore[misc]
    """Numba's event comes only where nothing was found in the cache."""

    def on_start(self, event: Any) -> None:
        global _said
        if not _said and sys.stderr.isatty():
            print(
                "compiling kernels for this processor; later runs find them in the cache",
                file=sys.stderr,
            )
        _said = True

    def on_end(self, event: Any) -> None:
        return None


@contextmanager
def announced() -> Iterator[None]:
    """A context in which the first compilation of the process is announced on a terminal."""
    with event.install_listener("numba:compile", _Speaker()):
        yield


def machine_code(kernel: Any, *arguments: Any) -> Any:
    """A kernel compiled, or loaded, for the types of these arguments; nothing is run.

    A call of the result looks at no types: its arguments must be of these.
    """
    return kernel.compile(tuple(typeof(argument) for argument in arguments))
