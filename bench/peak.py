"""What libraries reach here: the best large matrix product, and on a GPU the best large copy.

What the share of peak in a table refers to, and the floors.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZES = {"cpu": 2048, "cuda": 8192}
# device -> precision -> libraries whose product of two square matrices of SIZES is timed
PRODUCTS = {
    "cpu": {"float32": ("numpy", "torch", "jax"), "bfloat16": ("torch",)},
    "cuda": {
        "float32": ("torch", "jax", "cupy"),
        "tf32": ("torch", "jax", "cupy"),
        "bfloat16": ("torch", "jax"),
    },
}
COPIES = ("torch", "cupy")  # on a GPU
COPY_BYTES = 2**30
# Before each wait for a GPU: waiting takes longer than a small part of this.
QUEUED = {"cpu": 1, "cuda": 10}

Run = Callable[[], object]


def product_gflops(
    library: str, precision: str, threads: int, seconds: float, device: str = "cpu"
) -> float:
    """GFLOP/s of the fastest of the products that fit into `seconds`, at least five."""
    make = {"numpy": _in_numpy, "torch": _in_torch, "jax": _in_jax, "cupy": _in_cupy}[library]
    product, wait = make(precision, threads, device)
    return 2 * SIZES[device] ** 3 / _best(product, wait, seconds, QUEUED[device]) / 1e9


def copy_gigabytes(library: str, seconds: float) -> float:
    """GB/s, read and written, of the fastest of the copies on a GPU that fit into `seconds`."""
    copy, wait = {"torch": _torch_copy, "cupy": _cupy_copy}[library]()
    return 2 * COPY_BYTES / _best(copy, wait, seconds, QUEUED["cuda"]) / 1e9


def _best(run: Run, wait: Run, seconds: float, queued: int) -> float:
    """Least seconds of one of `queued` runs and a wait."""

    def once() -> float:
        started = time.perf_counter()
        for _ in range(queued):
            run()
        wait()
        return (time.perf_counter() - started) / queued

    once()
    best, began, count = float("inf"), time.perf_counter(), 0
    while count < 5 or time.perf_counter() - began < seconds:
        best = min(best, once())
        count += 1
    return best


def _nothing() -> None:
    """Waits for no device."""


def _matrix(device: str) -> Any:
    size = SIZES[device]
    return np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)


def _in_numpy(precision: str, threads: int, device: str) -> tuple[Run, Run]:
    a = _matrix(device).astype(precision)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out), _nothing


def _in_torch(precision: str, threads: int, device: str) -> tuple[Run, Run]:
    import torch

    torch.set_num_threads(threads)
    if device != "cpu":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a = torch.from_numpy(_matrix(device)).to(device, dtype)
    out = torch.empty_like(a)
    wait = _nothing if device == "cpu" else torch.cuda.synchronize
    return lambda: torch.mm(a, a, out=out), wait


def _in_jax(precision: str, threads: int, device: str) -> tuple[Run, Run]:
    import jax
    import jax.numpy as jnp

    kind = "tensorfloat32" if precision == "tf32" else "highest"
    a = jnp.asarray(_matrix(device), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    product = jax.jit(lambda x: jnp.matmul(x, x, precision=None if device == "cpu" else kind))
    # JAX runs one device's work in order: whoever waits for the last product waits for all.
    made: list[Any] = [product(a)]

    def run() -> None:
        made[0] = product(a)

    return run, lambda: made[0].block_until_ready()


def _in_cupy(precision: str, threads: int, device: str) -> tuple[Run, Run]:
    os.environ["CUPY_TF32"] = str(int(precision == "tf32"))
    cupy = importlib.import_module("cupy")
    a = cupy.asarray(_matrix(device))
    out = cupy.empty_like(a)
    return lambda: cupy.matmul(a, a, out=out), cupy.cuda.Device().synchronize


def _torch_copy() -> tuple[Run, Run]:
    import torch

    a = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    out = torch.empty_like(a)
    return lambda: out.copy_(a), torch.cuda.synchronize


def _cupy_copy() -> tuple[Run, Run]:
    cupy = importlib.import_module("cupy")
    a = cupy.zeros(COPY_BYTES // 4, np.float32)
    out = cupy.empty_like(a)
    return lambda: cupy.copyto(out, a), cupy.cuda.Device().synchronize
