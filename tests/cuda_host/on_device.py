"""Runs a test's launch on a device in place of the host: its arrays go there, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mlp.backends.cuda.device import CudaDevice
from mlp.backends.protocol import ALIGNMENT
from mlp_kernels.cuda.launch import Launch
from tests.cuda_host import run


def runner(device: CudaDevice) -> Callable[[Launch], None]:
    """A function that does on the device what `run.run` does on the host."""

    def run_there(launch: Launch) -> None:
        places: dict[int, tuple[np.ndarray, Any, int]] = {}

        def place(argument: Any) -> Any:
            if not isinstance(argument, np.ndarray):
                return argument
            address = argument.ctypes.data
            if address not in places or places[address][0].nbytes < argument.nbytes:
                places[address] = argument, *_copy_of(device, argument)
            _, there, offset = places[address]
            return np.uintp(there.data.ptr + offset)

        # The larger of two arrays at one address first, so that both share its copy.
        for argument in launch.arguments:
            place(argument)
        device.submit(replace(launch, arguments=tuple(map(place, launch.arguments))))
        for array, there, offset in places.values():
            back = device.download(there)[offset : offset + array.nbytes]
            array[...] = back.view(array.dtype).reshape(array.shape)

    return run_there


def _copy_of(device: CudaDevice, array: np.ndarray) -> tuple[Any, int]:
    """Its bytes on the device, and where they begin: as far from a multiple of 256 as on the host.

    What surrounds them is 0xFF: NaN, where a kernel reads too far.
    """
    offset = array.ctypes.data % ALIGNMENT
    host = np.full(offset + array.nbytes + ALIGNMENT, 0xFF, np.uint8)
    host[offset : offset + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    there = device.empty(host.shape, np.uint8)
    device.upload(host, there)
    return there, offset


@contextmanager
def everything_runs_on(device: CudaDevice) -> Iterator[None]:
    """`run.run` runs there; the order of threads and blocks is then the device's own."""
    before, run.elsewhere = run.elsewhere, runner(device)
    try:
        yield
    finally:
        run.elsewhere = before
