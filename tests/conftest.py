"""Fixtures for all tests: every backend that can be used here, every precision, the gpu marker."""

from __future__ import annotations

import os

# Small products gain nothing from a second thread, and where tests share the processor with others
# (or with each other, under xdist) OpenBLAS's waiting threads slow them down a hundredfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from mlp.backends import get_backend, unavailable_reason
from mlp.backends.protocol import Backend
from mlp.errors import BackendUnavailable


def why_no_bfloat16() -> str | None:
    """Why this processor's backend has no products of bfloat16, or None if it has."""
    try:
        get_backend("cpu", "bfloat16")
    except BackendUnavailable as error:
        return str(error)
    return None


NO_BFLOAT16 = why_no_bfloat16()
needs_bfloat16 = pytest.mark.skipif(NO_BFLOAT16 is not None, reason=str(NO_BFLOAT16))

NO_GPU = unavailable_reason("cuda")
BACKENDS = ["numpy", "cpu", *([] if NO_GPU else [pytest.param("cuda", marks=pytest.mark.gpu)])]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if NO_GPU and item.get_closest_marker("gpu"):
        pytest.skip(NO_GPU)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend that can run here."""
    return get_backend(request.param)


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> np.dtype:
    """The dtype of parameters and activations."""
    return np.dtype(request.param)
