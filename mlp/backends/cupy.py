"""The place of the CUDA backend: this release has none, and says so, and what else is missing."""

from __future__ import annotations

import importlib.util

from mlp.errors import BackendUnavailable


class CupyBackend:
    """Raises BackendUnavailable: there are no CUDA kernels yet."""

    name = "cuda"

    def __init__(self, number: int) -> None:
        raise BackendUnavailable(
            f"this release has no CUDA kernels yet ({_driver_state(number)}); use device='cpu'"
        )


def _driver_state(number: int) -> str:
    """What stands between this process and device `number`, apart from the kernels."""
    if importlib.util.find_spec("cupy") is None:
        return "and CuPy is not installed"
    try:
        import cupy

        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy reports a missing or old driver by several types
        return f"and CuPy finds no usable driver: {error}"
    there = "is there" if number < count else "is not"
    return f"CuPy finds {count} CUDA devices; number {number} {there}"
