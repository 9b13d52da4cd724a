"""Rows, targets and weights checked as scikit-learn checks them, where they live."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import (
    _check_n_features,
    _check_sample_weight,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from mlp.backends import get_backend
from mlp.backends.protocol import Array, Backend, HostArray
from mlp.data.placing import to_check
from mlp.errors import InvalidInput
from mlp.estimators.inputs import on_device


def backend_of(estimator: Any) -> Backend:
    """The backend that an estimator's parameters ask for; raises BackendUnavailable."""
    return get_backend(estimator.device, estimator.precision or "float32", estimator.threads)


def check_rows_and_target(
    estimator: Any, X: Any, y: Any, *, reset: bool, **y_checks: Any
) -> tuple[Any, Any]:
    """X (N, I), which stays on the GPU that it may live on, and y, on the host.

    Args:
        reset: whether X decides the number and names of the features, or has to have those known.
        y_checks: passed on to `validate_data`.
    """
    if not on_device(X):
        y = to_check(y, backend_of(estimator)) if on_device(y) else y
        X, y = validate_data(
            estimator, X, y, accept_sparse=["csr", "csc"], multi_output=True,
            dtype=(np.float64, np.float32), reset=reset, **y_checks,
        )  # fmt: skip
    else:
        backend = backend_of(estimator)
        X = check_device_rows(estimator, X, backend, reset=reset)
        y = to_check(y, backend)
        y = validate_data(estimator, X="no_validation", y=y, multi_output=True, **y_checks)
        check_consistent_length(X, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y


def check_device_rows(estimator: Any, X: Any, backend: Backend, *, reset: bool) -> Array:
    """Rows (N, I) that live on a GPU, as an array of its backend."""
    rows = backend.device_array(X)
    if rows is None:
        raise InvalidInput("X lives on a GPU; use device='cuda' or copy it to the host")
    if rows.ndim != 2:
        raise InvalidInput(f"X must have 2 dimensions (rows, features), not {rows.ndim}")
    _check_n_features(estimator, rows, reset=reset)
    if reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    return rows


def check_weights(
    estimator: Any, sample_weight: Any, X: Any, name: str = "sample_weight"
) -> HostArray | None:
    """Weights (N,) >= 0 on the host, or None."""
    if sample_weight is None:
        return None
    if on_device(sample_weight):
        sample_weight = to_check(sample_weight, backend_of(estimator))
    rows = X
    if on_device(X):  # only its length and type count
        rows = np.broadcast_to(np.zeros(1), (X.shape[0], 1))
    weight: HostArray = _check_sample_weight(sample_weight, rows)
    if (weight < 0).any():
        raise InvalidInput(f"{name} holds {weight.min()}; weights must be >= 0")
    return weight
