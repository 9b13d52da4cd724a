"""Fixtures for all tests: every backend that can be used here, every precision, the gpu marker."""

from __future__ import annotations

import os

# Small products gain nothing from a second thread, and where tests share the processor with others
# (or with each other, under xdist) OpenBLAS's waiting threads slow them down a hundredfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nothing is measured but where a test says so: choices go by the rule of thumb, no file is kept.
os.environ["MLP_CUDA_TUNE"] = "0"

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import mlp.backends
from mlp.backends import get_backend, unavailable_reason
from mlp.backends.protocol import Backend
from mlp.errors import BackendUnavailable
from tests.cuda_host.build import why_unavailable
from tests.cuda_host.cupy_stand_in import installed


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
NO_HOST_BUILD = why_unavailable()
GPU = [] if NO_GPU else [pytest.param("cuda", marks=pytest.mark.gpu)]
# The CUDA backend is tested wherever it can be: on a device, and with its kernels run on the host.
ON_HOST = "cuda-on-host"
CUDA = [
    pytest.param(
        ON_HOST, marks=pytest.mark.skipif(NO_HOST_BUILD is not None, reason=str(NO_HOST_BUILD))
    ),
    *GPU,
]
BACKENDS = ["numpy", "cpu", *CUDA]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if NO_GPU and item.get_closest_marker("gpu"):
        pytest.skip(NO_GPU)


@contextmanager
def device_name(place: str) -> Iterator[str]:
    """What `get_backend` takes for one of BACKENDS."""
    if place != ON_HOST:
        yield place
        return
    mlp.backends._make.cache_clear()
    with installed():
        yield "cuda"
    mlp.backends._make.cache_clear()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend that can run here."""
    with device_name(request.param) as name:
        yield get_backend(name)


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> np.dtype:
    """The dtype of parameters and activations."""
    return np.dtype(request.param)
