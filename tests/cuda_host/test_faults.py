"""Every kind of fault that the harness must stop and name."""

import numpy as np
import pytest

from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.build import BuildFailed, build_all
from tests.cuda_host.memory import DEVICE, empty, guarded
from tests.cuda_host.run import KernelFault, run


def launch(kernel, *arguments, grid=1, block=32, shared=0):
    return Launch(kernel, (grid, 1, 1), (block, 1, 1), arguments, shared)


FAULTS = {
    "if (i < 3) __syncthreads();": r"thread \(3, 0, 0\): k0\.cu:\d+: the thread ends while thread"
    r" \(0, 0, 0\) waits in __syncthreads",
    "if (i < 3) {\n__syncthreads();\n} else {\n__syncthreads();\n}": r"\(3, 0, 0\): k0\.cu:8:"
    r" __syncthreads, while thread \(0, 0, 0\) waits in __syncthreads at k0\.cu:6",
    "if (i < 3) return;\n__syncthreads();": "__syncthreads after 3 threads of the block have ended",
    "if (i == 0) __syncthreads();\n__syncwarp();": r"__syncwarp, while thread \(0, 0, 0\) waits in"
    " __syncthreads",
    "if (i) __syncwarp();": "threads wait for each other|__syncwarp, while thread .* has ended",
    "__shfl_sync(1u << 5, i, 5);": "the mask lacks lane 0 itself",
    "if (i < 2) __shfl_sync(3u, i, 5);": "__shfl_sync reads lane 5, not in its mask",
    "x[0] = x[32];": r"thread \(0, 0, 0\): reads 0 bytes past the end of an array of 128 bytes"
    r" \(0x\w+\) at k0\.cu:5",
    "x[i + 40] = 1;": "writes 32 bytes past the end of an array of 128 bytes",
    "x[-1024 - i] = 1;": "writes 4096 bytes before an array of 128 bytes",
    "if (i == 7) *(volatile int*)1232 = 5;": r"thread \(7, 0, 0\): writes an unknown address",
    "DYNAMIC_SHARED(s); x[i] = s[512 + i];": "reads memory outside the block's shared memory",
    "DYNAMIC_SHARED(s); s[-1] = 1;": r"block \(0, 0, 0\) wrote outside its shared memory",
    "__shared__ int s[8]; s[i] = 1; x[i] = s[0];": r"thread \(8, 0, 0\): index outside an array of"
    r" fixed size, or a misaligned vector at k0\.cu:5",
    "*(float2*)(x + 1) = {1, 2};": "a misaligned vector",
    "DYNAMIC_SHARED(s); copy_async<16>(s + 4, x, true);": "copy_async: shared address .* is not a"
    " multiple of 16",
    "DYNAMIC_SHARED(s); copy_async<8>(s, x + 1, true);": "copy_async: global address .* is not a"
    " multiple of 8",
    "copy_async<4>(x, x, true);": "copy_async: 4 bytes from .* are not in this block's shared",
    "DYNAMIC_SHARED(s); copy_async<16>(s, x + 32, true); copy_async_commit();\n"
    "copy_async_wait<0>();": r"reads 0 bytes past the end .* by copy_async at k0\.cu:5",
    "DYNAMIC_SHARED(s); unsigned p[4]; load_matrices(p, s + 8);": "load_matrices: shared address",
    "DYNAMIC_SHARED(s); unsigned p[4]; load_matrices(p, s + 512);": "load_matrices: 16 bytes from",
    "x[i] = 5 / (i - i);": "integer division by 0",
    "while (*(volatile float*)x != 3) {}": "does not end",
}  # fmt: skip


@pytest.mark.parametrize("body", FAULTS)
def test_faults(kernel, body):
    x = guarded(np.zeros(32), np.float32)
    code = kernel("float* x", body)
    with pytest.raises(KernelFault, match=f"^k: .*{FAULTS[body]}"):
        run(launch(code, x, shared=512), seconds=0.2)
    run(launch(kernel("float* x", "x[i] = 1;"), x))  # the harness works on
    assert (x == 1).all()


def test_a_write_beside_memory_of_the_device(kernel):
    """Arrays aligned as a device's are followed by bytes that are checked after a launch."""
    x = guarded(np.zeros(33), np.float32, DEVICE)
    assert x.ctypes.data % 256 == 0
    with pytest.raises(KernelFault, match="k: wrote past the end of an array of 132 bytes"):
        run(launch(kernel("float* x", "x[i + 2] = 1;"), x))
    x[...] = 0
    with pytest.raises(KernelFault, match="k: wrote before the start of an array of 132 bytes"):
        run(launch(kernel("float* x", "x[i - 1] = 1;"), x))


WRONG = [
    ((1,), "2 arguments|1 arguments for 2 parameters"),
    (("x", 5), "argument 1: a int for a number"),
    (("x", np.int64(5)), "argument 1: int64 for a parameter of .*'i', size=4"),
    (("x", np.float32(5)), "argument 1: float32 for"),
    ((np.zeros(3, np.float32), np.int32(5)), "argument 0: the array is not guarded"),
    (("double", np.int32(5)), "argument 0: an array of float64 for a pointer"),
    (("strided", np.int32(5)), "argument 0: the array is not contiguous"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments(kernel, arguments, message):
    arrays = {
        "x": guarded(np.zeros(32), np.float32),
        "double": guarded(np.zeros(32)),
        "strided": guarded(np.zeros((32, 2)), np.float32)[:, 0],
    }
    arguments = [arrays[a] if isinstance(a, str) else a for a in arguments]
    with pytest.raises(KernelFault, match=message):
        run(launch(kernel("float* x, int n", "x[i] = n;"), *arguments))


@pytest.mark.parametrize(("block", "shared"), [(1025, 0), (32, 227 * 1024), (0, 0)])
def test_launches_that_are_too_large(kernel, block, shared):
    code = kernel("float* x", "__shared__ float s[32]; s[i % 32] = 1; x[i % 32] = s[0];")
    with pytest.raises(KernelFault, match=r"too many|more than 1024|is empty"):
        run(launch(code, empty(32, np.float32), block=block, shared=shared))


def test_a_kernel_that_does_not_compile(kernel):
    with pytest.raises(BuildFailed, match=r"(?s)k: .*k0\.cu:5.*no_such_name"):
        build_all([kernel("float* x", "x[i] = no_such_name;")])
