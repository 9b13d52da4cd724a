"""A stand-in for the few calls of CuPy that the backend makes, carried out on the host.

    with installed(memory=2**20, capability=(8, 0)) as cupy:
        ...  # `import cupy` gives the stand-in; cupy.machine can be changed meanwhile

What is not here the backend does not use; a test that meets an AttributeError has found a new use.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cuda_host.cupy_stand_in import arrays, device, errors, kernels, memory, nvrtc, streams
from tests.cuda_host.cupy_stand_in.device import Machine


def _module(name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def _runtime() -> types.ModuleType:
    return _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=errors.CUDARuntimeError,
        getDeviceCount=device.device_count,
        getDevice=device.current_device,
        setDevice=device.set_current_device,
        driverGetVersion=lambda: device.machine().driver,
        runtimeGetVersion=lambda: device.machine().runtime,
        getDeviceProperties=device.device_properties,
        deviceSynchronize=streams.synchronize_all,
        streamSynchronize=lambda stream: streams.stream_of(stream).synchronize(),
        memcpyAsync=memory.memcpy_async,
        memcpyHostToHost=0,
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memcpyDeviceToDevice=3,
        memcpyDefault=4,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )


def _cuda() -> types.ModuleType:
    def is_available() -> bool:
        try:
            return device.device_count() > 0
        except errors.CUDARuntimeError:
            return False

    return _module(
        "cupy.cuda",
        Device=device.Device,
        Stream=streams.Stream,
        Event=streams.Event,
        Graph=streams.Graph,
        MemoryPointer=memory.MemoryPointer,
        UnownedMemory=memory.UnownedMemory,
        alloc_pinned_memory=memory.alloc_pinned_memory,
        get_current_stream=streams.get_current_stream,
        get_elapsed_time=streams.get_elapsed_time,
        is_available=is_available,
        runtime=_runtime(),
        driver=_module("cupy.cuda.driver", CUDADriverError=errors.CUDADriverError),
        compiler=_module("cupy.cuda.compiler", CompileException=errors.CompileException),
        nvrtc=nvrtc,
        memory=_module(
            "cupy.cuda.memory",
            OutOfMemoryError=errors.OutOfMemoryError,
            MemoryPointer=memory.MemoryPointer,
        ),
    )


def _cupy() -> types.ModuleType:
    pool, pinned = memory.MemoryPool(), memory.PinnedMemoryPool()
    return _module(
        "cupy",
        __version__="14.0.0",
        __path__=[],
        ndarray=arrays.ndarray,
        empty=arrays.empty,
        asarray=arrays.asarray,
        ascontiguousarray=arrays.ascontiguousarray,
        from_dlpack=arrays.from_dlpack,
        RawModule=kernels.RawModule,
        RawKernel=kernels.RawKernel,
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pinned,
        cuda=_cuda(),
    )


def _modules(cupy: types.ModuleType) -> dict[str, types.ModuleType]:
    """By their names in sys.modules; CuPy has driver and nvrtc as attributes only, too."""
    below = ("runtime", "compiler", "memory")
    return {
        "cupy": cupy,
        "cupy.cuda": cupy.cuda,
        **{f"cupy.cuda.{name}": getattr(cupy.cuda, name) for name in below},
    }


@contextmanager
def installed(**properties: Any) -> Iterator[Any]:
    """The stand-in in the place of CuPy; properties are those of `Machine`."""
    names = [name for name in sys.modules if name == "cupy" or name.startswith("cupy.")]
    real = {name: sys.modules.pop(name) for name in names}
    before = device.machine()
    cupy = _cupy()
    cupy.machine = Machine(**properties)
    device.set_machine(cupy.machine)
    streams.reset()
    sys.modules.update(_modules(cupy))
    try:
        yield cupy
    finally:
        for name in _modules(cupy):
            sys.modules.pop(name, None)
        sys.modules.update(real)
        streams.reset()
        device.set_machine(before)
