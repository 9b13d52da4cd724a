"""Runs a launch on the host, after checking its arguments against the kernel's parameters."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.build import Built, Type, load, runtime
from tests.cuda_host.memory import extent

MODES = {"forward": 0, "reverse": 1, "random": 2}
MAX_SHARED, MAX_STATIC_SHARED = 227 * 1024, 48 * 1024


class KernelFault(RuntimeError):
    """A kernel did what it must not, or was launched as it must not be."""


@dataclass(frozen=True)
class Order:
    """In which order things happen that a device may do in any.

    Attributes:
        threads, blocks: "forward", "reverse" or "random".
        copies: when asynchronous copies arrive, "late" (as the waits allow) or "early" (at once).
        seed: of what is random.
    """

    threads: str = "forward"
    blocks: str = "forward"
    copies: str = "late"
    seed: int = 0


FORWARD = Order()
ORDERS = (
    FORWARD,
    Order("reverse", "reverse"),
    Order("random", "random", seed=1),
    Order("random", "random", "early", seed=2),
    Order("forward", "reverse", "early"),
)


class _Settings(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint64),
        ("threads", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("early_copies", ctypes.c_int32),
        ("cooperative", ctypes.c_int32),
        ("statics", ctypes.c_int32),
        ("static_offset", ctypes.POINTER(ctypes.c_uint64)),
        ("static_size", ctypes.POINTER(ctypes.c_uint64)),
        ("seconds", ctypes.c_double),
    )


def check_shape(launch: Launch, built: Built) -> None:
    if len(launch.grid) != 3 or len(launch.block) != 3:
        raise KernelFault(f"{launch.kernel}: grid and block have three numbers")
    if min(*launch.grid, *launch.block) < 1:
        raise KernelFault(f"{launch.kernel}: grid {launch.grid} of blocks {launch.block} is empty")
    if math.prod(launch.block) > 1024 or launch.block[2] > 64:
        raise KernelFault(f"{launch.kernel}: a block {launch.block} has more than 1024 threads")
    if launch.grid[0] >= 2**31 or max(launch.grid[1:]) >= 2**16:
        raise KernelFault(f"{launch.kernel}: grid {launch.grid} is too large")
    static = sum(size for _, size in built.statics)
    if static > MAX_STATIC_SHARED or static + launch.shared > MAX_SHARED:
        raise KernelFault(
            f"{launch.kernel}: {static} + {launch.shared} bytes of shared memory are too many"
        )


def _address(argument: Any) -> tuple[int, np.dtype | None]:
    """Where an array begins, and its dtype if it says."""
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise TypeError("the array is not contiguous")
        return argument.ctypes.data, argument.dtype
    try:
        return int(argument.data.ptr), getattr(argument, "dtype", None)
    except AttributeError:
        raise TypeError(f"a {type(argument).__name__} is no device array") from None


def _check_pointee(dtype: np.dtype, pointee: Type) -> None:
    """Floats go to floats, and sizes are equal; a struct takes what its size is a multiple of."""
    if pointee.kind == "V":
        fits = pointee.size == 0 or pointee.size % dtype.itemsize == 0
    else:
        is_float = dtype.kind == "f"
        fits = dtype.itemsize == pointee.size and is_float == (pointee.kind == "f")
    if not fits and (pointee.kind, pointee.size) != ("u", 1):
        raise TypeError(f"an array of {dtype} for a pointer to {pointee}")


def _pointer(argument: Any, pointee: Type) -> bytes:
    if argument is None:
        return bytes(8)
    address, dtype = _address(argument)
    room = extent(address)
    if room < 0:
        raise TypeError("the array was freed" if room == -1 else "the array is not guarded")
    if dtype is not None:
        _check_pointee(dtype, pointee)
    return address.to_bytes(8, "little")


def _value(argument: Any, parameter: Type, pointee: Type) -> bytes:
    """An argument's bytes as its parameter has them."""
    if parameter.kind == "p":
        return _pointer(argument, pointee)
    if not isinstance(argument, np.generic):
        raise TypeError(f"a {type(argument).__name__} for a number; NumPy's are taken")
    kinds_fit = parameter.kind == "V" or argument.dtype.kind == parameter.kind
    if argument.dtype.itemsize != parameter.size or not kinds_fit:
        raise TypeError(f"{argument.dtype} for a parameter of {parameter}")
    return argument.tobytes()


def arguments_of(launch: Launch, built: Built) -> list[bytes]:
    """The arguments as bytes, checked against the parameters."""
    if len(launch.arguments) != len(built.parameters):
        raise KernelFault(
            f"{launch.kernel}: {len(launch.arguments)} arguments for"
            f" {len(built.parameters)} parameters"
        )
    values = []
    for i, argument in enumerate(launch.arguments):
        try:
            values.append(_value(argument, built.parameters[i], built.pointees[i]))
        except TypeError as error:
            raise KernelFault(f"{launch.kernel}: argument {i}: {error}") from None
    return values


def _numbers(values: list[int]) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * len(values))(*values)


def call(
    launch: Launch, built: Built, values: list[bytes], order: Order, seconds: float = 60.0
) -> None:
    """Run a launch whose arguments are given as bytes."""
    buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
    parameters = (ctypes.c_void_p * max(1, len(buffers)))(*map(ctypes.addressof, buffers))
    settings = _Settings(
        launch.grid,
        launch.block,
        launch.shared,
        MODES[order.threads],
        MODES[order.blocks],
        order.seed,
        order.copies == "early",
        launch.cooperative,
        len(built.statics),
        _numbers([offset for offset, _ in built.statics]),
        _numbers([size for _, size in built.statics]),
        seconds,
    )
    message, counter = ctypes.create_string_buffer(2048), ctypes.c_uint64()
    failed = runtime().cuda_host_launch(
        built.call,
        parameters,
        ctypes.byref(settings),
        ctypes.c_void_p(built.base),
        message,
        ctypes.c_size_t(len(message)),
        ctypes.byref(counter),
    )
    if failed:
        line = built.line_of(counter.value) if counter.value else ""
        at = f" at {line}" if line else ""
        raise KernelFault(f"{launch.kernel}: {message.value.decode()}{at}")


# What runs launches in place of the host, or None.
elsewhere: Callable[[Launch], None] | None = None


def run(
    launch: Launch, order: Order = FORWARD, *, architecture: int = 900, seconds: float = 60.0
) -> None:
    """Run a launch to its end.

    Args:
        launch: its arrays are guarded NumPy arrays (memory.py) or have `.data.ptr`.
        order: of threads, blocks and copies.
        architecture: what __CUDA_ARCH__ is.
        seconds: of processor time after which the kernel is stopped; 0 for no limit.
    """
    built = load(launch.kernel, architecture)
    check_shape(launch, built)
    call(launch, built, arguments_of(launch, built), order, seconds)
