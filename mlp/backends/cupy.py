"""The place of the CUDA backend: this release has none, and says exactly what is missing."""

from __future__ import annotations

import importlib.util

from mlp.errors import BackendUnavailable

REMEDY = "use device='cpu'"


class CupyBackend:
    """Raises BackendUnavailable with the first thing that stands between this process and a GPU."""

    name = "cuda"

    def __init__(self, number: int) -> None:
        if importlib.util.find_spec("cupy") is None:
            raise BackendUnavailable(
                "CuPy is not installed; install the extra that matches your driver, "
                f"fused-mlp[cuda13] or fused-mlp[cuda12], or {REMEDY}"
            )
        count = _device_count()
        if number >= count:
            raise BackendUnavailable(
                f"there is no CUDA device {number}: the driver reports {count}; {REMEDY}"
            )
        raise BackendUnavailable(
            f"CUDA device {number} is there, but this release has no CUDA kernels yet; {REMEDY}"
        )


def _device_count() -> int:
    """Devices that the driver reports; raises BackendUnavailable where it cannot be asked."""
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy reports a missing or old driver by several types
        raise BackendUnavailable(f"CUDA cannot be used: {error}; {REMEDY}") from error
