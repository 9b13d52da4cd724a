"""What an array's number type is called in the kernels, and the checks that all launches share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# NumPy has no bfloat16: its bits travel as uint16, a type that no other array here has.
NUMBER_TYPES = {
    np.dtype(np.float64): "double",
    np.dtype(np.float32): "float",
    np.dtype(np.float16): "float16",
    np.dtype(np.uint16): "bfloat16",
}

# Other types that data come in; a bool is a byte of 0 or 1.
INTEGER_TYPES = {
    np.dtype(np.bool_): "uint8",
    np.dtype(np.uint8): "uint8",
    np.dtype(np.int8): "int8",
    np.dtype(np.int16): "int16",
    np.dtype(np.int32): "int32",
    np.dtype(np.int64): "int64",
}

BLOCK = 256  # threads of a block, where a kernel says nothing else
MOST_BLOCKS = 2048  # of a loop over elements: enough to fill any device, few enough to add up


def number_type(dtype: Any) -> str:
    """The kernels' name of an array's number type; TypeError for a dtype that they do not have."""
    name = NUMBER_TYPES.get(np.dtype(dtype))
    if name is None:
        raise TypeError(
            f"kernels compute with float64, float32, float16 and bfloat16 (as uint16), not {dtype}"
        )
    return name


def element_type(dtype: Any) -> str:
    """The kernels' name of a type of data: `number_type`, or an integer of elements.cuh."""
    return INTEGER_TYPES.get(np.dtype(dtype)) or number_type(dtype)


def compute_type(dtype: Any) -> type[np.floating[Any]]:
    """In which a kernel computes with numbers of this dtype: numbers.cuh's Compute<T>."""
    return np.float64 if number_type(dtype) == "double" else np.float32


def check_shape(name: str, array: Any, *shape: int) -> None:
    """ValueError unless `array` is of this shape."""
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {tuple(array.shape)}")


def check_dtype(name: str, array: Any, *dtypes: Any) -> None:
    """TypeError unless `array` is of one of these dtypes."""
    if not any(array.dtype == dtype for dtype in dtypes):
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise TypeError(f"{name} must be of {expected}, not {array.dtype}")


def blocks_for(work: int, threads: int = BLOCK, most: int = MOST_BLOCKS) -> int:
    """Blocks so that each of `work` items has its thread, or `most`, which then take turns."""
    return max(1, min(math.ceil(work / threads), most))


def row_lanes(width: int) -> int:
    """Threads for a row of so many elements: the next power of two, or 32."""
    return 1 << min(max(width - 1, 0).bit_length(), 5)
