"""CuPy, a device and the compiler of kernels: found, or an error that says what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from mlp.errors import BackendUnavailable

INSTALL = "pip install \"fused-mlp[cuda13]\" (cuda12 for an older driver), or use device='cpu'"


def import_cupy() -> Any:
    """CuPy; raises BackendUnavailable where there is none. Quick, since "auto" asks each time."""
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        raise BackendUnavailable(f"CuPy is not installed; {INSTALL}") from error
    except ImportError as error:
        require_one_cupy()
        reason = " ".join(str(error).split())
        raise BackendUnavailable(f"CuPy cannot be loaded ({reason}); {INSTALL}") from error


def require_one_cupy() -> None:
    """Raises BackendUnavailable where several packages have installed CuPy over each other."""
    names = (dist.metadata["Name"] or "" for dist in importlib.metadata.distributions())
    found = sorted({name for name in map(str.lower, names) if _is_cupy(name)})
    if len(found) > 1:
        raise BackendUnavailable(
            f"several CuPy packages are installed over each other ({', '.join(found)}); "
            f"pip uninstall {' '.join(found)}, then {INSTALL}"
        )


def _is_cupy(name: str) -> bool:
    return name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm"))


def require_device(cupy: Any, number: int) -> None:
    """Raises BackendUnavailable where there is no device of this number that can be used."""
    runtime = cupy.cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        raise BackendUnavailable(_why_no_devices(runtime, error)) from error
    if number >= count:
        there = f"the last one here is {count - 1}" if count else "there is none"
        raise BackendUnavailable(f"no CUDA device {number}: {there}; use device='cpu'")


def _why_no_devices(runtime: Any, error: Exception) -> str:
    driver, needed = int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion())
    if driver == 0:
        return "no NVIDIA driver is installed; install one, or use device='cpu'"
    if driver < needed:
        return (
            f"the NVIDIA driver supports CUDA {_version(driver)}, but CuPy needs "
            f"{_version(needed)}: update the driver, or install a CuPy for the older CUDA; "
            "until then use device='cpu'"
        )
    return f"no CUDA device can be used ({error}); use device='cpu'"


def require_compiler(cupy: Any) -> None:
    """Raises BackendUnavailable where the kernels cannot be compiled."""
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # CuPy reports a library that it cannot load by several types
        reason = " ".join(str(error).split())
        raise BackendUnavailable(
            f"NVRTC, which compiles the kernels, cannot be loaded ({reason}); {INSTALL}"
        ) from error


def _version(number: int) -> str:
    """12080 -> 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"
