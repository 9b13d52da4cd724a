"""Rows and targets from files of arrays: .npz with both, .npy with one each."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import as_rows
from mlp.data.arrow import quoted
from mlp.data.dataset import Dataset
from mlp.data.reading import reason
from mlp.errors import InvalidInput, InvalidSetting


def load_arrays(path: Path, target: str | None, need_target: bool) -> Dataset:
    """The rows X of a .npz or .npy file, and their target.

    Args:
        target: of a .npz file the name of its array, by default y; else the path of a .npy file.
        need_target: if False, the target may be missing, or be one that cannot be read.

    Raises:
        InvalidInput: a file is missing or does not hold what it should.
        InvalidSetting: a .npy file without a target.
    """
    key = target or "y"
    if path.suffix.lower() == ".npz":
        found = _read_npz(path, ("X", key))
    else:
        if need_target and target is None:
            raise InvalidSetting(f"{path}: name the file with its target, as in --target y.npy")
        found = {"X": _read_npy(path)}
        if target is not None:
            found[key] = _read_npy(Path(target))
    missing = [name for name in ("X", key) if name not in found and (name == "X" or need_target)]
    if missing:
        there = f"; it has {quoted(_names_in(path))}" if path.suffix.lower() == ".npz" else ""
        what = " and no array ".join(missing)
        raise InvalidInput(f"{path}: the file has no array {what}{there}")
    if found["X"].ndim != 2:
        raise InvalidInput(f"{path}: X has shape {found['X'].shape}, not (rows, features)")
    X = as_rows(found["X"], name=f"{path}: X")
    if key not in found:
        return Dataset(str(path), X, None, None, None)
    try:
        return _with_target(path, X, found[key], key)
    except InvalidInput as error:
        if need_target:
            raise
        return Dataset(str(path), X, None, None, None, note=str(error))


def _names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _read_npy(path: Path) -> HostArray:
    if path.suffix.lower() != ".npy":
        raise InvalidInput(f"{path}: a .npy file was expected")
    if not path.is_file():
        what = "a folder, not a .npy file" if path.is_dir() else "there is no such file"
        raise InvalidInput(f"{path}: {what}")
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise InvalidInput(f"{path}: not a .npy file, in spite of its name")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path}: not a readable .npy file of numbers or text ({reason(error)})"
        ) from None


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, HostArray]:
    """Arrays of a file by their names, as far as they are there."""
    if path.is_dir():
        raise InvalidInput(f"{path}: a folder, not a .npz file")
    if not path.exists():
        raise InvalidInput(f"{path}: there is no such file")
    try:
        # Opened here, because NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise InvalidInput(f"{path}: not a .npz file, in spite of its name")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            found = {key: arrays[key] for key in keys if key in arrays}
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        if isinstance(error, InvalidInput):
            raise
        if "allow_pickle" in str(error):
            raise InvalidInput(
                f"{path}: an array holds Python objects, which are not read; rows of different "
                "lengths make such arrays"
            ) from None
        raise InvalidInput(
            f"{path}: not a readable .npz file of numbers or text ({error})"
        ) from None
    for key, array in found.items():
        if not isinstance(array, np.ndarray):
            raise InvalidInput(f"{path}: {key} is not an array that NumPy wrote")
    return found


def _with_target(path: Path, X: HostArray, y: HostArray, key: str) -> Dataset:
    """The data set of X and y; the dtype of y says what it holds."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2):
        raise InvalidInput(f"{path}: {key} must have 1 or 2 dimensions, not shape {y.shape}")
    if len(y) != len(X):
        raise InvalidInput(f"{path}: {key} has shape {y.shape}, but X has {len(X)} rows")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise InvalidInput(f"{path}: {key} is not finite at row {row}; remove or fill that row")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.ndim == 1 and y.dtype.kind in "biuU":
        return Dataset(str(path), X, y, "classification", tuple(np.unique(y).tolist()))
    return Dataset(
        str(path), X, as_rows(y, name=f"{path}: {key}").reshape(y.shape), "regression", None
    )
