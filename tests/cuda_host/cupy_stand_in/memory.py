"""Device memory, pinned memory, and copies in the order of a stream."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any

from tests.cuda_host.cupy_stand_in.device import Device, current_device, machine
from tests.cuda_host.cupy_stand_in.errors import CUDARuntimeError, OutOfMemoryError
from tests.cuda_host.cupy_stand_in.streams import Stream, get_current_stream, stream_of
from tests.cuda_host.memory import Memory, extent
from tests.cuda_host.run import KernelFault

PAGE = 512  # pinned memory is handed out in multiples of this, as CuPy does


class DeviceMemory:
    """Bytes of a device; the stream they were made on keeps them while its work needs them."""

    def __init__(self, size: int) -> None:
        machine().check()
        stream = get_current_stream()
        stream.forbid_capture()
        self.size, self.device_id, used = size, current_device(), machine().used
        if used[self.device_id] + size > machine().memory:
            raise OutOfMemoryError(size, used[self.device_id])
        self._memory = Memory(size)
        self.ptr, self.stream = self._memory.ptr, stream.ptr
        used[self.device_id] += size
        weakref.finalize(self, _give_back, used, self.device_id, size).atexit = False


def _give_back(used: list[int], device: int, size: int) -> None:
    used[device] -= size


class UnownedMemory:
    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.size, self._owner, self.stream = ptr, size, owner, None
        self.device_id = current_device() if device_id == -1 else device_id


class MemoryPointer:
    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def __int__(self) -> int:
        return self.ptr

    @property
    def device(self) -> Device:
        return Device(self.device_id)

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        target, kept = self.ptr, [self.mem]
        _queue(stream, kept, lambda: ctypes.memset(checked(target, size), value, size))

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        copy_async(self.ptr, src.ptr, size, stream, [self.mem, src.mem])

    def copy_from_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        copy_async(self.ptr, _host_address(mem), size, stream, [self.mem])

    def copy_to_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        copy_async(_host_address(mem), self.ptr, size, stream, [self.mem])


def _host_address(place: Any) -> int:
    if isinstance(place, ctypes.c_void_p):
        return int(place.value or 0)
    return int(getattr(place, "ptr", place))


def checked(address: int, size: int) -> int:
    """The address, if that many bytes of a live array are there."""
    room = extent(address)
    if room < size:
        what = "freed memory" if room == -1 else f"{size} bytes at an address with {room}"
        raise KernelFault(f"a copy or fill of {what}")
    return address


def _queue(stream: Stream | None, kept: list[Any], work: Any) -> None:
    """Queue work on the stream, with the memory of that stream that it needs."""
    stream = get_current_stream() if stream is None else stream
    add_keeping(stream, kept, work)


def add_keeping(stream: Stream, memories: list[Any], work: Any) -> None:
    """Queue work; memory of the same stream may be freed before it is done, as in CuPy's pool.

    A capture keeps nothing: what it reads must live as long as its graph.
    """
    kept = [m for m in memories if m.stream == stream.ptr and not stream.is_capturing()]

    def do(kept: list[Any] = kept) -> None:
        work()

    stream.add(do)


def _is_guarded(address: int) -> bool:
    return extent(address) != -2


def copy_async(
    target: int, source: int, size: int, stream: Stream | None, memories: list[Any]
) -> None:
    """A copy in the stream's order.

    Memory that is neither a device's nor pinned is read before this returns, and written only
    after all work before it.
    """
    stream = get_current_stream() if stream is None else stream
    pageable_target = not _is_guarded(target)
    if not _is_guarded(source):
        stream.forbid_capture()
        held = ctypes.string_at(source, size)
        add_keeping(stream, memories, lambda: ctypes.memmove(checked(target, size), held, size))
        return
    if pageable_target:
        stream.forbid_capture()

    def copy() -> None:
        place = target if pageable_target else checked(target, size)
        ctypes.memmove(place, checked(source, size), size)

    add_keeping(stream, memories, copy)
    if pageable_target:
        stream.drain()


def alloc_pinned_memory(size: int) -> Any:
    """What CuPy's pointer to pinned memory offers: `ptr`, `mem`, and the buffer protocol."""
    machine().check()
    get_current_stream().forbid_capture()
    whole = max(1, math.ceil(size / PAGE)) * PAGE
    memory = Memory(whole)
    kind = type("PinnedMemoryPointer", (ctypes.c_byte * whole,), {"size": lambda self: whole})
    buffer = kind.from_address(memory.ptr)
    buffer.mem, buffer.ptr = memory, memory.ptr
    return buffer


def memcpy_async(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    """cudaMemcpyAsync: 0..4 are host to host, to device, back, on the device, as it finds."""
    on_device = {0: (False, False), 1: (True, False), 2: (False, True), 3: (True, True)}
    for address, guarded in zip((dst, src), on_device.get(kind, (None, None)), strict=True):
        if guarded and not _is_guarded(address):
            raise CUDARuntimeError(1)
    copy_async(dst, src, size, stream_of(stream), [])


class MemoryPool:
    """Freed memory is given back at once, so there is nothing in it."""

    def free_all_blocks(self, stream: Any = None) -> None: ...

    def used_bytes(self) -> int:
        return sum(machine().used)

    def total_bytes(self) -> int:
        return sum(machine().used)

    def free_bytes(self) -> int:
        return 0

    def get_limit(self) -> int:
        return 0  # none


class PinnedMemoryPool:
    def free_all_blocks(self) -> None: ...

    def n_free_blocks(self) -> int:
        return 0
