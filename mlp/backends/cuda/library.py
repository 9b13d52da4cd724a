"""Matrix products of cublasLt, through nvmath-python's bindings, for a stream or a CUDA graph.

Optional: where the bindings or the library are missing, `CublasLt.reason` says so. All that may not
happen while a graph is captured (the library's handle, its workspace, the choice of an algorithm)
happens before, once. Source: the cuBLAS manual, "Using the cuBLASLt API".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.errors import BackendUnavailable, DeviceFault
from mlp_kernels.cuda.launch import LibraryProduct
from mlp_kernels.cuda.types import number_type

if TYPE_CHECKING:
    from mlp.backends.cuda.device import CudaDevice

INSTALL = 'pip install "fused-mlp[cuda13-cublas]" (cuda12-cublas for an older driver)'

# What the manual recommends (cublasSetWorkspace): from compute capability 9.0 on, and before.
WORKSPACE_BYTES = {True: 32 * 2**20, False: 4 * 2**20}
MOST_ALIGNMENT = 256  # more is not asked for; CuPy's allocations begin at multiples of 512

# cublasLtMatmulHeuristicResult_t, whose first member is the algorithm.
ALGORITHM = np.dtype(
    [
        ("algorithm", np.uint64, 8),
        ("workspace", np.uint64),
        ("state", np.int32),
        ("waves", np.float32),
        ("reserved", np.int32, 4),
    ]
)
CUDA_TYPES = {
    "double": "CUDA_R_64F",
    "float": "CUDA_R_32F",
    "float16": "CUDA_R_16F",
    "bfloat16": "CUDA_R_16BF",
}


@dataclass(frozen=True)
class Plan:
    """Products of some shapes and types: the library's descriptors, and the algorithm.

    Attributes:
        operation, first, second, out: the library's handles, none of which is ever destroyed.
        algorithm: (1,) of ALGORITHM.
        one, zero: (1,) each, the factors of the product and of what `out` held before.
    """

    operation: int
    first: int
    second: int
    out: int
    algorithm: np.ndarray[Any, Any]
    one: np.ndarray[Any, Any]
    zero: np.ndarray[Any, Any]


class CublasLt:
    """The library on one device; loaded when it is first asked for.

    Args:
        device: whose memory holds the workspace, and whose context the library's handle is of.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._plans: dict[Any, Plan | str] = {}

    @functools.cached_property
    def installed(self) -> bool:
        """Whether there are bindings; they are not loaded for that."""
        loaded = sys.modules.get("nvmath") is not None
        return loaded or importlib.util.find_spec("nvmath") is not None

    @functools.cached_property
    def reason(self) -> str | None:
        """Why the library cannot be used here, or None if it can."""
        try:
            self._loaded  # noqa: B018 - loads it
        except BackendUnavailable as error:
            return str(error)
        return None

    @property
    def version(self) -> str:
        """Of the library; raises BackendUnavailable."""
        number = int(self._loaded[0].get_version())
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, int, Any]:
        """(bindings, their enumerations, handle, workspace)."""
        try:
            bindings = importlib.import_module("nvmath.bindings.cublasLt")
            compute = importlib.import_module("nvmath.bindings.cublas").ComputeType
            types = importlib.import_module("nvmath").CudaDataType
        except ImportError as error:
            raise BackendUnavailable(
                f"nvmath-python, which calls cublasLt, cannot be imported ({error}); {INSTALL}"
            ) from error
        try:
            with self._device.current():
                bindings.get_version()
                handle = int(bindings.create())
        except Exception as error:  # a library that cannot be loaded is reported by several types
            reason = " ".join(str(error).split())
            raise BackendUnavailable(f"cublasLt cannot be used ({reason}); {INSTALL}") from error
        size = WORKSPACE_BYTES[self._device.capability >= (9, 0)]
        return bindings, (compute, types), handle, self._device.empty((size,), np.uint8)

    def why_not(self, product: LibraryProduct) -> str | None:
        """Why the library cannot make this product, or None if it can."""
        if self.reason is not None:
            return self.reason
        plan = self._plan(product)
        return plan if isinstance(plan, str) else None

    def prepared(self, product: LibraryProduct) -> Callable[[int], None]:
        """A function that queues the product on a stream, given by its handle.

        Raises:
            BackendUnavailable: the library is missing, or cannot make this product.
        """
        reason = self.why_not(product)
        plan = None if reason is not None else self._plan(product)
        if not isinstance(plan, Plan):
            raise BackendUnavailable(str(reason))
        return functools.partial(self._multiply, plan, product)

    def _multiply(self, plan: Plan, product: LibraryProduct, stream: int) -> None:
        bindings, _, handle, workspace = self._loaded
        out = product.out.data.ptr
        try:
            # Row by row, a matrix is the transposed one column by column, as the library reads it:
            # so it makes out^T = right^T left^T.
            bindings.matmul(
                handle, plan.operation, plan.one.ctypes.data, product.right.data.ptr, plan.first,
                product.left.data.ptr, plan.second, plan.zero.ctypes.data, out, plan.out, out,
                plan.out, plan.algorithm.ctypes.data, workspace.data.ptr, workspace.nbytes, stream,
            )  # fmt: skip
        except bindings.cuBLASLtError as error:
            raise DeviceFault(f"cublasLt: {error}. Start a new process to use it again") from error

    def _plan(self, product: LibraryProduct) -> Plan | str:
        """The plan of such products, or why there is none."""
        arrays = (product.right, product.left, product.out)
        alignments = tuple(_alignment(array.data.ptr) for array in arrays)
        key = (
            *((tuple(array.shape), array.dtype) for array in arrays),
            product.transposed, product.tf32, alignments,
        )  # fmt: skip
        if key not in self._plans:
            with self._device.current():
                self._plans[key] = self._new_plan(product, alignments)
        return self._plans[key]

    def _new_plan(self, product: LibraryProduct, alignments: tuple[int, ...]) -> Plan | str:
        bindings, (compute, types), _, _ = self._loaded
        sums = np.dtype(np.float64 if product.left.dtype == np.float64 else np.float32)
        how = "COMPUTE_64F" if sums == np.float64 else "COMPUTE_32F"
        if product.tf32 and product.left.dtype == np.float32:
            how = "COMPUTE_32F_FAST_TF32"
        scale = types[CUDA_TYPES[number_type(sums)]]
        operation = bindings.matmul_desc_create(int(compute[how]), int(scale))
        names = bindings.MatmulDescAttribute
        for name, turned in zip(("TRANSA", "TRANSB"), product.transposed[::-1], strict=True):
            _set(bindings.matmul_desc_set_attribute, operation, names[name], np.int32(turned))
        first, second, out = (
            bindings.matrix_layout_create(
                int(types[CUDA_TYPES[number_type(array.dtype)]]), array.shape[1], array.shape[0],
                array.shape[1],
            )
            for array in (product.right, product.left, product.out)
        )  # fmt: skip
        algorithm = np.zeros(1, ALGORITHM)
        plan = Plan(operation, first, second, out, algorithm, np.ones(1, sums), np.zeros(1, sums))
        return self._ask_for_algorithm(plan, alignments) or plan

    def _ask_for_algorithm(self, plan: Plan, alignments: tuple[int, ...]) -> str | None:
        """Fills in the plan's algorithm; or why there is none."""
        bindings, _, handle, workspace = self._loaded
        names, preference = bindings.MatmulPreferenceAttribute, bindings.matmul_preference_create()
        wanted: dict[str, np.generic] = {
            "MAX_WORKSPACE_BYTES": np.uint64(workspace.nbytes),
            # Parts of a sum over the depth are added up in the type of the sums.
            "REDUCTION_SCHEME_MASK": np.uint32(bindings.ReductionScheme.COMPUTE_TYPE),
            "MIN_ALIGNMENT_A_BYTES": np.uint32(alignments[0]),
            "MIN_ALIGNMENT_B_BYTES": np.uint32(alignments[1]),
            "MIN_ALIGNMENT_C_BYTES": np.uint32(alignments[2]),
            "MIN_ALIGNMENT_D_BYTES": np.uint32(alignments[2]),
        }
        found = np.zeros(1, np.int32)
        try:
            for name, value in wanted.items():
                _set(bindings.matmul_preference_set_attribute, preference, names[name], value)
            bindings.matmul_algo_get_heuristic(
                handle, plan.operation, plan.first, plan.second, plan.out, plan.out, preference, 1,
                plan.algorithm.ctypes.data, found.ctypes.data,
            )  # fmt: skip
        except bindings.cuBLASLtError as error:
            return f"cublasLt cannot make this product ({error})"
        finally:
            bindings.matmul_preference_destroy(preference)
        return None if found[0] else "cublasLt has no algorithm for this product"


def _set(setter: Callable[..., None], handle: int, attribute: Any, value: np.generic) -> None:
    held = np.array([value])
    setter(handle, int(attribute), held.ctypes.data, held.nbytes)


def _alignment(address: int) -> int:
    """The largest power of two that an address is a multiple of, up to MOST_ALIGNMENT."""
    return min(address & -address, MOST_ALIGNMENT)
