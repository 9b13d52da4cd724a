"""The CUDA kernels as data: which file, which function, which macros; and how they are compiled.

A kernel is an `extern "C"` function of a .cu file, specialised by macros (types, tile, activation).
Nothing here needs a device, CuPy or CUDA.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent

# Kernels are compiled for compute capabilities from this one on.
LEAST_CAPABILITY = (7, 0)
# Tensor-core instructions on bfloat16 and tf32, and asynchronous copies, begin here.
TENSOR_CORES = (8, 0)


@dataclass(frozen=True)
class Kernel:
    """One compiled function.

    Attributes:
        file: of this folder, like "update.cu".
        name: of the function.
        macros: (name, value) pairs, in a fixed order.
    """

    file: str
    name: str
    macros: tuple[tuple[str, str | int], ...] = ()

    @classmethod
    def of(cls, file: str, name: str, **macros: str | int) -> Kernel:
        """A kernel with macros by keyword, in alphabetical order."""
        return cls(file, name, tuple(sorted(macros.items())))

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.macros)
        return f"{self.name} ({settings})" if settings else self.name

    @property
    def of_one_architecture(self) -> bool:
        """Whether it is for devices of compute capability 9.0 alone: for the target sm_90a."""
        return ("TENSOR", 2) in self.macros

    @property
    def source(self) -> str:
        """Its macros, then the text of its file, whose lines are counted from 1."""
        macros = "".join(f"#define {name} {value}\n" for name, value in self.macros)
        text = (FOLDER / self.file).read_text(encoding="utf-8")
        return f'{macros}#line 1 "{self.file}"\n{text}'


def options() -> tuple[str, ...]:
    """What NVRTC is told, apart from the target: the same for all kernels.

    CuPy runs the compiler once for each tuple of options that it has not seen in a process, even
    where it has the kernel on disk: so macros are in the source. The digest makes its cache notice
    a change of an included file.
    """
    return ("-std=c++17", f"-I{FOLDER}", f"-DSOURCE_DIGEST={source_digest()}")


@functools.cache
def source_digest() -> str:
    """A number in hexadecimal that changes with the text of any kernel."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.cu*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return "0x" + digest.hexdigest()[:12]
