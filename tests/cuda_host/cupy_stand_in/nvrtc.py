"""cupy.cuda.nvrtc: a program's machine code is its source, which RawModule(path=) then builds."""

from __future__ import annotations

from tests.cuda_host.cupy_stand_in.device import machine

CODE = b"machine code of "


class NVRTCError(RuntimeError):
    pass


_programs: dict[int, str] = {}


def getVersion() -> tuple[int, int]:  # noqa: N802 - CuPy's name, as are all of these
    version = machine().runtime
    return version // 1000, version % 1000 // 10


def createProgram(src: str, name: str, headers: tuple, include_names: tuple) -> int:  # noqa: N802
    handle = len(_programs) + 1
    _programs[handle] = src
    return handle


def compileProgram(program: int, options: tuple[str, ...]) -> None:  # noqa: N802
    targets = [option for option in options if option.startswith("-arch=")]
    if targets != ["-arch=sm_90a"]:
        raise NVRTCError(f"invalid value for --gpu-architecture: {targets}")
    if "#error" in _programs[program]:
        raise NVRTCError("NVRTC_ERROR_COMPILATION")


def getCUBIN(program: int) -> bytes:  # noqa: N802
    return CODE + _programs[program].encode()


def getProgramLog(program: int) -> str:  # noqa: N802
    return "a #error in the source"


def destroyProgram(program: int) -> None:  # noqa: N802
    _programs[program] = ""
