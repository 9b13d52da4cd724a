"""Data sets by name, file or table: what `mlp train` and `mlp.load_data` read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlp.data.array_files import load_arrays
from mlp.data.arrow import Table, kind_of, numbers, quoted, require_pyarrow
from mlp.data.dataset import Dataset, as_task
from mlp.data.reading import Progress, ignore
from mlp.data.table_preprocessing import remaining
from mlp.data.tables import read_table
from mlp.data.targets import Task, check_task, read_target
from mlp.errors import InvalidInput, InvalidSetting, unknown_name

BUNDLED: dict[str, Task] = {
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
    "breast_cancer": "classification",
    "diabetes": "regression",
}


def load_data(
    source: Any,
    *,
    target: str | Path | Sequence[str] | None = None,
    task: str | None = None,
    drop: Iterable[str] = (),
    need_target: bool = True,
    separator: str | None = None,
    encoding: str = "utf-8",
    text_columns: Collection[str] = (),
    progress: Progress = ignore,
) -> Dataset:
    """A bundled data set by its name, a file by its path, or a table, as rows and targets.

    Args:
        source: a bundled name; the path of a table, as `read_table` takes it; of a .npz file with
            arrays X and y; of a .npy file with X; or a table of pandas, polars, pyarrow or anything
            with `__arrow_c_stream__`.
        target: the column of a table to learn, or several columns of numbers; the array of a .npz
            file, by default y; of a .npy file the .npy file with y.
        task: "classification" or "regression"; None for what the target asks for. In a table, see
            `mlp.data.targets.read_target`; in arrays, integers, booleans and text name classes and
            floats are values.
        drop: columns of a table to leave out.
        need_target: if False, the target may be missing, or be one that cannot be read.
        separator, encoding, text_columns, progress: as `read_table` takes them.

    Raises:
        InvalidSetting: neither a bundled name nor like a path; a target or a column to drop that is
            not there, or none for a table, which has to have one; pyarrow is needed and missing.
        InvalidInput: the file is missing or does not hold what it should, or the table has columns
            of dates, lists, bytes or infinite numbers.
    """
    wanted = check_task(task)
    if not isinstance(source, str | Path):
        table = read_table(source)
        return _from_table("the table", table, target, wanted, drop, need_target)
    name = str(source)
    path = Path(name)
    bundled = name in BUNDLED
    if not bundled and (not name or not (path.suffix or "/" in name or path.exists())):
        raise unknown_name("data set", name, [*BUNDLED, "FILE"])
    if not bundled and path.suffix.lower() not in (".npz", ".npy"):
        table = read_table(
            path, separator=separator, encoding=encoding, text_columns=text_columns,
            progress=progress,
        )  # fmt: skip
        return _from_table(name, table, target, wanted, drop, need_target)
    if tuple(drop):
        raise InvalidSetting(f"{name} has no named columns to drop; only tables have")
    if bundled:
        if target is not None:
            raise InvalidSetting(f"{name} is bundled and has its own target; name none")
        data = _load_bundled(name)
    else:
        names = _names(target)
        if len(names) > 1:
            raise InvalidSetting(f"{name}: of arrays there is one target, not {len(names)}")
        data = load_arrays(path, names[0] if names else None, need_target)
    return as_task(data, wanted)


def _load_bundled(name: str) -> Dataset:
    from sklearn import datasets  # deferred: `import mlp` must not load scikit-learn

    bunch = getattr(datasets, f"load_{name}")()
    X, y = np.asarray(bunch.data), np.asarray(bunch.target)
    if BUNDLED[name] == "regression":
        return Dataset(name, X, y, "regression", None)
    names = bunch.target_names[y]
    return Dataset(name, X, names, "classification", tuple(np.asarray(bunch.target_names).tolist()))


def _names(target: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    if target is None:
        return ()
    return (str(target),) if isinstance(target, str | Path) else tuple(map(str, target))


def _from_table(
    name: str,
    table: Table,
    target: str | Path | Sequence[str] | None,
    task: Task | None,
    drop: Iterable[str],
    need_target: bool,
) -> Dataset:
    """Rows and target of a table; where a target is needed, its other columns are looked at too."""
    targets, there = _names(target), table.column_names
    if not need_target:
        return _with_possible_target(name, table, targets)
    if not targets:
        raise InvalidSetting(
            f"{name}: name the column to learn with --target; there are {quoted(there, 40)}"
        )
    dropped = [*drop]
    for column in targets:
        if column not in there:
            raise unknown_name("target column", column, there)
        if column in dropped or targets.count(column) > 1:
            what = "dropped" if column in dropped else "named twice"
            raise InvalidSetting(f"the column '{column}' is the target and cannot be {what}")
    features = remaining(there, [*targets, *dropped])
    try:
        found = read_target(table, targets, task)
        X = table.select(features)
        _require_usable(X)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None
    return Dataset(name, X, found.y, found.task, found.classes, target=targets, how=found.how)


def _with_possible_target(name: str, table: Table, targets: tuple[str, ...]) -> Dataset:
    """A table to predict for, which may have the target that the model was trained on."""
    if not targets or not set(targets) <= set(table.column_names):
        return Dataset(name, table, None, None, None)
    X = table.drop_columns([*targets]) if len(targets) < table.num_columns else table
    try:
        found = read_target(table, targets, None)
    except InvalidInput as error:
        return Dataset(name, X, None, None, None, note=f"{name}: {error}")
    return Dataset(name, X, found.y, found.task, found.classes, target=targets)


def _require_usable(table: Table) -> None:
    """Raises InvalidInput, naming column and row, where a column cannot be learned from."""
    for field in table.schema:
        if kind_of(field.name, field.type) is None:
            raise InvalidInput(
                f"column '{field.name}' has no value in any row; leave it out "
                f"(--drop '{field.name}')"
            )
    types = require_pyarrow().types
    for field in table.schema:
        if not types.is_floating(field.type):
            continue
        x = numbers(table.column(field.name))
        if np.isinf(x).any():
            row = int(np.isinf(x).argmax())
            raise InvalidInput(
                f"column '{field.name}' holds {x[row]} at row {row}; replace infinite numbers, or "
                "leave them empty"
            )
