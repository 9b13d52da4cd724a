"""CuPy's errors, with the words of its messages."""

from __future__ import annotations

from typing import Any

_MESSAGES = {
    1: ("InvalidValue", "invalid argument"),
    2: ("MemoryAllocation", "out of memory"),
    35: ("InsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"),
    100: ("NoDevice", "no CUDA-capable device is detected"),
    101: ("InvalidDevice", "invalid device ordinal"),
    400: ("InvalidResourceHandle", "invalid resource handle"),
    600: ("NotReady", "device not ready"),
    700: ("IllegalAddress", "an illegal memory access was encountered"),
    900: ("StreamCaptureUnsupported", "operation not permitted when stream is capturing"),
    901: (
        "StreamCaptureInvalidated",
        "operation failed due to a previous error during capture",
    ),
    905: (
        "StreamCaptureIsolation",
        "dependency created on uncaptured work in another stream",
    ),
    "InvalidValue": ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    "NotFound": ("CUDA_ERROR_NOT_FOUND", "named symbol not found"),
}
ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_ISOLATION = 700, 900, 901, 905


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int, detail: str = "") -> None:
        self.status = status
        name, text = _MESSAGES[status]
        super().__init__(f"cudaError{name}: {text}" + (f" ({detail})" if detail else ""))


class CUDADriverError(RuntimeError):
    """`status` is a name here, since only two are needed."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(": ".join(_MESSAGES[status]))


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        self._size, self._total, self._limit = size, total, limit
        so_far = f"allocated so far: {total:,} bytes"
        if limit:
            so_far += f", limit set to: {limit:,} bytes"
        super().__init__(f"Out of memory allocating {size:,} bytes ({so_far}).")


class CompileException(Exception):
    def __init__(
        self, msg: str, source: str, name: str, options: Any, backend: str = "nvrtc"
    ) -> None:
        self._msg, self.source, self.name = msg, source, name
        self.options, self.backend = options, backend
        super().__init__()

    def __str__(self) -> str:
        return self._msg

    def get_message(self) -> str:
        return self._msg
