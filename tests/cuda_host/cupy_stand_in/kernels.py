"""cupy.RawModule over the host's build of the same kernel files."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import FOLDER, Kernel
from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.build import BuildFailed, Built, cache_folder, load
from tests.cuda_host.cupy_stand_in.arrays import ndarray
from tests.cuda_host.cupy_stand_in.device import machine
from tests.cuda_host.cupy_stand_in.errors import CompileException, CUDADriverError
from tests.cuda_host.cupy_stand_in.memory import add_keeping
from tests.cuda_host.cupy_stand_in.nvrtc import CODE
from tests.cuda_host.cupy_stand_in.streams import get_current_stream
from tests.cuda_host.memory import extent
from tests.cuda_host.run import KernelFault, arguments_of, call, check_shape

SHARED_WITHOUT_ASKING = 48 * 1024
NOT_MACROS = ("SOURCE_DIGEST",)  # changes with every file, so it must not be part of a kernel


def _parts(code: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The macros that a source begins with, as `Kernel.source` writes them, and the rest."""
    head, line, text = code.partition("#line 1 ")
    if not line:
        return (), code
    macros = re.findall(r"^#define (\w+) (.*)$", head, re.MULTILINE)
    return tuple(macros), text.partition("\n")[2]


@functools.cache
def _file_of(code: str) -> str:
    """The kernel file with this text; of other text, a file is made."""
    for path in FOLDER.glob("*.cu"):
        if path.read_text(encoding="utf-8") == code:
            return path.name
    path = cache_folder() / f"text-{hashlib.sha256(code.encode()).hexdigest()[:20]}.cu"
    path.write_text(code, encoding="utf-8")
    return str(path)


def _macros(options: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = (option[2:].partition("=") for option in options if option.startswith("-D"))
    return tuple((name, value or "1") for name, _, value in pairs if name not in NOT_MACROS)


def _source_of(path: Path) -> str:
    """What machine code of nvrtc.py was made of, on the only device that it runs on."""
    code = path.read_bytes()
    if not code.startswith(CODE) or machine().capability != (9, 0):
        raise CUDADriverError("NoBinaryForGpu")
    return code.removeprefix(CODE).decode()


class RawModule:
    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        enable_cooperative_groups: bool = False,
        **other: Any,
    ) -> None:
        if other:
            raise NotImplementedError("the stand-in takes source text and options, or a path")
        if path is not None:
            code = _source_of(Path(path))
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (got {type(options).__name__})")
        self.code, self.options, self.backend = code, options, backend
        self.cooperative = enable_cooperative_groups

    def get_function(self, name: str) -> RawKernel:
        """Builds the kernel; CuPy compiles the whole text here."""
        machine().check()
        get_current_stream().forbid_capture()
        if not re.search(rf"\b{re.escape(name)}\s*\(", self.code):
            raise CUDADriverError("NotFound")
        macros, text = _parts(self.code)
        kernel = Kernel(_file_of(text), name, (*_macros(self.options), *macros))
        try:
            built = load(kernel, machine().architecture)
            return RawKernel(kernel, built, self.cooperative)
        except BuildFailed as error:
            raise CompileException(
                str(error), self.code, name, self.options, self.backend
            ) from None


class RawKernel:
    num_regs = 32
    local_size_bytes = 0
    const_size_bytes = 0
    max_threads_per_block = 1024

    def __init__(self, kernel: Kernel, built: Built, cooperative: bool = False) -> None:
        self.name, self._kernel, self._built = kernel.name, kernel, built
        self._cooperative = cooperative
        self.shared_size_bytes = sum(size for _, size in built.statics)
        self._max_dynamic = SHARED_WITHOUT_ASKING - self.shared_size_bytes

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._max_dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size + self.shared_size_bytes > machine().shared:
            raise CUDADriverError("InvalidValue")
        self._max_dynamic = size

    @property
    def attributes(self) -> dict[str, int]:
        names = (
            "num_regs",
            "local_size_bytes",
            "const_size_bytes",
            "max_threads_per_block",
            "shared_size_bytes",
            "max_dynamic_shared_size_bytes",
        )
        return {name: getattr(self, name) for name in names}

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0
    ) -> None:
        if shared_mem > self._max_dynamic:
            raise CUDADriverError("InvalidValue")
        shapes = [(*map(int, shape), 1, 1)[:3] for shape in (grid, block)]
        arguments = tuple(map(_null_as_none, args))
        if self._cooperative:
            shapes[0] = self._resident(shapes[0], shapes[1], shared_mem)
        launch = Launch(
            self._kernel, shapes[0], shapes[1], arguments, shared_mem, self._cooperative
        )
        check_shape(launch, self._built)
        values = arguments_of(launch, self._built)
        arrays = [argument for argument in arguments if isinstance(argument, ndarray)]
        kept = [array.data.mem for array in arrays]
        launch = replace(launch, arguments=())
        add_keeping(get_current_stream(), kept, lambda: self._run(launch, values))

    def _resident(
        self, grid: tuple[int, ...], block: tuple[int, ...], shared: int
    ) -> tuple[int, ...]:
        """What CuPy makes of a cooperative launch's grid: what runs at once, with a warning."""
        taken = self.shared_size_bytes + shared
        of_one = min(2048 // math.prod(block), machine().shared // taken if taken else 32)
        most = machine().processors * of_one
        if math.prod(grid) <= most:
            return grid
        if grid[1:] != (1, 1):
            raise ValueError(f"The specified grid size {grid} exceeds the limit ({most}).")
        warnings.warn(f"The grid size will be reduced from {grid[0]} to {most}", stacklevel=3)
        return most, 1, 1

    def _run(self, launch: Launch, values: list[bytes]) -> None:
        """What the stream does when it comes to this launch."""
        for i, parameter in enumerate(self._built.parameters):
            address = int.from_bytes(values[i], "little") if parameter.kind == "p" else 0
            if address and extent(address) == -1:
                raise KernelFault(f"{self._kernel}: the array of argument {i} was freed before")
        call(launch, self._built, values, machine().order)
        machine().work(str(self._kernel))


def _null_as_none(argument: Any) -> Any:
    """A null pointer is given to CuPy as a number."""
    return None if isinstance(argument, np.uintp) and argument == 0 else argument
