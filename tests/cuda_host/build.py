"""Builds the kernels' very files with g++, one shared library for each `Kernel`, and keeps them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlp_kernels.cuda.compile import FOLDER as KERNELS
from mlp_kernels.cuda.compile import Kernel

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")
LEAST_VERSION = 12  # the first with -ftrivial-auto-var-init
RUNTIME = (
    "engine",
    "blocks",
    "fibers",
    "faults",
    "shared",
    "arena",
    "copies",
    "tensor",
    "warpgroup",
)
COMMON = ("-std=c++17", "-fPIC", "-shared", "-ffp-contract=off")
# An index outside an array of fixed size and a misaligned vector stop the program (SIGILL), and
# variables without a value hold a pattern.
CHECKS = (
    "-fsanitize=alignment,bounds",
    "-fsanitize-undefined-trap-on-error",
    "-ftrivial-auto-var-init=pattern",
)
# No unique symbols: static variables of templates would be shared by libraries that differ in
# their macros.
OF_KERNELS = ("-O1", "-g1", "-gdwarf-4", "-w", "-fvisibility=hidden", "-fno-gnu-unique", *CHECKS)


class BuildFailed(RuntimeError):
    """A kernel does not compile for the host; the message is the compiler's."""


@dataclass(frozen=True)
class Type:
    """A C++ type: its kind as in launcher.cuh (a letter), and its size in bytes."""

    kind: str
    size: int


class _RawType(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_char), ("size", ctypes.c_ubyte))


@dataclass(frozen=True)
class Built:
    """A kernel that can be called.

    Attributes:
        path: the library.
        call: the C function of the kernel's `void**` of arguments.
        base: where the library is loaded.
        parameters, pointees: its parameters, and what those that are pointers point to.
        statics: (offset, bytes) of each variable in shared memory.
    """

    path: Path
    call: ctypes.c_void_p
    base: int
    parameters: tuple[Type, ...]
    pointees: tuple[Type, ...]
    statics: tuple[tuple[int, int], ...]

    def line_of(self, counter: int) -> str:
        """The source line of an instruction, "" if it is not in this library."""
        offset = counter - self.base
        if not 0 <= offset < self.path.stat().st_size:
            return ""
        command = ["addr2line", "-s", "-e", str(self.path), hex(offset)]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return "" if found.startswith("?") else found.split()[0]


def cache_folder() -> Path:
    """Where built libraries are kept: $MLP_CUDA_HOST_CACHE, or in the folder of temporary files."""
    default = Path(tempfile.gettempdir()) / f"mlp-cuda-host-{os.getuid()}"
    folder = Path(os.environ.get("MLP_CUDA_HOST_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@functools.cache
def _compiler_version() -> str:
    return subprocess.run(
        [COMPILER, "--version"], capture_output=True, text=True, check=True
    ).stdout


def why_unavailable() -> str | None:
    """Why kernels cannot be built here, or None if they can."""
    if not sys.platform.startswith("linux"):
        return "the kernels' host build is for Linux"
    if shutil.which(COMPILER) is None:
        return f"the kernels' host build needs {COMPILER}"
    version = subprocess.run(
        [COMPILER, "-dumpversion"], capture_output=True, text=True, check=True
    ).stdout
    if int(version.split(".")[0]) < LEAST_VERSION:
        return f"the kernels' host build needs g++ {LEAST_VERSION} or newer"
    return None


def _compile(arguments: list[str], target: Path) -> None:
    """Run the compiler; others see the target only when it is whole."""
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        pass
    command = [COMPILER, *arguments, "-o", part.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        Path(part.name).unlink()
        raise BuildFailed(done.stdout + done.stderr)
    Path(part.name).replace(target)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in (_compiler_version(), *parts):
        digest.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return digest.hexdigest()[:20]


def _texts(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for pattern in patterns for path in sorted(HERE.glob(pattern))]


@functools.cache
def runtime() -> ctypes.PyDLL:
    """The runtime; it keeps the interpreter's lock, since it runs one launch at a time."""
    target = cache_folder() / f"runtime-{_digest(*RUNTIME, *_texts('*.cpp', '*.h', '*.cuh'))}.so"
    if not target.exists():
        sources = [str(HERE / f"{name}.cpp") for name in RUNTIME]
        _compile(["-O2", "-Wall", *COMMON, f"-I{HERE}", *sources], target)
    library = ctypes.PyDLL(str(target), mode=ctypes.RTLD_GLOBAL)
    library.cuda_host_allocate.restype = ctypes.c_void_p
    library.cuda_host_allocate.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    library.cuda_host_release.argtypes = (ctypes.c_void_p,)
    library.cuda_host_release.restype = None
    library.cuda_host_extent.argtypes = (ctypes.c_void_p,)
    library.cuda_host_extent.restype = ctypes.c_longlong
    return library


@functools.cache
def _included(path: Path) -> tuple[Path, ...]:
    """A kernel file and all that it includes, but for what this folder puts in their place."""
    found = [path]
    for name in re.findall(r'^\s*#\s*include\s*[<"](.+?)[">]', path.read_text(), re.MULTILINE):
        for folder in (HERE, path.parent, KERNELS):
            if (folder / name).exists():
                if folder != HERE:
                    found += _included(folder / name)
                break
    return tuple(dict.fromkeys(found))


def source_of(kernel: Kernel) -> Path:
    """The kernel's file; an absolute `file` may be anywhere."""
    return KERNELS / kernel.file


@functools.cache
def _precompiled_header() -> Path:
    """What all kernels include first; the compiler takes its compiled form, which is beside it."""
    digest = _digest(*OF_KERNELS, *COMMON, *_texts("*.cuh"))
    header = cache_folder() / f"launcher-{digest}.h"
    compiled = header.with_name(f"{header.name}.gch")
    if not compiled.exists():
        header.write_text(f'#include "{HERE / "launcher.cuh"}"\n')
        _compile([*OF_KERNELS, *COMMON, f"-I{HERE}", "-x", "c++-header", str(header)], compiled)
    return header


def build(kernel: Kernel, architecture: int = 900) -> Path:
    """The kernel's library, built now if there is none; `architecture` is __CUDA_ARCH__."""
    macros = [("__CUDA_ARCH__", architecture), *kernel.macros]
    source = source_of(kernel)
    header = _precompiled_header()
    text = "\n".join(
        (
            f'#include "{header}"',
            *(f"#define {name} {value}" for name, value in macros),
            f'#include "{source}"',
            f"EXPORT_KERNEL({kernel.name})\n",
        )
    )
    sources = [path.read_bytes() for path in _included(source)]
    # Not the source's path: the same text elsewhere is the same kernel.
    digest = _digest(kernel.name, repr(macros), header.name, *sources)
    target = cache_folder() / f"{kernel.name}-{digest}.so"
    if not target.exists():
        unit = target.with_suffix(f".{os.getpid()}.cpp")
        unit.write_text(text)
        folders = [f"-I{HERE}", f"-I{source.parent}", f"-I{KERNELS}"]
        try:
            _compile([*OF_KERNELS, *COMMON, *folders, str(unit)], target)
        except BuildFailed as error:
            raise BuildFailed(f"{kernel}: {error}") from None
        finally:
            unit.unlink()
    return target


def build_all(kernels: Iterable[Kernel], architecture: int = 900) -> None:
    """Build many, as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda kernel: build(kernel, architecture), dict.fromkeys(kernels)):
            pass


def _statics(path: Path) -> tuple[tuple[int, int], ...]:
    """(offset, bytes) of the static variables of functions: what __shared__ made."""
    command = ["nm", "--defined-only", "-S", str(path)]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^(\w+) (\w+) [bBdDvVu] _ZZ", symbols, re.MULTILINE)
    return tuple((int(offset, 16), int(size, 16)) for offset, size in found)


@functools.cache
def _load(path: Path) -> Built:
    runtime()
    library = ctypes.PyDLL(str(path))
    library.cuda_host_base.restype = ctypes.c_void_p
    library.cuda_host_types.restype = ctypes.POINTER(_RawType)
    count = library.cuda_host_count()
    parameters, pointees = (
        tuple(Type(raw[i].kind.decode(), raw[i].size) for i in range(count))
        for raw in (library.cuda_host_types(0), library.cuda_host_types(1))
    )
    call = ctypes.cast(library.cuda_host_call, ctypes.c_void_p)
    return Built(path, call, library.cuda_host_base(), parameters, pointees, _statics(path))


@functools.cache
def load(kernel: Kernel, architecture: int = 900) -> Built:
    """The kernel, built and ready to be called."""
    return _load(build(kernel, architecture))
