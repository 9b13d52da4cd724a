"""Arrays, as far as the backend uses CuPy's."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from tests.cuda_host.cupy_stand_in.device import Device
from tests.cuda_host.cupy_stand_in.memory import (
    DeviceMemory,
    MemoryPointer,
    UnownedMemory,
    add_keeping,
    checked,
)
from tests.cuda_host.cupy_stand_in.streams import get_current_stream, stream_of


class _Flags:
    def __init__(self, contiguous: bool) -> None:
        self.c_contiguous = contiguous


class ndarray:  # noqa: N801 - CuPy's name
    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: tuple[int, ...] | None = None,
        order: str = "C",
    ) -> None:
        self.shape = (int(shape),) if np.ndim(shape) == 0 else tuple(map(int, shape))
        self.dtype = np.dtype(dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.itemsize = self.dtype.itemsize
        self.nbytes = self.size * self.itemsize
        packed = [self.itemsize * math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim)]
        self.strides = tuple(packed if strides is None else strides)
        # Of an axis of length 1, and of an empty array, the stride says nothing.
        long = [i for i in range(self.ndim) if self.shape[i] != 1]
        contiguous = not self.size or all(self.strides[i] == packed[i] for i in long)
        self.flags = _Flags(contiguous)
        self.data = MemoryPointer(DeviceMemory(self.nbytes), 0) if memptr is None else memptr
        self.base: Any = None

    @property
    def device(self) -> Device:
        return self.data.device

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    # --- views ----------------------------------------------------------------------------------

    def _view(self, shape: Any, dtype: Any, offset: int, strides: Any) -> ndarray:
        view = ndarray(shape, dtype, self.data + offset, strides)
        view.base = self if self.base is None else self.base
        return view

    def __getitem__(self, index: Any) -> ndarray:
        """Whole numbers and slices without a step."""
        index = index if isinstance(index, tuple) else (index,)
        if len(index) > self.ndim:
            raise IndexError("too many indices for array")
        offset, shape, strides = 0, [], []
        for axis, (length, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            part = index[axis] if axis < len(index) else slice(None)
            if isinstance(part, slice):
                first, last, step = part.indices(length)
                if step != 1:
                    raise NotImplementedError("slices with a step are not part of the stand-in")
                offset += min(first, length) * stride if length else 0
                shape.append(max(0, last - first))
                strides.append(stride)
            else:
                place = range(length)[int(part)]  # IndexError out of range
                offset += place * stride
        return self._view(shape, self.dtype, offset, strides)

    def reshape(self, *shape: Any) -> ndarray:
        if not self.flags.c_contiguous:
            raise NotImplementedError("the stand-in reshapes contiguous arrays only")
        wanted = shape[0] if len(shape) == 1 else shape
        return self._view(_reshaped(self.shape, wanted), self.dtype, 0, None)

    def view(self, dtype: Any) -> ndarray:
        if np.dtype(dtype).itemsize != self.itemsize:
            raise NotImplementedError("the stand-in views numbers of one size only")
        return self._view(self.shape, dtype, 0, self.strides)

    def astype(self, dtype: Any) -> ndarray:
        """A copy, converted in the order of the stream."""
        if not self.flags.c_contiguous:
            raise NotImplementedError("the stand-in converts contiguous arrays only")
        result = ndarray(self.shape, dtype)

        def convert(source: int = self.data.ptr, target: int = result.data.ptr) -> None:
            held = ctypes.string_at(checked(source, self.nbytes), self.nbytes)
            numbers = np.frombuffer(held, self.dtype).astype(dtype)
            ctypes.memmove(checked(target, numbers.nbytes), numbers.tobytes(), numbers.nbytes)

        add_keeping(get_current_stream(), [self.data.mem, result.data.mem], convert)
        return result

    # --- to and from the host -------------------------------------------------------------------

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        if not self.flags.c_contiguous:
            raise NotImplementedError("the stand-in copies contiguous arrays only")
        if out is None:
            out = np.empty(self.shape, self.dtype)
        elif (out.dtype, out.shape) != (self.dtype, self.shape):
            raise ValueError(
                f"Shape or dtype mismatch: {out.shape} {out.dtype} for {self.shape} {self.dtype}"
            )
        elif not out.flags.c_contiguous:
            raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        stream = get_current_stream() if stream is None else stream
        self.data.copy_to_host_async(out.ctypes.data, self.nbytes, stream)
        if blocking:
            stream.synchronize()
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        arr = np.ascontiguousarray(arr)
        self.data.copy_from_host_async(arr.ctypes.data, self.nbytes, stream)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    # --- to other libraries ---------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": get_current_stream().ptr or 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.data.device_id

    def __dlpack__(self, **settings: Any) -> ndarray:
        """The array itself stands for the capsule."""
        return self


def _reshaped(shape: tuple[int, ...], wanted: Any) -> tuple[int, ...]:
    """The shape asked for, -1 filled in."""
    wanted = (int(wanted),) if np.ndim(wanted) == 0 else tuple(map(int, wanted))
    size, known = math.prod(shape), math.prod(n for n in wanted if n != -1)
    if -1 in wanted and known:
        wanted = tuple(size // known if n == -1 else n for n in wanted)
    if math.prod(wanted) != size or min(wanted, default=0) < 0:
        raise ValueError(f"cannot reshape array of size {size} into shape {wanted}")
    return wanted


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype)


def asarray(a: Any) -> ndarray:
    """A view of anything with __cuda_array_interface__, after its stream's work is done."""
    if isinstance(a, ndarray):
        return a
    if not hasattr(a, "__cuda_array_interface__"):
        raise NotImplementedError("the stand-in takes arrays that are on the device only")
    described = a.__cuda_array_interface__
    if described.get("stream"):
        stream_of(described["stream"]).synchronize()
    address, _ = described["data"]
    dtype, shape = np.dtype(described["typestr"]), described["shape"]
    memory = UnownedMemory(address, math.prod(shape) * dtype.itemsize, a)
    return ndarray(shape, dtype, MemoryPointer(memory, 0), described.get("strides"))


def from_dlpack(array: Any, *, device: Any = None, copy: Any = None) -> ndarray:
    """A view of a stand-in array, or of what passes one on."""
    if array.__dlpack_device__()[0] != 2:
        raise BufferError("the array is not on a CUDA device")
    source = array.__dlpack__(stream=get_current_stream().ptr or 1)
    if not isinstance(source, ndarray):
        raise NotImplementedError("the stand-in takes its own arrays only")
    return source._view(source.shape, source.dtype, 0, source.strides)


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    """A copy, packed row by row."""
    if a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    if a.ndim != 2 or a.strides[1] != a.itemsize or dtype not in (None, a.dtype):
        raise NotImplementedError("the stand-in packs matrices of contiguous rows only")
    packed = ndarray(a.shape, a.dtype)
    for i in range(len(a)):
        row = a[i]
        packed[i].data.copy_from_device_async(row.data, row.nbytes)
    return packed
