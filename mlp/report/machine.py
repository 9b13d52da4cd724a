"""What a run was made with: the machine, and the versions of what computes."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlp
from mlp.network import Network

LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "cupy-cuda12x", "cupy-cuda13x")


def machine(network: Network) -> dict[str, str]:
    """Name -> value: processor, its processors, memory, system, device and threads."""
    backend = network.backend
    found = {
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "device": f"{network.device} ({backend.about})" if backend.about else network.device,
        "precision": network.precision,
    }
    threads = getattr(backend, "threads", None)
    return found | ({} if threads is None else {"threads": str(threads)})


def versions() -> dict[str, str]:
    """Name -> version, of this package, Python, and the libraries that are installed."""
    found = {"fused-mlp": mlp.__version__, "Python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's name where the system tells, else its kind."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
