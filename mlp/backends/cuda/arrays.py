"""Arrays that a user has on a CUDA device, of whichever library, as ones that the kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp.backends.protocol import Array
from mlp.errors import InvalidInput

# Numbers that the kernels have no name for, and what of theirs holds them. An array of uint16 is
# one of bfloat16 to them, so whole numbers must not come as that.
WIDER: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.uint16): np.dtype(np.int32),
    np.dtype(np.uint32): np.dtype(np.int64),
    np.dtype(np.uint64): np.dtype(np.float64),
}
# Of DLPack: memory of CUDA, and such that CUDA manages.
CUDA_MEMORY = (2, 13)


def as_cupy(cupy: Any, value: Any) -> Array | None:
    """The value as an array of CuPy's, not copied; None if it is on no CUDA device.

    Raises:
        InvalidInput: it is on one, but is not handed over.
    """
    if isinstance(value, cupy.ndarray):
        return value
    try:
        # DLPack first: reading the other attribute fails for some arrays of PyTorch's and JAX's.
        place = getattr(value, "__dlpack_device__", None)
        if place is not None:
            return cupy.from_dlpack(value) if int(place()[0]) in CUDA_MEMORY else None
        if hasattr(value, "__cuda_array_interface__"):
            return cupy.asarray(value)
    except Exception as error:  # of any library
        kind = type(value).__name__
        raise InvalidInput(f"an array on a GPU ({kind}) cannot be read: {error}") from error
    return None


def as_kernels_read(cupy: Any, array: Array) -> Array:
    """The array, or where need be a copy of its numbers: contiguous, of a dtype of the kernels'."""
    packed = array if array.flags.c_contiguous else cupy.ascontiguousarray(array)
    if packed.dtype.name == "bfloat16":  # of ml_dtypes
        return packed.view(np.uint16)
    wider = WIDER.get(packed.dtype)
    return packed if wider is None else packed.astype(wider)
