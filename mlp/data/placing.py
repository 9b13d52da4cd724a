"""X, y and sample weights on a device, in no more copies than needed: what is there stays there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mlp.backends.protocol import Array, Backend, HostArray
from mlp.data.arrays import as_rows, finite_in, require_finite_in, require_rows, to_device
from mlp.data.arrow import is_table
from mlp.data.preprocessing import Standardizer
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput

Preprocessing: TypeAlias = Standardizer | TablePreprocessor

# Rows that are standardised at a time.
BLOCK_ROWS = 1024


def place_rows(
    X: Any,
    inputs: int,
    preprocessing: Preprocessing | None,
    backend: Backend,
    dtype: np.dtype[Any],
    name: str,
    *,
    borrow: bool,
) -> Array:
    """X checked, prepared if there is a preprocessing, and on the device in `dtype`: (N, I).

    With `borrow` it may be X itself, and must not be written. The columns of a table are encoded on
    the host, also those of an array that is on the device.
    """
    given = backend.device_array(X)
    if isinstance(preprocessing, TablePreprocessor):
        on_host = X if given is None else backend.to_host(given)
        features = encode_table(on_host, inputs, preprocessing, dtype, name)
        return (backend.borrow if borrow else backend.from_host)(features, dtype)
    if given is not None:
        return _convert(given, inputs, preprocessing, backend, dtype, name, borrow)
    rows = as_rows(X, inputs, name)
    if preprocessing is None:
        place = backend.borrow if borrow else backend.from_host
        if rows.dtype == dtype:  # then they are finite on the device, too
            return place(rows, dtype)
        return to_device(rows, backend, dtype, name)
    result = backend.empty(rows.shape, dtype)
    for start in range(0, len(rows), BLOCK_ROWS):  # so that no float64 copy of all is made
        block = slice(start, start + BLOCK_ROWS)
        on_device = to_device(preprocessing.transform(rows[block]), backend, dtype, name)
        backend.copy(on_device, result[block])
    return result


def encode_table(
    X: Any, inputs: int, preprocessing: TablePreprocessor, dtype: np.dtype[Any], name: str
) -> HostArray:
    """The features of a table's rows, (N, I) in `dtype`, finite.

    Raises:
        InvalidInput: the table does not fit the preprocessing, or that not the network.
    """
    if preprocessing.inputs != inputs:
        raise InvalidInput(
            f"the preprocessing makes {preprocessing.inputs} features of a row, but the network "
            f"takes {inputs}"
        )
    features = preprocessing.transform(X, dtype, name=name)
    require_finite_features(features, preprocessing, name)
    return features


def require_finite_features(
    features: HostArray, preprocessing: TablePreprocessor, name: str
) -> None:
    """Raises InvalidInput, naming one, where features left the range of their dtype."""
    if not finite_in(features, features.dtype):
        feature = int((~np.isfinite(features)).any(axis=0).argmax())
        raise InvalidInput(
            f"{name}: column '{preprocessing.features[feature]}' has numbers beyond the range of "
            f"{features.dtype} ({float(np.finfo(features.dtype).max):.2g})"
        )


def _convert(
    given: Array,
    inputs: int,
    preprocessing: Standardizer | None,
    backend: Backend,
    dtype: np.dtype[Any],
    name: str,
    borrow: bool,
) -> Array:
    """Rows that live on the device."""
    if np.dtype(given.dtype).kind == "c":
        raise InvalidInput(f"{name} must hold real numbers, not {given.dtype}")
    rows = given.reshape(1, -1) if given.ndim == 1 else given
    require_rows(rows.shape, inputs, name)
    result = rows
    if not (borrow and rows.dtype == dtype and preprocessing is None):
        numbers = () if preprocessing is None else (preprocessing.mean, preprocessing.scale)
        result = backend.empty(rows.shape, dtype)
        backend.convert_rows(rows, result, *(backend.from_host(n, np.float64) for n in numbers))
    require_finite_in(dtype, name, backend.is_finite(result))
    return result


def size_on_host(X: Any, dtype: np.dtype[Any], inputs: int) -> int:
    """Bytes that an array of the host takes on a device, or a table of so many features.

    0 for anything else, such as lists, arrays of the device and streams of unknown length.
    """
    if isinstance(X, np.ndarray):
        return X.size * dtype.itemsize
    return len(X) * inputs * dtype.itemsize if is_table(X) and hasattr(X, "__len__") else 0


def preparation(
    preprocessing: Preprocessing | None, dtype: np.dtype[Any], name: str
) -> Callable[[HostArray], HostArray]:
    """What makes rows of `dtype`, prepared if need be, of some rows on the host."""

    def prepare(rows: HostArray) -> HostArray:
        standardised = rows if preprocessing is None else preprocessing.transform(rows)
        require_finite_in(dtype, name, finite_in(standardised, dtype))
        return standardised.astype(dtype, copy=False)

    return prepare


def to_check(value: Any, backend: Backend) -> Any:
    """A target or weights as the checks take them: what lives on the device, copied to the host."""
    given = backend.device_array(value)
    return value if given is None else backend.to_host(given)


def place(
    checked: HostArray, given: Any, backend: Backend, dtype: np.dtype[Any], name: str
) -> Array:
    """What a check returned, on the device: labels int64, numbers in `dtype`.

    `given` is what was checked: where it lives on the device and is just that, it is not copied.
    """
    own = backend.device_array(given)
    wanted = np.dtype(np.int64) if checked.dtype.kind == "i" else dtype
    # The check may have changed the numbers: labels are encoded, values scaled.
    if (
        own is not None
        and (own.dtype, own.shape) == (wanted, checked.shape)
        and np.array_equal(backend.to_host(own), checked)
    ):
        return own
    if checked.dtype.kind == "i":
        return backend.from_host(checked, wanted)
    return to_device(checked, backend, dtype, name)
