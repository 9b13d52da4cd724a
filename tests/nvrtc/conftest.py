"""The option that makes the tests of this folder compile for every generation of devices."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-architectures",
        action="store_true",
        help="compile the CUDA kernels for every generation of devices that NVRTC knows",
    )
