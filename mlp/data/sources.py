"""Data sets by name or file: the ones that scikit-learn bundles, and .npz files with X and y."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import as_rows
from mlp.errors import InvalidInput, unknown_name

Task: TypeAlias = Literal["classification", "regression"]

BUNDLED: dict[str, Task] = {
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
    "breast_cancer": "classification",
    "diabetes": "regression",
}


@dataclass(frozen=True)
class Dataset:
    """Rows and their targets.

    Attributes:
        name: the bundled name, or the file's path.
        X: (N, I), finite numbers.
        y: class labels (N,), or numbers (N,) or (N, O); None where the source has none.
        task: what y asks for; None without y.
        classes: the distinct labels, sorted, of a classification; else None.
        note: why a target that was there but not asked for could not be read; else "".
    """

    name: str
    X: HostArray
    y: HostArray | None
    task: Task | None
    classes: tuple[Any, ...] | None
    note: str = ""


def load_data(source: str, *, need_target: bool = True) -> Dataset:
    """A bundled data set by its name, or a file by its path (anything with a dot or a slash).

    In a file, y of integers, booleans or text names classes, and y of floats holds values.
    Without `need_target`, y may be missing, or be one that cannot be read.

    Raises:
        InvalidSetting: neither a bundled name nor like a path.
        InvalidInput: the file is missing or does not hold what it should.
    """
    if source in BUNDLED:
        return _load_bundled(source)
    if not source or (not Path(source).suffix and "/" not in source and not Path(source).exists()):
        raise unknown_name("data set", source, [*BUNDLED, "FILE.npz"])
    return _load_npz(Path(source), need_target)


def _load_bundled(name: str) -> Dataset:
    from sklearn import datasets  # deferred: `import mlp` must not load scikit-learn

    bunch = getattr(datasets, f"load_{name}")()
    X, y = np.asarray(bunch.data), np.asarray(bunch.target)
    if BUNDLED[name] == "regression":
        return Dataset(name, X, y, "regression", None)
    names = bunch.target_names[y]
    return Dataset(name, X, names, "classification", tuple(np.asarray(bunch.target_names).tolist()))


def _load_npz(path: Path, need_target: bool) -> Dataset:
    found = _read_npz(path)
    missing = [key for key in ("X", "y") if key not in found and (key == "X" or need_target)]
    if missing:
        raise InvalidInput(f"{path}: the file has no array {' and no array '.join(missing)}")
    if found["X"].ndim != 2:
        raise InvalidInput(f"{path}: X has shape {found['X'].shape}, not (rows, features)")
    X = as_rows(found["X"], name=f"{path}: X")
    if "y" not in found:
        return Dataset(str(path), X, None, None, None)
    try:
        return _with_target(path, X, found["y"])
    except InvalidInput as error:
        if need_target:
            raise
        return Dataset(str(path), X, None, None, None, note=str(error))


def _read_npz(path: Path) -> dict[str, HostArray]:
    """The arrays X and y of a file, as far as they are there."""
    if path.suffix.lower() != ".npz":
        raise InvalidInput(f"{path}: only .npz files with arrays X and y can be read")
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
            found = {key: arrays[key] for key in ("X", "y") if key in arrays}
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
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


def _with_target(path: Path, X: HostArray, y: HostArray) -> Dataset:
    """The data set of X and y; the dtype of y says what it holds."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2):
        raise InvalidInput(f"{path}: y must have 1 or 2 dimensions, not shape {y.shape}")
    if len(y) != len(X):
        raise InvalidInput(f"{path}: y has shape {y.shape}, but X has {len(X)} rows")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise InvalidInput(f"{path}: y is not finite at row {row}; remove or fill that row")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.ndim == 1 and y.dtype.kind in "biuU":
        return Dataset(str(path), X, y, "classification", tuple(np.unique(y).tolist()))
    return Dataset(str(path), X, as_rows(y, name=f"{path}: y").reshape(y.shape), "regression", None)
