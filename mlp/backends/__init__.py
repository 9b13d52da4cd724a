"""Backends by name, loaded when first asked for; what can run here, and why the rest cannot."""

from __future__ import annotations

import functools
import importlib
from typing import Any, cast

import numpy as np

from mlp.backends.protocol import Backend
from mlp.errors import BackendUnavailable, unknown_name

# name -> (module, class)
_BACKENDS: dict[str, tuple[str, str]] = {
    "numpy": ("mlp.backends.numpy", "NumpyBackend"),
    "cpu": ("mlp.backends.numba", "NumbaBackend"),
    "cuda": ("mlp.backends.cupy", "CupyBackend"),
}

# precision -> (dtype of parameters and activations, backends that have it)
_PRECISIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "float64": ("float64", ("numpy", "cpu")),
    "float32": ("float32", ("numpy", "cpu")),
    "tf32": ("float32", ()),
    "bfloat16": ("float32", ()),
    "float16": ("float32", ()),
}

AUTO = ("cuda", "cpu")  # what "auto" prefers, and what it takes without
DEVICES = ("auto", "cpu", "numpy", "cuda", "cuda:N")


def get_backend(device: str) -> Backend:
    """The backend of a device name; one instance per device.

    Args:
        device: "cpu" (Numba), "numpy" (the reference), "cuda" or "cuda:N" (a GPU), or "auto": a
            usable GPU, else "cpu".

    Raises:
        InvalidSetting: no such device name.
        BackendUnavailable: the device cannot be used here; says why and what to do.
    """
    if device == "auto":
        first, last = AUTO
        return get_backend(first if unavailable_reason(first) is None else last)
    name, colon, number = str(device).partition(":")
    if name not in _BACKENDS or (colon and not (name == "cuda" and number.isdecimal())):
        raise unknown_name("device", device, DEVICES)
    return _make(name, int(number or 0))


@functools.cache
def _make(name: str, number: int) -> Backend:
    module, cls = _BACKENDS[name]
    try:
        make = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise BackendUnavailable(
            f"device '{name}' cannot be loaded: {error}; install fused-mlp with what it needs"
        ) from error
    return cast(Backend, make(number) if name == "cuda" else make())


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


def precision_dtype(precision: str, backend: Backend) -> np.dtype[Any]:
    """The dtype of parameters and activations; raises where the backend lacks the precision."""
    have = [name for name, (_, where) in _PRECISIONS.items() if backend.name in where]
    if not isinstance(precision, str) or precision not in _PRECISIONS:
        raise unknown_name("precision", precision, have)
    dtype, backends = _PRECISIONS[precision]
    if backend.name not in backends:
        raise BackendUnavailable(
            f"precision '{precision}' is not available on device '{backend.name}'; "
            f"use one of: {', '.join(have)}"
        )
    return np.dtype(dtype)
