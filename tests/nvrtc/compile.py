"""Compiles kernels to machine code as CuPy's RawModule does, without a device or a driver."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from mlp_kernels.cuda.compile import LEAST_CAPABILITY, Kernel, options

# Compute capabilities times ten: one of each generation of devices, from the oldest on.
TARGETS = (10 * LEAST_CAPABILITY[0] + LEAST_CAPABILITY[1], 75, 80, 90, 100, 120)
# Those that are always compiled for: devices of 8.0 and 10.0 take the kernels of 12.0.
USUAL_TARGETS = tuple(target for target in TARGETS if target not in (80, 100))

# What CuPy 14 adds to the options of a RawModule, besides folders of headers.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


class CompileFailed(RuntimeError):
    """A kernel does not compile; the message is the compiler's."""


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes of a multiprocessor.

    Attributes:
        registers: of a thread.
        stack: bytes of local memory that a thread has for arrays and calls.
        spills: bytes of registers written to and read from local memory.
        shared: bytes of static shared memory of a block.
    """

    registers: int
    stack: int
    spills: int
    shared: int


def why_no_compiler() -> str | None:
    """Why nothing can be compiled here, or None if it can."""
    try:
        _nvrtc().getVersion()
    except ImportError as error:
        return f"CuPy is not installed ({error})"
    except Exception as error:  # CuPy reports a library that it cannot load by several types
        return f"NVRTC cannot be loaded ({' '.join(str(error).split())})"
    return None


def version() -> str:
    return "{}.{}".format(*_nvrtc().getVersion())


def why_no_target(target: int) -> str | None:
    """Why nothing can be compiled for a target, or None if it can."""
    if target in _nvrtc().getSupportedArchs():
        return None
    return f"NVRTC {version()} does not compile for sm_{target}"


def compile_kernel(kernel: Kernel, target: int) -> Usage:
    """Compiled to machine code, and what that takes."""
    nvrtc = _nvrtc()
    architecture = f"-arch=sm_{target}{'a' if kernel.of_one_architecture else ''}"
    given = (*_with_headers(options()), *CUPY_OPTIONS, architecture)
    program = nvrtc.createProgram(kernel.source, kernel.file, (), ())
    try:
        try:
            nvrtc.compileProgram(program, (*given, "--ptxas-options=-v"))
        except nvrtc.NVRTCError:
            raise CompileFailed(f"{kernel}: {nvrtc.getProgramLog(program)}") from None
        if not nvrtc.getCUBIN(program).startswith(b"\x7fELF"):
            raise CompileFailed(f"{kernel}: no machine code came out")
        return parse_usage(kernel.name, nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


def parse_usage(name: str, log: str) -> Usage:
    """What ptxas -v says of a kernel; of functions that it calls, the stack counts in its own."""
    _, _, rest = log.partition(f"Compiling entry function '{name}'")
    own, _, _ = rest.partition("Compiling entry function")
    stack, *spills = _numbers(r"(\d+) bytes stack frame, (\d+) .* stores, (\d+) .* loads", own)
    (registers,) = _numbers(r"Used (\d+) registers", own)
    shared = re.search(r"(\d+) bytes smem", own)
    return Usage(registers, stack, sum(spills), int(shared[1]) if shared else 0)


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    if found is None:
        raise CompileFailed(f"the compiler's log has no '{pattern}': {text}")
    return [int(number) for number in found.groups()]


def compile_all(kernels: Iterable[Kernel], target: int) -> dict[Kernel, Usage | str]:
    """Each kernel's usage, or why it does not compile; on all processors."""
    kernels = tuple(kernels)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = pool.map(partial(_usage_or_error, target=target), kernels)
        return dict(zip(kernels, results, strict=True))


def _usage_or_error(kernel: Kernel, target: int) -> Usage | str:
    try:
        return compile_kernel(kernel, target)
    except CompileFailed as error:
        return str(error)


def _nvrtc() -> Any:
    from cupy.cuda import nvrtc

    return nvrtc


def _with_headers(given: tuple[str, ...]) -> tuple[str, ...]:
    """The options with CuPy's folders of headers; an error where it misses CUDA's own."""
    from cupy._core import core

    return core.assemble_cupy_compiler_options(given)
