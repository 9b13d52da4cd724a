"""The GPU backend's own code on the host: its launches run there, its CuPy is the stand-in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlp.backends
from mlp.backends.cuda.device import CudaDevice
from mlp_kernels.cuda.compile import Kernel
from tests.conftest import NO_HOST_BUILD
from tests.cuda_host.cupy_stand_in import installed
from tests.cuda_host.on_device import everything_runs_on

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NO_HOST_BUILD is not None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=NO_HOST_BUILD))


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[..., Kernel]:
    """A function that makes a kernel `k` of parameters, a body, and what comes before it."""
    numbers = itertools.count()

    def make(parameters: str, body: str, before: str = "") -> Kernel:
        path = tmp_path / f"k{next(numbers)}.cu"
        path.write_text(
            f"#include <numbers.cuh>\n{before}\n"
            f'extern "C" __global__ void k({parameters}) {{\n'
            f"const int i = blockIdx.x * blockDim.x + threadIdx.x;\n{body}\n}}\n"
        )
        return Kernel(str(path), "k")

    return make


@pytest.fixture
def cupy() -> Iterator[Any]:
    """The stand-in in the place of CuPy: device "cuda" is the host's."""
    mlp.backends._make.cache_clear()
    with installed() as module:
        yield module
    mlp.backends._make.cache_clear()


@pytest.fixture(params=["on-host", pytest.param("on-device", marks=pytest.mark.gpu)])
def everywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """The launches of a test run on the host, and on a device where there is one."""
    if request.param == "on-host":
        yield
        return
    with everything_runs_on(CudaDevice(0)):
        yield
