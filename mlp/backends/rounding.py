"""How each precision rounds the operands of matrix products, in NumPy: float32 to float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlp.backends.protocol import HostArray


def bfloat16_rounded(x: HostArray) -> HostArray:
    """Float32 numbers rounded to 8 significant bits, ties to even, and still float32.

    A bfloat16 is the upper half of a float32: half of the last place that stays is added, and what
    is below it cleared.
    """
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    result: HostArray = np.where(np.isnan(x), x, rounded.view(np.float32))
    return result


def tf32_rounded(x: HostArray) -> HostArray:
    """Float32 numbers rounded to 11 significant bits, ties away from zero, and still float32.

    As the conversion that NVIDIA's GPUs have for it, `cvt.rna.tf32.f32`.
    """
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    result: HostArray = np.where(np.isnan(x), x, rounded.view(np.float32))
    return result


def float16_rounded(x: HostArray) -> HostArray:
    """Float32 numbers rounded to the nearest float16, and still float32; infinite from 65520 on."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(x.dtype)


# precision -> what it makes of an operand; other precisions take operands as they are.
ROUNDED: dict[str, Callable[[HostArray], HostArray]] = {
    "tf32": tf32_rounded,
    "bfloat16": bfloat16_rounded,
    "float16": float16_rounded,
}
