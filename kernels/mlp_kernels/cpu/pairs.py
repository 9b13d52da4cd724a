"""Pairs of bfloat16: what the products of that precision pack, and what multiplies them here.

A pair of neighbours in k is one 32-bit integer, the first in the low half. The integer's type says
for which instructions operands are packed: int32 for AVX512-BF16, uint32 for AMX, which takes more
of k at a time. So what is compiled for the one is never taken for the other, in a cache on disk
neither.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from typing import Any

import numpy as np
from numba.core import types

from mlp_kernels.cpu.vectors import FEATURES

IN_VECTORS, IN_TILES = types.int32, types.uint32

# Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
SYS_ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


@functools.cache
def amx_refusal() -> str | None:
    """Why tiles cannot be used here, or None where they can.

    Linux makes room for tiles in a process that has asked for it. This asks, on the first call;
    the permission is one for all threads, those running already included.
    """
    if not {"amx-bf16", "amx-tile", "avx512f"} <= FEATURES:
        return "no AMX-BF16"
    if sys.platform != "linux":
        return f"its AMX-BF16 is used under Linux only, not under {sys.platform}"
    system = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_long(n) for n in (SYS_ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA))
    if system.syscall(*numbers) != 0:
        reason = os.strerror(ctypes.get_errno())
        return f"Linux gives no permission to use its AMX-BF16 ({reason})"
    return None


def pairs_type() -> np.dtype[Any]:
    """The type of packed pairs for the fastest instructions of this processor.

    Raises:
        RuntimeError: it has none that can be used; the message says why.
    """
    refusal = amx_refusal()
    if refusal is None:
        return np.dtype(np.uint32)
    if "avx512bf16" in FEATURES:
        return np.dtype(np.int32)
    raise RuntimeError(f"no AVX512-BF16, and {refusal}")
