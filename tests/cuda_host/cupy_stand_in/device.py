"""The machine that the stand-in pretends to be, and cupy.cuda.Device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cuda_host.cupy_stand_in.errors import CUDARuntimeError
from tests.cuda_host.run import FORWARD, Order


@dataclass
class Machine:
    """What a test can choose, and change while it runs.

    Attributes:
        count: devices.
        capability: compute capability; also what the kernels are compiled for.
        memory: bytes of each device.
        processors: multiprocessors.
        driver: version of CUDA that the driver supports; 0 for none.
        runtime: version of CUDA that CuPy is built for.
        name: of each device.
        shared: bytes of shared memory that a block can ask for.
        cooperative: whether cooperative launches can be had.
        lazy: whether work waits in its stream until something waits for it.
        order: of threads, blocks and copies in every kernel.
        cost: microseconds that a kernel takes, by its name and macros in words ("cublasLt" for a
            product of the library): what events measure.
        clock: microseconds that all kernels so far have taken.
    """

    count: int = 1
    capability: tuple[int, int] = (9, 0)
    memory: int = 8 * 2**30
    processors: int = 4
    driver: int = 13000
    runtime: int = 13000
    name: str = "Stand-in"
    shared: int = 227 * 1024
    cooperative: bool = True
    lazy: bool = True
    order: Order = FORWARD
    cost: Callable[[str], float] = lambda kernel: 1.0
    clock: float = 0.0
    used: list[int] = field(default_factory=list)  # bytes, by device
    fault: CUDARuntimeError | None = None  # sticks, as on a device

    def __post_init__(self) -> None:
        self.used = [0] * self.count

    @property
    def architecture(self) -> int:
        return 100 * self.capability[0] + 10 * self.capability[1]

    def work(self, kernel: str) -> None:
        """Lets the time pass that a kernel takes."""
        self.clock += self.cost(kernel)

    def check(self) -> None:
        """Raises if no device can be used, or one had a fault before."""
        device_count()
        if self.fault is not None:
            raise self.fault


class _Current:
    machine = Machine()


def machine() -> Machine:
    """The machine that is installed."""
    return _Current.machine


def set_machine(new: Machine) -> None:
    _Current.machine = new


def device_count() -> int:
    if machine().driver // 1000 < machine().runtime // 1000:
        raise CUDARuntimeError(35)
    if machine().count == 0:
        raise CUDARuntimeError(100)
    return machine().count


_thread = threading.local()


def current_device() -> int:
    return getattr(_thread, "device", 0)


def set_current_device(number: int) -> None:
    if not 0 <= number < device_count():
        raise CUDARuntimeError(101)
    _thread.device = number


class Device:
    def __init__(self, device: Any = None) -> None:
        self.id = current_device() if device is None else int(getattr(device, "id", device))
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._before.append(current_device())
        set_current_device(self.id)
        return self

    def __exit__(self, *exception: object) -> None:
        set_current_device(self._before.pop())

    def use(self) -> Device:
        set_current_device(self.id)
        return self

    def synchronize(self) -> None:
        from tests.cuda_host.cupy_stand_in.streams import synchronize_all

        synchronize_all()

    def _require(self) -> None:
        if not 0 <= self.id < device_count():
            raise CUDARuntimeError(101)

    @property
    def attributes(self) -> dict[str, int]:
        self._require()
        return {
            "MultiProcessorCount": machine().processors,
            "MaxSharedMemoryPerBlock": 48 * 1024,
            "MaxSharedMemoryPerBlockOptin": machine().shared,
            "CooperativeLaunch": int(machine().cooperative),
            "MaxSharedMemoryPerMultiprocessor": machine().shared + 1024,
            "MaxThreadsPerBlock": 1024,
            "MaxThreadsPerMultiProcessor": 2048,
            "WarpSize": 32,
        }

    @property
    def compute_capability(self) -> str:
        self._require()
        return "".join(map(str, machine().capability))

    @property
    def mem_info(self) -> tuple[int, int]:
        self._require()
        return machine().memory - machine().used[self.id], machine().memory


def device_properties(number: int) -> dict[str, Any]:
    if not 0 <= number < device_count():
        raise CUDARuntimeError(101)
    major, minor = machine().capability
    return {
        "name": machine().name.encode(),
        "totalGlobalMem": machine().memory,
        "major": major,
        "minor": minor,
        "multiProcessorCount": machine().processors,
        "sharedMemPerBlockOptin": machine().shared,
        "warpSize": 32,
    }
