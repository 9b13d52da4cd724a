"""A stand-in for nvmath-python's bindings of cublasLt, as far as the backend calls them.

    with library_installed(refuses=lambda m, n, k: k > 100) as library:
        ...  # library.calls: (columns, rows, depth, kind of sums) of each product made

Products are NumPy's, made when the stream comes to them, of matrices that lie column by column with
leading dimensions, as the library reads them. It checks what the library would not survive: handles
that are none, alignments less than promised, a workspace that is too small, calls during a capture.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.cuda_host.cupy_stand_in.device import current_device, machine
from tests.cuda_host.cupy_stand_in.memory import checked
from tests.cuda_host.cupy_stand_in.streams import Stream, get_current_stream, stream_of

ALGORITHM_BYTES, RESULT_BYTES = 64, 96
NEEDS_WORKSPACE = 1024


class CudaDataType(enum.IntEnum):
    CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_16BF = 0, 1, 2, 14


class ComputeType(enum.IntEnum):
    COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77


class MatmulDescAttribute(enum.IntEnum):
    TRANSA, TRANSB = 3, 4


class MatmulPreferenceAttribute(enum.IntEnum):
    MAX_WORKSPACE_BYTES, REDUCTION_SCHEME_MASK = 1, 3
    MIN_ALIGNMENT_A_BYTES, MIN_ALIGNMENT_B_BYTES = 5, 6
    MIN_ALIGNMENT_C_BYTES, MIN_ALIGNMENT_D_BYTES = 7, 8


class ReductionScheme(enum.IntEnum):
    NONE, INPLACE, COMPUTE_TYPE, OUTPUT_TYPE, MASK = 0, 1, 2, 4, 7


class cuBLASLtError(Exception):  # noqa: N801 - the bindings' name
    pass


SIZES = {  # bytes of each attribute
    **dict.fromkeys(MatmulDescAttribute, 4),
    **dict.fromkeys(MatmulPreferenceAttribute, 4),
    MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES: 8,
}
NUMBERS = {
    CudaDataType.CUDA_R_32F: np.dtype(np.float32),
    CudaDataType.CUDA_R_64F: np.dtype(np.float64),
    CudaDataType.CUDA_R_16F: np.dtype(np.float16),
    CudaDataType.CUDA_R_16BF: np.dtype(np.uint16),
}
# (operands, result, sums) that the manual's table of supported types has.
SUPPORTED = {
    ("CUDA_R_64F", "CUDA_R_64F", "COMPUTE_64F"),
    ("CUDA_R_32F", "CUDA_R_32F", "COMPUTE_32F"),
    ("CUDA_R_32F", "CUDA_R_32F", "COMPUTE_32F_FAST_TF32"),
    *((short, out, "COMPUTE_32F")
      for short in ("CUDA_R_16F", "CUDA_R_16BF") for out in (short, "CUDA_R_32F")),
}  # fmt: skip


@dataclass
class Layout:
    dtype: CudaDataType
    rows: int
    columns: int
    leading: int

    def __post_init__(self) -> None:
        if self.leading < self.rows or min(self.rows, self.columns) < 1:
            raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE")

    @property
    def nbytes(self) -> int:
        numbers = self.leading * (self.columns - 1) + self.rows
        return numbers * NUMBERS[self.dtype].itemsize

    def read(self, address: int, turned: int) -> np.ndarray:
        """The matrix in float64, transposed where it is to be."""
        dtype = NUMBERS[self.dtype]
        held = np.frombuffer(ctypes.string_at(checked(address, self.nbytes), self.nbytes), dtype)
        full = np.zeros(self.leading * self.columns, dtype)
        full[: held.size] = held
        matrix = full.reshape(self.columns, self.leading)[:, : self.rows].T
        if dtype == np.uint16:
            matrix = (matrix.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return (matrix.T if turned else matrix).astype(np.float64)

    def write(self, address: int, matrix: np.ndarray) -> None:
        dtype = NUMBERS[self.dtype]
        if dtype == np.uint16:
            from mlp.backends.rounding import bfloat16_rounded

            single = bfloat16_rounded(matrix.astype(np.float32))
            matrix = single.view(np.uint32) >> np.uint32(16)
        assert self.leading == self.rows, "the backend's matrices have no gaps"
        content = np.ascontiguousarray(matrix.astype(dtype).T).tobytes()
        ctypes.memmove(checked(address, self.nbytes), content, len(content))


@dataclass
class Library:
    """What a test sees of it, and can choose.

    Attributes:
        refuses: of the sizes (m, n, k) that the library is given, which it has no algorithm for.
        missing: why it cannot be loaded, or None.
        calls: products made, as (m, n, k, kind of sums).
        asked: how often an algorithm was asked for.
    """

    refuses: Callable[[int, int, int], bool] = lambda m, n, k: False
    missing: Exception | None = None
    calls: list[tuple[int, int, int, str]] = field(default_factory=list)
    asked: int = 0
    _held: dict[int, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def _keep(self, value: Any) -> int:
        number = next(self._numbers)
        self._held[number] = value
        return number

    # --- the bindings ---------------------------------------------------------------------------

    def get_version(self) -> int:
        if self.missing is not None:
            raise self.missing
        return 130100

    def create(self) -> int:
        _forbid_capture()
        return self._keep(("handle", current_device()))

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        kind, scale = ComputeType(compute), CudaDataType(scale)
        assert (kind == ComputeType.COMPUTE_64F) == (scale == CudaDataType.CUDA_R_64F)
        return self._keep({"compute": kind, "TRANSA": 0, "TRANSB": 0})

    def matmul_desc_set_attribute(self, handle: int, attribute: int, at: int, size: int) -> None:
        name = MatmulDescAttribute(attribute)
        assert size == SIZES[name]
        self._held[handle][name.name] = ctypes.c_int32.from_address(at).value

    def matrix_layout_create(self, dtype: int, rows: int, columns: int, leading: int) -> int:
        return self._keep(Layout(CudaDataType(dtype), rows, columns, leading))

    def matmul_preference_create(self) -> int:
        return self._keep({})

    def matmul_preference_destroy(self, handle: int) -> None:
        assert isinstance(self._held.pop(handle), dict)

    def matmul_preference_set_attribute(
        self, handle: int, attribute: int, at: int, size: int
    ) -> None:
        name = MatmulPreferenceAttribute(attribute)
        assert size == SIZES[name]
        self._held[handle][name.name] = int.from_bytes(ctypes.string_at(at, size), "little")

    def matmul_algo_get_heuristic(
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int,
        wanted: int, results: int, found: int,
    ) -> None:  # fmt: skip
        _forbid_capture()
        self.asked += 1
        assert (wanted, self._held[handle][0]) == (1, "handle")
        m, n, k = self._sizes(operation, a, b, c, d)
        asked = self._held[preference]
        scheme = ReductionScheme.COMPUTE_TYPE
        assert asked["REDUCTION_SCHEME_MASK"] == scheme, "parts are added up in the type of sums"
        if self.refuses(m, n, k) or asked["MAX_WORKSPACE_BYTES"] < NEEDS_WORKSPACE:
            raise cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED (15)")
        alignments = [asked[f"MIN_ALIGNMENT_{name}_BYTES"] for name in "ABCD"]
        words = np.array([operation, a, b, c, d, *alignments[:3]], np.uint64)
        ctypes.memmove(results, words.tobytes(), ALGORITHM_BYTES)
        rest = np.array([NEEDS_WORKSPACE], np.uint64).tobytes()
        ctypes.memmove(results + ALGORITHM_BYTES, rest.ljust(RESULT_BYTES - ALGORITHM_BYTES), 32)
        ctypes.c_int32.from_address(found).value = 1

    def _sizes(self, operation: int, a: int, b: int, c: int, d: int) -> tuple[int, int, int]:
        settings = self._held[operation]
        first, second, out = (self._held[each] for each in (a, b, d))
        assert c == d
        (m, k), (same, n) = (
            (each.columns, each.rows) if turned else (each.rows, each.columns)
            for each, turned in ((first, settings["TRANSA"]), (second, settings["TRANSB"]))
        )  # fmt: skip
        if k != same or (out.rows, out.columns) != (m, n):
            raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE")
        kinds = (first.dtype.name, out.dtype.name, settings["compute"].name)
        if first.dtype != second.dtype or kinds not in SUPPORTED:
            raise cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED (15)")
        return m, n, k

    def matmul(
        self, handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int,
        b_layout: int, beta: int, c: int, c_layout: int, d: int, d_layout: int, algorithm: int,
        workspace: int, size: int, stream: int,
    ) -> None:  # fmt: skip
        m, n, k = self._sizes(operation, a_layout, b_layout, c_layout, d_layout)
        assert self._held[handle] == ("handle", current_device())
        words = np.frombuffer(ctypes.string_at(algorithm, ALGORITHM_BYTES), np.uint64)
        chosen_for = (operation, a_layout, b_layout, c_layout, d_layout)
        assert tuple(words[:5]) == chosen_for, "an algorithm of another product"
        for address, least in zip((a, b, d), words[5:], strict=True):
            assert address % int(least) == 0, "less aligned than was promised"
        assert size >= NEEDS_WORKSPACE
        settings = self._held[operation]
        double = settings["compute"] == ComputeType.COMPUTE_64F
        number = ctypes.c_double if double else ctypes.c_float
        factors = number.from_address(alpha).value, number.from_address(beta).value
        assert factors == (1, 0)
        first, second, out = (self._held[each] for each in (a_layout, b_layout, d_layout))

        def multiply() -> None:
            checked(workspace, size)
            left = first.read(a, settings["TRANSA"])
            right = second.read(b, settings["TRANSB"])
            if settings["compute"] == ComputeType.COMPUTE_32F_FAST_TF32:
                left, right = (_truncated(each) for each in (left, right))
            out.write(d, left @ right)
            self.calls.append((m, n, k, settings["compute"].name))
            machine().work("cublasLt")

        stream_of(stream).add(multiply)


def _truncated(matrix: np.ndarray) -> np.ndarray:
    """Float32 numbers without their last 13 bits."""
    bits = np.ascontiguousarray(matrix, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)
    return bits.view(np.float32).astype(np.float64)


def _forbid_capture() -> None:
    get_current_stream().forbid_capture()
    from tests.cuda_host.cupy_stand_in.streams import _by_number

    capturing: list[Stream] = [each for each in _by_number.values() if each.is_capturing()]
    assert not capturing, "asked of the library while a graph is captured"


@contextmanager
def library_installed(**properties: Any) -> Iterator[Library]:
    """The stand-in in the place of nvmath-python; properties are those of `Library`."""
    library = Library(**properties)
    bindings = types.ModuleType("nvmath.bindings.cublasLt")
    for name in dir(Library):
        if not name.startswith("_") and callable(getattr(Library, name)) and name != "refuses":
            setattr(bindings, name, getattr(library, name))
    for kind in (MatmulDescAttribute, MatmulPreferenceAttribute, ReductionScheme, cuBLASLtError):
        setattr(bindings, kind.__name__, kind)
    cublas = types.ModuleType("nvmath.bindings.cublas")
    cublas.ComputeType = ComputeType
    nvmath = types.ModuleType("nvmath")
    nvmath.CudaDataType = CudaDataType
    modules = {
        "nvmath": nvmath,
        "nvmath.bindings": types.ModuleType("nvmath.bindings"),
        "nvmath.bindings.cublas": cublas,
        "nvmath.bindings.cublasLt": bindings,
    }
    before = {name: sys.modules.pop(name) for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield library
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)
