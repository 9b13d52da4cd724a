"""A CUDA device through CuPy: its memory, one stream, and kernels launched by description.

All that this package asks of CuPy is asked here. Work is queued on a stream of our own, in order;
what fails there shows at the next wait, and is named as well as can be.
"""

from __future__ import annotations

import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from mlp.backends.cuda.arrays import as_cupy, as_kernels_read
from mlp.backends.cuda.library import CublasLt
from mlp.backends.cuda.module import load_function
from mlp.backends.cuda.setup import (
    import_cupy,
    require_compiler,
    require_device,
    require_one_cupy,
)
from mlp.backends.protocol import Array, HostArray
from mlp.errors import BackendUnavailable, DeviceFault, DeviceOutOfMemory, InvalidInput
from mlp_kernels.cuda.compile import LEAST_CAPABILITY, Kernel
from mlp_kernels.cuda.launch import LibraryProduct, Work

# Set to 1, every kernel is waited for, so that a fault names the one kernel that it is of.
CHECK_VARIABLE = "MLP_CUDA_CHECK"
# CUDA's error code for it: pinned memory and graphs are not allocated by CuPy's pool.
OUT_OF_MEMORY = 2
# Held while launches that belong together are queued or recorded: threads share a device, also for
# computing in different precisions.
_LOCKS: defaultdict[int, threading.RLock] = defaultdict(threading.RLock)


class CudaDevice:
    """One device: memory, one stream, kernels.

    Args:
        number: of the device, from 0.

    Attributes:
        name: what the manufacturer calls it.
        capability: compute capability, like (9, 0).
        processors: multiprocessors.
        shared_bytes: of shared memory that a block may ask for.
        cooperative: whether all blocks of a launch can be made to run at once.
        total_bytes: of memory.
        lock: held by a thread while it queues launches that belong together.
        library: of products, where there is one.

    Raises:
        BackendUnavailable: no such device, or something that it needs is missing or too old.
    """

    def __init__(self, number: int) -> None:
        self.cupy = import_cupy()
        self.number = number
        require_device(self.cupy, number)
        require_one_cupy()
        try:
            self._open()
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendUnavailable(
                f"CUDA device {number} cannot be used ({error}): another process may have it for "
                "itself or fill its memory, or this process is a fork of one that used CUDA; "
                "use device='cpu'"
            ) from error
        self.lock = _LOCKS[number]
        self._functions: dict[tuple[Kernel, bool], Any] = {}
        # Dynamic shared memory that a block of each may have.
        self._may_have: dict[tuple[Kernel, bool], int] = {}
        self._in_flight: dict[Kernel, None] = {}
        self._recording: list[Work] | None = None
        self.library = CublasLt(self)
        self._check = os.environ.get(CHECK_VARIABLE) == "1"

    def _open(self) -> None:
        cuda, number = self.cupy.cuda, self.number
        self._handle = cuda.Device(number)
        digits = str(self._handle.compute_capability)
        self.capability = (int(digits[:-1]), int(digits[-1]))
        if self.capability < LEAST_CAPABILITY:
            raise BackendUnavailable(
                f"device {number} has compute capability {self.capability[0]}."
                f"{self.capability[1]}, but {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} or newer "
                "is needed; use device='cpu'"
            )
        require_compiler(self.cupy)
        attributes = self._handle.attributes
        self.processors = int(attributes["MultiProcessorCount"])
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.cooperative = bool(attributes["CooperativeLaunch"])
        # Such a device reads the host's own pages, which then must not change before it has.
        self._reads_host = bool(attributes.get("PageableMemoryAccessUsesHostPageTables", 0))
        self.name = cuda.runtime.getDeviceProperties(number)["name"].decode()
        with self._handle:
            self.stream = cuda.Stream(non_blocking=True)
            self.total_bytes = int(self._handle.mem_info[1])

    # --- memory ---------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array; raises DeviceOutOfMemory."""
        with self._working():
            return self.cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array of 0."""
        array = self.empty(shape, dtype)
        if array.nbytes:
            with self._working():
                array.data.memset_async(0, array.nbytes, self.stream)
        return array

    def upload(self, source: HostArray, out: Array, stream: Any = None) -> None:
        """Out = a contiguous host array of its shape and dtype, copied on our stream or another.

        The source may change once this ends, unless it is pinned: then once the copy is done.
        """
        if source.nbytes:
            with self._working():
                out.set(source, stream=stream or self.stream)
                if self._reads_host and stream is None:
                    self.stream.synchronize()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """A host array that the device copies from by itself, while the host goes on."""
        count = math.prod(shape)
        with self._working():
            memory = self.cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def download(self, array: Array) -> HostArray:
        """A host copy; waits."""
        with self._working():
            host: HostArray = array.get(stream=self.stream)
        self._in_flight.clear()
        return host

    def own(self, value: Any) -> Array | None:
        """A user's value as an array of this device that kernels read; None if it is on none.

        Raises:
            InvalidInput: it is on another device, or cannot be read.
        """
        array = as_cupy(self.cupy, value)
        if array is None:
            return None
        number = int(array.data.device_id)
        if number != self.number:
            raise InvalidInput(
                f"an array on CUDA device {number} cannot be used on device {self.number}; "
                "copy it there, or use its device"
            )
        with self.lock, self._working():  # a device cannot be waited for during a capture
            # Whoever made it may still be writing it, on a stream that ours does not wait for.
            self._handle.synchronize()
            return as_kernels_read(self.cupy, array)

    @property
    def free_bytes(self) -> int:
        """What an allocation could get: free on the device, or held for reuse by CuPy."""
        with self._working():
            return self._free_bytes()

    def _free_bytes(self) -> int:
        pool = self.cupy.get_default_memory_pool()
        free = int(self._handle.mem_info[0]) + int(pool.free_bytes())
        limit = int(pool.get_limit())  # 0 for none
        return min(free, limit - int(pool.used_bytes())) if limit else free

    # --- other streams --------------------------------------------------------------------------

    def new_stream(self) -> Any:
        """Another stream, for copies."""
        with self._working():
            return self.cupy.cuda.Stream(non_blocking=True)

    def event(self, timed: bool = False) -> Any:
        """A mark in a stream that others can wait for; the time between two may be asked for."""
        with self._working():
            return self.cupy.cuda.Event(disable_timing=not timed)

    def record(self, event: Any, stream: Any = None) -> None:
        """Sets the mark behind all that is queued on a stream; ours by default."""
        with self._working():
            event.record(stream or self.stream)

    def wait(self, event: Any, stream: Any = None) -> None:
        """Queues a wait for the mark on a stream; ours by default."""
        with self._working():
            (stream or self.stream).wait_event(event)

    def wait_on_host(self, event: Any) -> None:
        """Waits for the mark."""
        with self._working():
            event.synchronize()

    def seconds_between(self, start: Any, end: Any) -> float:
        """Of the device's time, between two timed marks; waits for the second."""
        self.wait_on_host(end)
        with self._working():
            return float(self.cupy.cuda.get_elapsed_time(start, end)) / 1000

    def current(self) -> AbstractContextManager[None]:
        """A context in which the device and its stream are the current ones."""
        return self._working()

    # --- kernels --------------------------------------------------------------------------------

    def submit(self, launch: Work) -> None:
        """Queues a launch, or notes it where launches are being recorded."""
        with self.lock:
            function = self._function(launch)
            if self._recording is not None:
                self._recording.append(launch)
                return
            with self._working():
                self._queue(function, launch)
                if self._check:
                    self._wait()

    @property
    def recording(self) -> bool:
        """Whether launches are noted now, and not queued."""
        return self._recording is not None

    @property
    def checked(self) -> bool:
        """Whether every kernel is waited for."""
        return self._check

    @contextmanager
    def not_recorded(self) -> Iterator[None]:
        """Launches in this context are queued, also where others are being recorded."""
        with self.lock:
            outer, self._recording = self._recording, None
            try:
                yield
            finally:
                self._recording = outer

    @contextmanager
    def recorded(self) -> Iterator[list[Work]]:
        """Launches in this context are noted in its value and not queued."""
        launches: list[Work] = []
        with self.lock:
            outer, self._recording = self._recording, launches
            try:
                yield launches
            finally:
                self._recording = outer

    def graph(self, launches: Sequence[Work]) -> Graph:
        """The launches as one CUDA graph; in checked mode, as they are."""
        functions = [self._function(launch) for launch in launches]
        if self._check:
            return Graph(self, launches, None)
        with self.lock, self._working():
            # Of its own, so that other threads can wait for ours meanwhile.
            stream = self.cupy.cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                try:
                    for function, launch in zip(functions, launches, strict=True):
                        self._queue(function, launch)
                except BaseException:
                    with suppress(Exception):  # the first error is the one to tell
                        stream.end_capture()
                    raise
                captured = stream.end_capture()
        return Graph(self, launches, captured)

    def replay(self, captured: Any, kernels: dict[Kernel, None]) -> None:
        """Queues a captured graph of these kernels; made to take little of the host's time."""
        self._in_flight.update(kernels)
        try:
            with self._handle:
                captured.launch(stream=self.stream)
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            raise self._fault(error) from error

    def synchronize(self) -> None:
        """Waits for all that was queued; raises DeviceFault if any of it failed."""
        with self._working():
            self._wait()

    def _wait(self) -> None:
        self.stream.synchronize()
        self._in_flight.clear()

    def _queue(self, function: Any, launch: Work) -> None:
        self._in_flight[launch.kernel] = None
        if isinstance(launch, LibraryProduct):
            function(self.cupy.cuda.get_current_stream().ptr)
            return
        arguments = tuple(np.uintp(0) if a is None else a for a in launch.arguments)
        function(launch.grid, launch.block, arguments, shared_mem=launch.shared)

    def _function(self, launch: Work) -> Any:
        """The compiled kernel of a launch; CuPy keeps it on disk for the next process."""
        if isinstance(launch, LibraryProduct):
            return self.library.prepared(launch)
        key = launch.kernel, launch.cooperative
        function = self._functions.get(key)
        if function is None:
            with self._working():
                function = self._functions[key] = self._compiled(*key)
        if launch.shared > self._may_have.get(key, 0):
            with self._working():
                self._may_have[key] = _with_room(function, launch.shared)
        return function

    def _compiled(self, kernel: Kernel, cooperative: bool) -> Any:
        try:
            return load_function(self.cupy, kernel, cooperative)
        except self.cupy.cuda.compiler.CompileException as error:
            major, minor = self.capability
            raise DeviceFault(
                f"the kernel {kernel} does not compile for sm_{major}{minor}; report this, and "
                f"use device='cpu' until then: {error}"
            ) from error

    # --- errors ---------------------------------------------------------------------------------

    @contextmanager
    def _working(self) -> Iterator[None]:
        """The device and its stream made the current ones, and CuPy's errors made ours."""
        cuda = self.cupy.cuda
        with ExitStack() as stack:
            try:
                stack.enter_context(self._handle)
                stack.enter_context(self.stream)
                yield
            except cuda.memory.OutOfMemoryError as error:
                raise self._out_of_memory(error) from error
            except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
                if getattr(error, "status", 0) == OUT_OF_MEMORY:
                    raise self._out_of_memory(error) from error
                raise self._fault(error) from error

    def _out_of_memory(self, error: Any) -> DeviceOutOfMemory:
        asked, free = int(getattr(error, "_size", 0)), self._free_bytes()
        wanted = f"{_size(asked)} were asked for" if asked else str(error)
        return DeviceOutOfMemory(
            f"device {self.number} is out of memory: {wanted}, {_size(free)} are free; use fewer "
            "rows or a smaller network, or end what else uses the device",
            asked,
            free,
        )

    def _fault(self, error: Exception) -> DeviceFault:
        kernels = [*self._in_flight]
        if len(kernels) == 1:
            where = f"the kernel {kernels[0]} failed"
        elif kernels:
            names = ", ".join(sorted({kernel.name for kernel in kernels}))
            where = (
                f"one of these kernels failed: {names}; set {CHECK_VARIABLE}=1 and run again to "
                "learn which"
            )
        else:
            where = "work other than our kernels failed"
        return DeviceFault(
            f"CUDA device {self.number}: {error}; {where}. Start a new process to use the device "
            "again"
        )


class Graph:
    """Launches recorded as one; keeps alive every array that they were given.

    Args:
        device: whose stream it runs on.
        launches: what was recorded.
        captured: the CUDA graph, or None to run the launches one by one.
    """

    def __init__(self, device: CudaDevice, launches: Sequence[Work], captured: Any) -> None:
        self._device, self._launches, self._captured = device, [*launches], captured
        self._kernels = dict.fromkeys(launch.kernel for launch in launches)

    def __call__(self) -> None:
        """Queues all of them."""
        with self._device.lock:
            self._queue()

    def _queue(self) -> None:
        if self._captured is not None:
            self._device.replay(self._captured, self._kernels)
            return
        for launch in self._launches:
            self._device.submit(launch)


def _with_room(function: Any, size: int) -> int:
    """Lets blocks have so much dynamic shared memory; returns what they may have.

    At first that is 48 KiB less the kernel's own variables. It is never lowered: other functions of
    the process may be the same kernel of the driver's.
    """
    allowed = int(function.max_dynamic_shared_size_bytes)
    if size <= allowed:
        return allowed
    function.max_dynamic_shared_size_bytes = size
    return size


def _size(count: int) -> str:
    """Bytes in words."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
