"""Checks of what a user passes as X, y and sample weights; each failure is one clear sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlp.backends.host import all_finite
from mlp.backends.protocol import Array, Backend, HostArray
from mlp.errors import InvalidInput
from mlp.losses import Loss


def as_rows(X: Any, inputs: int | None = None, name: str = "X") -> HostArray:
    """X as a finite float or integer array (N, I); a single row (I,) becomes (1, I).

    Args:
        X: anything NumPy makes a rectangular numeric array of.
        inputs: the number of features that there must be; None for any.
        name: what to call X in an error.

    Raises:
        InvalidInput: ragged, empty, not numeric, not finite, or of the wrong width.
    """
    rows = _numeric(X, name)
    if rows.ndim == 1:
        rows = rows[None, :]
    require_rows(rows.shape, inputs, name)
    _require_finite(rows, name)
    return rows


def require_rows(shape: tuple[int, ...], inputs: int | None, name: str) -> None:
    """Raises InvalidInput where this is no shape (N, I) of rows with `inputs` features."""
    if len(shape) != 2:
        raise InvalidInput(f"{name} must have 2 dimensions (rows, features), not {len(shape)}")
    if 0 in shape:
        raise InvalidInput(f"{name} is empty: its shape is {shape}")
    if inputs is not None and shape[1] != inputs:
        raise InvalidInput(
            f"{name} has {shape[1]} features per row, but the network takes {inputs}"
        )


def as_target(
    y: Any,
    rows: int,
    outputs: int,
    loss: Loss,
    classes: Sequence[Any] | None = None,
    name: str = "y",
) -> HostArray:
    """Y in the form that a loss takes: labels (N,) int64, or numbers (N, O) float64.

    Args:
        y: class labels, one-hot rows or numbers; (N,) is read as (N, 1) where O is 1. A single
            number goes with a single row.
        rows: N.
        outputs: O.
        loss: says what the numbers may be.
        classes: where given, the labels that y holds, in the order of the outputs; else labels are
            0 to O - 1.

    Raises:
        InvalidInput: the wrong length or width, or values that do not fit the loss.
    """
    target = _numeric(y, name) if classes is None else host_array(y, name)
    if target.ndim == 0 or (rows == 1 and target.ndim == 1 and target.size == outputs > 1):
        target = target.reshape(1, -1) if target.size > 1 else target.reshape(1)
    if len(target) != rows:
        raise InvalidInput(f"{name} has {len(target)} rows, but X has {rows}")
    if target.ndim == 2 and target.shape[1] == 1 and loss.targets == "classes":
        target = target[:, 0]
    if target.ndim == 1:
        if classes is not None and loss.targets in ("classes", "unit"):
            target = _encode(target, classes, name)
        if loss.targets == "classes":
            return _as_labels(target, outputs, name)
        target = target[:, None]
    numbers = _numeric(target, name)
    if numbers.ndim != 2 or numbers.shape[1] != outputs:
        raise InvalidInput(
            f"{name} has shape {np.shape(y)}, but the shape ({rows}, {outputs}) was expected"
            + ("; for class labels use the loss cross_entropy" if np.ndim(y) == 1 else "")
        )
    _require_finite(numbers, name)
    if loss.targets in ("classes", "unit"):
        _require(numbers, (numbers >= 0) & (numbers <= 1), f"loss '{loss.name}' takes [0, 1]", name)
    if loss.targets == "counts":
        _require(numbers, numbers >= 0, f"loss '{loss.name}' takes numbers >= 0", name)
    return numbers.astype(np.float64, copy=False)


def as_weights(weight: Any, rows: int, name: str = "sample_weight") -> HostArray | None:
    """Sample weights (N,) float64, finite and not negative, not all 0; None stays None."""
    if weight is None:
        return None
    numbers = _numeric(weight, name)
    if numbers.shape != (rows,):
        raise InvalidInput(f"{name} has shape {numbers.shape}, but X has {rows} rows")
    _require_finite(numbers, name)
    _require(numbers, numbers >= 0, "weights must be >= 0", name)
    if not numbers.any():
        raise InvalidInput(f"{name} is 0 everywhere: at least one row must count")
    return numbers.astype(np.float64, copy=False)


def to_device(array: HostArray, backend: Backend, dtype: np.dtype[Any], name: str) -> Array:
    """A host array of numbers on a device, in `dtype`.

    Raises:
        InvalidInput: a number is not finite there: NaN, infinite, or beyond the dtype's range.
    """
    require_finite_in(dtype, name, finite_in(array, dtype))
    return backend.from_host(array, dtype)


def require_finite_in(dtype: np.dtype[Any], name: str, finite: bool) -> None:
    """Raises InvalidInput unless `finite`."""
    if not finite:
        limit = float(np.finfo(dtype).max)
        raise InvalidInput(
            f"{name} has numbers that are not finite in {dtype} (NaN, or beyond {limit:.2g})"
        )


def finite_in(array: HostArray, dtype: np.dtype[Any]) -> bool:
    """Whether all numbers are finite, and stay so in `dtype`."""
    if array.dtype == dtype:
        return all_finite(array)
    limit = float(np.finfo(dtype).max)
    # A NaN is the smallest and the largest of its array, and compares as False.
    return float(array.min()) >= -limit and float(array.max()) <= limit


# Of DLPack: memory of CUDA, and such that CUDA manages.
_CUDA_MEMORY = (2, 13)


def lives_on_a_gpu(values: Any) -> bool:
    """Whether an array lives in memory of CUDA, told without loading CuPy."""
    if hasattr(values, "__dlpack_device__"):
        return int(values.__dlpack_device__()[0]) in _CUDA_MEMORY
    return hasattr(values, "__cuda_array_interface__")


def host_array(values: Any, name: str) -> HostArray:
    """Values as a NumPy array of any dtype; raises InvalidInput if ragged, or on a GPU."""
    if lives_on_a_gpu(values):
        raise InvalidInput(f"{name} lives on a GPU; use device='cuda' or copy it to the host")
    try:
        return np.asarray(values)
    except ValueError:
        raise InvalidInput(f"{name} is ragged: its rows have different lengths") from None


def _numeric(values: Any, name: str) -> HostArray:
    array = host_array(values, name)
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"{name} must hold real numbers, not {array.dtype}")
    return array


def _require_finite(array: HostArray, name: str) -> None:
    if array.dtype.kind == "f" and not all_finite(array):
        _require(array, np.isfinite(array), "values must be finite", name)


def _require(array: HostArray, good: HostArray, rule: str, name: str) -> None:
    if good.all():
        return
    place = tuple(int(i) for i in np.argwhere(~good)[0])
    where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
    bad = int(good.size - np.count_nonzero(good))
    more = f" ({bad} such values in all)" if bad > 1 else ""
    raise InvalidInput(f"{name} holds {array[place]} at {where}{more}; {rule}")


def _encode(labels: HostArray, classes: Sequence[Any], name: str) -> HostArray:
    """Labels to their positions in `classes`."""
    codes = _positions(labels, classes)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        known = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
        raise InvalidInput(
            f"{name} holds the label {labels[row]} at row {row}, which is not one of: {known}"
        )
    return codes


def _positions(labels: HostArray, classes: Sequence[Any]) -> HostArray:
    """The place of each label in `classes`, -1 where there is none: (N,) int64."""
    known = np.asarray(classes)
    numeric = known.dtype.kind in "biuf" and labels.dtype.kind in "biuf"
    if known.ndim == 1 and (numeric or known.dtype.kind == labels.dtype.kind == "U"):
        order = np.argsort(known)
        place = np.searchsorted(known, labels, sorter=order)
        codes = order[np.minimum(place, len(known) - 1)]
        return np.where(known[codes] == labels, codes, -1).astype(np.int64, copy=False)
    position = {label: i for i, label in enumerate(classes)}
    return np.array([position.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def _as_labels(labels: HostArray, outputs: int, name: str) -> HostArray:
    _require_finite(labels, name)
    if labels.dtype.kind == "f":
        _require(labels, labels == np.floor(labels), "class labels must be whole numbers", name)
    rule = f"{outputs} outputs take the labels 0 to {outputs - 1}"
    if outputs == 1:
        rule = "one output takes the label 0; for two classes use the loss binary_cross_entropy"
    _require(labels, (labels >= 0) & (labels < outputs), rule, name)
    return labels.astype(np.int64)
