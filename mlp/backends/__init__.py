"""Backends by name, loaded when first asked for; what can run here, and why the rest cannot."""

from __future__ import annotations

import functools
import importlib
from typing import Any, cast

import numpy as np

from mlp.backends.protocol import Backend
from mlp.errors import BackendUnavailable, InvalidSetting, require_positive_int, unknown_name

# name -> (module, class)
_BACKENDS: dict[str, tuple[str, str]] = {
    "numpy": ("mlp.backends.numpy", "NumpyBackend"),
    "cpu": ("mlp.backends.numba", "NumbaBackend"),
    "cuda": ("mlp.backends.cuda.backend", "CupyBackend"),
}

# precision -> (dtype of parameters, backends that have it where they can be used)
_PRECISIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "float64": ("float64", ("numpy", "cpu", "cuda")),
    "float32": ("float32", ("numpy", "cpu", "cuda")),
    "tf32": ("float32", ("numpy", "cuda")),
    "bfloat16": ("float32", ("numpy", "cpu", "cuda")),
    "float16": ("float32", ("numpy", "cuda")),
}
# Precisions whose matrix products round their operands, unlike everything else.
_OF_PRODUCTS = ("tf32", "bfloat16", "float16")

AUTO = ("cuda", "cpu")  # what "auto" prefers, and what it takes without
DEVICES = ("auto", "cpu", "numpy", "cuda", "cuda:N")


def get_backend(device: str, precision: str = "float32", threads: int | None = None) -> Backend:
    """The backend of a device name; one instance per device and settings.

    Args:
        device: "cpu" (Numba), "numpy" (the reference), "cuda" or "cuda:N" (a GPU), or "auto": a
            usable GPU, else "cpu"; with `threads`, always "cpu".
        precision: a name that `precision_dtype` knows; it decides how matrix products are made.
        threads: the most threads that "cpu" uses; None for as many as there are processors, or as
            OMP_NUM_THREADS or NUMBA_NUM_THREADS say.

    Raises:
        InvalidSetting: no such device or precision; threads below 1, or for another device.
        BackendUnavailable: the device, or the precision on it, cannot be had; says why and what to
            do.
    """
    if device == "auto":
        first, last = AUTO
        # Threads are of the processor, so who sets them asks for it.
        chosen = first if threads is None and unavailable_reason(first) is None else last
        return get_backend(chosen, precision, threads)
    name, colon, number = str(device).partition(":")
    if name not in _BACKENDS or (colon and not (name == "cuda" and number.isdecimal())):
        raise unknown_name("device", device, DEVICES)
    if threads is not None:
        threads = require_positive_int("threads", threads)
        if name != "cpu":
            raise InvalidSetting(f"threads can be set for device 'cpu' alone, not for '{device}'")
    _require_precision(precision, name)
    # Elsewhere the dtype of the arrays says the rest, so that float32 and float64 share a backend.
    kept = precision if name == "cuda" or precision in _OF_PRODUCTS else None
    return _make(name, int(number or 0), kept, threads)


@functools.cache
def _make(name: str, number: int, precision: str | None, threads: int | None) -> Backend:
    module, cls = _BACKENDS[name]
    try:
        make = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise BackendUnavailable(
            f"device '{name}' cannot be loaded: {error}; install fused-mlp with what it needs"
        ) from error
    if name == "cuda":
        return cast(Backend, make(number, precision))
    return cast(Backend, make(precision, threads) if name == "cpu" else make(precision))


def unavailable_reason(name: str) -> str | None:
    """Why the backend cannot run here, or None if it can."""
    try:
        get_backend(name)
    except BackendUnavailable as error:
        return str(error)
    return None


def available_backends() -> dict[str, str]:
    """Backend name -> "usable", or the reason why it is not: for every backend, in this process."""
    return {name: unavailable_reason(name) or "usable" for name in _BACKENDS}


def available_precisions(name: str) -> list[str]:
    """The precisions that a backend has in this process; none where it cannot be used."""

    def has(precision: str) -> bool:
        try:
            get_backend(name, precision)
        except BackendUnavailable:
            return False
        return True

    return [precision for precision in _PRECISIONS if has(precision)]


def precision_dtype(precision: str) -> np.dtype[Any]:
    """The dtype of a network's parameters, outputs and gradients."""
    return np.dtype(_PRECISIONS[precision][0])


def _require_precision(precision: str, name: str) -> None:
    have = [known for known, (_, backends) in _PRECISIONS.items() if name in backends]
    if not isinstance(precision, str) or precision not in _PRECISIONS:
        raise unknown_name("precision", precision, have)
    if name not in _PRECISIONS[precision][1]:
        raise BackendUnavailable(
            f"precision '{precision}' is not available on device '{name}'; "
            f"use one of: {', '.join(have)}"
        )
