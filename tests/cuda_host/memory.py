"""Arrays in guarded memory: a kernel that reads or writes beside one is stopped."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from tests.cuda_host.build import runtime

# Where memory begins: TIGHT lets an array end, rounded up to 16 bytes, where memory ends; DEVICE is
# what a device's allocator gives, with up to 255 bytes after it that are checked, not guarded.
TIGHT, DEVICE = 16, 256


class Memory:
    """Bytes of guarded memory, full of 0xFF, freed with this object."""

    def __init__(self, size: int, alignment: int = DEVICE) -> None:
        address = runtime().cuda_host_allocate(size, alignment)
        if not address:
            raise MemoryError(f"no address space for {size} bytes")
        self.ptr, self.size = int(address), size
        weakref.finalize(self, runtime().cuda_host_release, self.ptr).atexit = False

    def view(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> np.ndarray:
        """A NumPy array of what is there; it keeps the memory alive."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        buffer = (ctypes.c_ubyte * (count * dtype.itemsize)).from_address(self.ptr + offset)
        buffer.memory = self
        return np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape)


def empty(shape: int | tuple[int, ...], dtype: Any, alignment: int = TIGHT) -> np.ndarray:
    """A NumPy array in guarded memory, all bytes 0xFF."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return Memory(size, alignment).view(shape, dtype)


def guarded(array: Any, dtype: Any = None, alignment: int = TIGHT) -> np.ndarray:
    """A copy of an array in guarded memory."""
    array = np.asarray(array, dtype)
    copy = empty(array.shape, array.dtype, alignment)
    copy[...] = array
    return copy


def extent(address: int) -> int:
    """Bytes from an address to the end of its array; -1 if that is freed, -2 if there is none."""
    return int(runtime().cuda_host_extent(address))
