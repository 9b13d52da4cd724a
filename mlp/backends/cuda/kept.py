"""Measured choices of one device in the user's cache directory, for later runs of any process."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlp.model_file import write_atomically
from mlp_kernels.cuda.tune import Measured, Table, read_table

FOLDER_VARIABLE = "MLP_CACHE_DIR"


def cache_folder() -> Path:
    """Where this package keeps what it can find out again: MLP_CACHE_DIR, or the system's custom.

    Raises:
        RuntimeError: the user has no home directory.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "fused-mlp" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fused-mlp"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "fused-mlp"


class KeptChoices:
    """A table in a file of the cache directory, which other processes may use at the same time.

    Args:
        empty: a table of the device and the kernels, without entries.
        features: words for what more there is to choose from than elsewhere. Each device, digest of
            the kernels and set of features has a file.
        remark: told in one sentence of a file that cannot be read or written.
    """

    def __init__(
        self, empty: Table, features: Sequence[str], remark: Callable[[str], None]
    ) -> None:
        self._empty, self._remark = empty, remark
        self.path: Path | None = None
        try:
            self.path = cache_folder() / "cuda" / _file_name(empty, features)
        except RuntimeError as error:
            remark(f"choices of kernels are not kept: {error}; set {FOLDER_VARIABLE} to a folder")
        self.table = self._read()

    def add(self, key: str, entry: Measured) -> None:
        """Keeps an entry, and all that other processes have kept meanwhile."""
        self.table.entries[key] = entry
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path.with_suffix(".lock")):
                entries = {**self._read().entries, **self.table.entries}
                self.table.entries = entries
                text = json.dumps(self.table.to_json(), indent=1)
                write_atomically(self.path, text.encode())
        except OSError as error:
            self._remark(f"{self.path}: choices cannot be kept there ({error.strerror or error})")

    def _read(self) -> Table:
        """What the file holds; an empty table where there is none, or one that is broken."""
        nothing = Table(self._empty.device, self._empty.capability, self._empty.kernels)
        if self.path is None:
            return nothing
        try:
            found = read_table(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return nothing
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            self._remark(f"{self.path}: not readable, so choices are made anew ({reason})")
            return nothing
        nothing.entries = found.entries
        return nothing


def _file_name(table: Table, features: Sequence[str]) -> str:
    """nvidia-h100-80gb-9.0-1a2b3c4d5e6f-cublaslt.json"""
    device = re.sub(r"[^a-z0-9]+", "-", table.device.lower()).strip("-")
    capability = ".".join(map(str, table.capability))
    kernels = table.kernels.removeprefix("0x")
    return "-".join((device, capability, kernels, *features)) + ".json"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock between processes, where the system has one; raises OSError."""
    try:
        import fcntl
    except ImportError:  # not on Windows: an entry of the same moment may then be measured again
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
