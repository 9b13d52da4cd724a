"""Where and with what a run was made: processor, versions, commit. Nothing that names a person."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlp
from bench.process import ROOT

PACKAGES = (
    "numpy", "numba", "scipy", "torch", "triton", "jax", "jaxlib", "jax-cuda12-plugin",
    "jax-cuda13-plugin", "optax", "scikit-learn", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python",
)  # fmt: skip
# What decides how fast matrix products can be, of what Linux calls flags or Features.
FLAGS = (
    "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_tile", "amx_bf16",
    "asimd", "sve", "sve2", "bf16",
)  # fmt: skip


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("features", "")).split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_gpu() -> dict[str, Any]:
    """Name, memory, CUDA's versions, and clocks where nvidia-smi tells them, of the first GPU.

    Raises:
        BackendUnavailable: there is none that can be used.
    """
    from mlp.backends.cuda.device import CudaDevice

    device = CudaDevice(0)
    cuda = device.cupy.cuda
    return {
        "name": device.name,
        "capability": ".".join(map(str, device.capability)),
        "processors": device.processors,
        "memory_gib": round(device.total_bytes / 2**30, 1),
        "cache_mib": round(cache_bytes(cuda) / 2**20, 1),
        "cuda_of_driver": _cuda_version(cuda.runtime.driverGetVersion()),
        "cuda": _cuda_version(cuda.runtime.runtimeGetVersion()),
        "cublaslt": device.library.version if device.library.reason is None else None,
        **_nvidia_smi(str(cuda.Device(0).pci_bus_id)),
    }


def cache_bytes(cuda: Any) -> int:
    """Of the GPU's level-2 cache."""
    return int(cuda.Device(0).attributes["L2CacheSize"])


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _nvidia_smi(bus: str) -> dict[str, str]:
    """Driver, clocks and power limit, in nvidia-smi's words; nothing where it is not there."""
    names = {
        "driver": "driver_version",
        "clock": "clocks.current.sm",
        "clock_most": "clocks.max.sm",
        "memory_clock": "clocks.current.memory",
        "power_limit": "power.limit",
    }
    query = f"--query-gpu={','.join(names.values())}"
    try:
        run = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader", f"--id={bus}"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in run.stdout.strip().split(",")]
    return dict(zip(names, values, strict=False))


def versions() -> dict[str, str]:
    """Of Python, of this project, and of each library that is installed."""
    found = {"python": platform.python_version(), "mlp": mlp.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_source() -> dict[str, Any]:
    """The commit, and whether files were changed since; None where there is no repository."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def slug(machine: dict[str, Any]) -> str:
    """The machine in a file name, as in "amd-epyc-2-cores"."""
    words = _words(str(machine["cpu"])) or ["cpu"]
    return "-".join([*words, str(machine["cores"]), "core" if machine["cores"] == 1 else "cores"])


def slug_of_gpu(gpu: dict[str, Any]) -> str:
    """The GPU in a file name, as in "nvidia-h100-80gb-hbm3"."""
    return "-".join(_words(str(gpu["name"])) or ["gpu"])


def _words(name: str) -> list[str]:
    plain = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor)\b", " ", name.lower())
    return re.findall(r"[a-z0-9]+", plain)


def _cpuinfo() -> dict[str, str]:
    """Keys, in lower case, and values of the first processor."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
