"""Model files: tensors and one JSON document in a safetensors file; nothing in it can execute.

Files are written beside their final place and moved there in one step, so that an interrupt or a
full disk leaves either the old file or the new one, never half of one. The same model gives the
same bytes: no time stamp, and one metadata entry, since safetensors writes several in any order.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.errors import ModelFileError

# What versions before columns cannot read is written in format 2: they would leave them out.
FORMAT, WITH_COLUMNS = 1, 2
_KEY = "fused_mlp"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that `path` is always whole; raises OSError where it cannot be written."""
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` when the context ends without an error."""
    path = path.resolve()  # a link stays one: what it points to is replaced
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result has the permissions of the one that it replaces, or
        # those of any new file.
        Path(temporary).chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else _new_mode())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _new_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_model(path: Path, tensors: dict[str, HostArray], document: dict[str, Any]) -> None:
    """Writes tensors and a JSON document to a model file.

    Raises:
        ModelFileError: the file cannot be written.
    """
    from safetensors.numpy import save

    try:
        written = WITH_COLUMNS if "columns" in document else FORMAT
        text = json.dumps({"format": written, **document}, sort_keys=True)
    except TypeError as error:
        raise ModelFileError(f"{path}: cannot be written: {error}; use what JSON holds") from None
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata={_KEY: text})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written: {error.strerror}") from error


def read_model(path: Path) -> tuple[dict[str, HostArray], dict[str, Any]]:
    """The tensors and the document of a model file.

    Raises:
        ModelFileError: missing, damaged, or not written by this package; says which.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise ModelFileError(f"{path}: {what}; a model file was expected")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable model file ({error})") from None
    try:
        document = json.loads(metadata[_KEY])
        written = document["format"]
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(f"{path}: a safetensors file, but not one that mlp wrote") from None
    if written not in (FORMAT, WITH_COLUMNS):
        raise ModelFileError(
            f"{path}: written in format {written}, but this version reads formats {FORMAT} and "
            f"{WITH_COLUMNS}"
        )
    return tensors, document
