"""The best matrix product of the libraries at hand: what the share of peak in a table refers to."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

SIZE = 2048
# precision -> libraries whose product of two SIZE x SIZE matrices is timed
PRODUCTS = {"float32": ("numpy", "torch", "jax"), "bfloat16": ("torch",)}


def product_gflops(library: str, precision: str, threads: int, seconds: float) -> float:
    """GFLOP/s of the fastest of the products that fit into `seconds`, at least five."""
    make = {"numpy": _in_numpy, "torch": _in_torch, "jax": _in_jax}[library]
    product = make(precision, threads)
    product()
    best, began, count = float("inf"), time.perf_counter(), 0
    while count < 5 or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - started)
        count += 1
    return 2 * SIZE**3 / best / 1e9


def _in_numpy(precision: str, threads: int) -> Callable[[], object]:
    a = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(precision)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def _in_torch(precision: str, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(SIZE, SIZE, dtype=getattr(torch, precision))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def _in_jax(precision: str, threads: int) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(np.random.default_rng(0).standard_normal((SIZE, SIZE)), precision)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, a).block_until_ready()
