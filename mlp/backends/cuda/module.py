"""From the source of a kernel to a function on the device."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from mlp.backends.cuda.kept import cache_folder
from mlp.model_file import write_atomically
from mlp_kernels.cuda.compile import Kernel, options

# What CuPy adds to the options of its own modules.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
# The target of what compute capability 9.0 alone has. CuPy compiles for sm_90, without these
# instructions, and takes no other target.
ONE_ARCHITECTURE = "-arch=sm_90a"


def load_function(cupy: Any, kernel: Kernel, cooperative: bool) -> Any:
    """The kernel, compiled for the current device; what was compiled stays on disk.

    Raises:
        cupy.cuda.compiler.CompileException: it does not compile.
    """
    if not kernel.of_one_architecture:
        module = cupy.RawModule(
            code=kernel.source, options=options(), enable_cooperative_groups=cooperative
        )
        return module.get_function(kernel.name)
    given = (*options(), *CUPY_OPTIONS, ONE_ARCHITECTURE)
    version = cupy.cuda.nvrtc.getVersion()
    digest = hashlib.sha256(repr((version, given, kernel.source)).encode()).hexdigest()[:32]
    try:
        path = cache_folder() / "cuda" / f"{kernel.name}-{digest}.cubin"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _machine_code(cupy, kernel, given))
        return cupy.RawModule(path=str(path)).get_function(kernel.name)
    except (OSError, RuntimeError):  # nothing can be kept there: compiled by each process
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.cubin"
            path.write_bytes(_machine_code(cupy, kernel, given))
            return cupy.RawModule(path=str(path)).get_function(kernel.name)


def _machine_code(cupy: Any, kernel: Kernel, given: tuple[str, ...]) -> bytes:
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(kernel.source, kernel.file, (), ())
    try:
        nvrtc.compileProgram(program, given)
        code: bytes = nvrtc.getCUBIN(program)
        return code
    except nvrtc.NVRTCError:
        log = nvrtc.getProgramLog(program)
        raise cupy.cuda.compiler.CompileException(
            log, kernel.source, kernel.file, given, "nvrtc"
        ) from None
    finally:
        nvrtc.destroyProgram(program)
