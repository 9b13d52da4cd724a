"""The harness itself: warp operations against NumPy, and mistakes that must change results."""

import numpy as np
import pytest

from mlp.backends.rounding import bfloat16_rounded
from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.run import ORDERS, KernelFault, Order, run


def launch(kernel, *arguments, grid=1, block=32, shared=0):
    return Launch(kernel, (grid, 1, 1), (block, 1, 1), arguments, shared)


each_order = pytest.mark.parametrize("order", ORDERS, ids=str)
RNG = np.random.default_rng(0)

# --- what is computed ---------------------------------------------------------------------------


@each_order
def test_threads_and_blocks_have_their_places(kernel, order):
    code = kernel(
        "int* y",
        "int rank = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);\n"
        "int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);\n"
        "y[block * 24 + rank] = 100 * block + rank;",
    )
    y = empty((24, 24), np.int32)
    run(Launch(code, (2, 3, 4), (4, 3, 2), (y,)), order)
    np.testing.assert_array_equal(y, 100 * np.arange(24)[:, None] + np.arange(24))


SHUFFLES = {
    "__shfl_sync(~0u, x[i], (i * 7 + 3) & 31)": lambda lane: (lane * 7 + 3) % 32,
    "__shfl_xor_sync(~0u, x[i], 5)": lambda lane: lane ^ 5,
    "__shfl_down_sync(~0u, x[i], 3u)": lambda lane: np.where(lane < 29, lane + 3, lane),
    "__shfl_up_sync(~0u, x[i], 3u)": lambda lane: np.where(lane < 3, lane, lane - 3),
    "__shfl_sync(~0u, x[i], 1, 8)": lambda lane: lane // 8 * 8 + 1,
    "__shfl_down_sync(~0u, x[i], 3u, 8)": lambda lane: np.where(lane % 8 < 5, lane + 3, lane),
    "__shfl_up_sync(~0u, x[i], 3u, 8)": lambda lane: np.where(lane % 8 < 3, lane, lane - 3),
}


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_shuffles(kernel, shuffle, dtype):
    code = kernel(f"const {dtype}* x, {dtype}* y", f"y[i] = {shuffle};")
    x = guarded(RNG.normal(size=32), {"float": np.float32, "double": np.float64}[dtype])
    for order in ORDERS:
        y = empty(32, x.dtype)
        run(launch(code, x, y), order)
        np.testing.assert_array_equal(y, x[SHUFFLES[shuffle](np.arange(32))])


def test_part_of_a_warp(kernel):
    code = kernel(
        "unsigned* y",
        "unsigned half = i < 16 ? 0xFFFFu : 0xFFFF0000u;\n"
        "if (i < 16) y[i] = __ballot_sync(half, i % 3 == 0);\n"
        "else y[i] = __shfl_xor_sync(half, i, 1) + __any_sync(half, i == 20)\n"
        "          + 2 * __all_sync(half, i > 20);",
    )
    y = empty(32, np.uint32)
    run(launch(code, y))
    np.testing.assert_array_equal(y[:16], sum(1 << i for i in range(0, 16, 3)))
    np.testing.assert_array_equal(y[16:], (np.arange(16, 32) ^ 1) + 1)


def rounded(x, kind):
    """Float32 numbers that `kind` holds exactly, and their bits."""
    if kind == "tf32":
        bits = (x.astype(np.float32).view(np.uint32) + np.uint32(0x1000)) & ~np.uint32(0x1FFF)
        return bits.view(np.float32), bits
    if kind == "bfloat16":
        held = bfloat16_rounded(x.astype(np.float32))
        return held, (held.view(np.uint32) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    return half.astype(np.float32), half.view(np.uint16)


# Loads of fragments element by element, by the layouts in the device's intrinsics.cuh.
FRAGMENTS = {
    "halves": """
int g = i / 4, t = i % 4;
auto pair = [](U low, U high) { return (unsigned)low | (unsigned)high << 16; };
unsigned fa[4], fb[2];
for (int r = 0; r < 4; ++r) {
    const U* p = a + (g + (r % 2) * 8) * 16 + 2 * t + (r / 2) * 8;
    fa[r] = pair(p[0], p[1]);
}
for (int r = 0; r < 2; ++r) {
    const U* p = b + (2 * t + r * 8) * 8 + g;
    fb[r] = pair(p[0], p[8]);
}
""",
    "tf32": """
int g = i / 4, t = i % 4;
unsigned fa[4], fb[2];
for (int r = 0; r < 4; ++r) fa[r] = a[(g + (r % 2) * 8) * 8 + t + (r / 2) * 4];
for (int r = 0; r < 2; ++r) fb[r] = b[(t + 4 * r) * 8 + g];
""",
}
STORE = """
for (int r = 0; r < 4; ++r) c[(g + (r / 2) * 8) * 8 + 2 * t + r % 2] = fc[r];
"""


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "tf32"])
def test_tensor_cores(kernel, kind):
    depth = 8 if kind == "tf32" else 16
    kind_of_bits = "unsigned" if kind == "tf32" else "unsigned short"
    call = (
        "multiply_add_tf32(fc, fa, fb);"
        if kind == "tf32"
        else f"multiply_add(fc, fa, fb, {kind}());"
    )
    code = kernel(
        "const U* a, const U* b, float* c",
        FRAGMENTS["tf32" if kind == "tf32" else "halves"]
        + f"float fc[4] = {{1, 2, 3, 4}}; {call} {STORE}",
        f"using U = {kind_of_bits};",
    )
    a, a_bits = rounded(RNG.normal(size=(16, depth)), kind)
    b, b_bits = rounded(RNG.normal(size=(depth, 8)), kind)
    start = np.tile([[1, 2]] * 8 + [[3, 4]] * 8, 4)
    for order in ORDERS[:3]:
        c = empty((16, 8), np.float32)
        run(launch(code, guarded(a_bits), guarded(b_bits), c), order)
        expected = start + a.astype(np.float64) @ b.astype(np.float64)
        np.testing.assert_allclose(c, expected, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_from_shared_memory(kernel, transposed):
    name = "load_matrices_transposed" if transposed else "load_matrices"
    code = kernel(
        "const unsigned short* x, unsigned short* y",
        "DYNAMIC_SHARED(room); auto* tile = reinterpret_cast<unsigned short*>(room);\n"
        "for (int j = 0; j < 8; ++j) tile[8 * i + j] = x[8 * i + j];\n"
        "__syncwarp(); unsigned part[4];\n"
        f"{name}(part, tile + 8 * i);\n"
        "for (int m = 0; m < 4; ++m) for (int h = 0; h < 2; ++h)\n"
        "    y[64 * m + 8 * (i / 4) + 2 * (i % 4) + h] = part[m] >> 16 * h;",
    )
    x = guarded(RNG.permutation(256).reshape(4, 8, 8), np.uint16)
    for order in ORDERS[:3]:
        y = empty(x.shape, np.uint16)
        run(launch(code, x, y, shared=512), order)
        np.testing.assert_array_equal(y, x.transpose(0, 2, 1) if transposed else x)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_rounding(kernel, name):
    code = kernel(
        "const float* x, unsigned short* y, float* z",
        f"y[i] = to_{name}(x[i]).bits; z[i] = to_float({name}{{y[i]}});",
    )
    x = np.concatenate([RNG.normal(size=250) * 10.0 ** RNG.integers(-6, 5, 250), [0, np.inf]])
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11])
    x = guarded(np.concatenate([x, ties]), np.float32)
    y, z = empty(256, np.uint16), empty(256, np.float32)
    run(launch(code, x, y, z, block=256))
    numbers, bits = rounded(x, name)
    np.testing.assert_array_equal(y, bits)
    np.testing.assert_array_equal(z, numbers)


COPY = (
    "DYNAMIC_SHARED(room); auto* tile = reinterpret_cast<float4*>(room);\n"
    "copy_async<16>(tile + i, x + 4 * i, i % 3 != 0); copy_async_commit();\n"
    "copy_async<16>(tile + 32 + i, x + 4 * i, true); copy_async_commit();\n"
)
REST = "y[2 * i] = tile[i].y; y[2 * i + 1] = tile[32 + i].z;"


@each_order
def test_copies(kernel, order):
    code = kernel(
        "const float* x, float* y",
        COPY + "copy_async_wait<1>(); y[2 * i] = tile[i].y;\n"
        "copy_async_wait<0>(); y[2 * i + 1] = tile[32 + i].z;",
    )
    x, y = guarded(RNG.normal(size=(32, 4)), np.float32), empty((32, 2), np.float32)
    run(launch(code, x, y, shared=1024), order)
    np.testing.assert_array_equal(y[:, 0], np.where(np.arange(32) % 3, x[:, 1], 0))
    np.testing.assert_array_equal(y[:, 1], x[:, 2])


def test_built_ins(kernel):
    """The overload for float must be taken, and conversions saturate as a device's do."""
    code = kernel(
        "const float* x, float* y, int* z",
        "y[i] = sizeof(exp(x[i])) == 4 ? max(x[i], 0.0f) : -1;\n"
        "z[i] = __float2int_rn(x[i]) + (int)(__umulhi(0x80000000u, 6u) - 3);",
    )
    x = guarded([0.5, 1.5, -2.5, 3e9, -3e9, np.nan, 7.4, 0] + [0] * 24, np.float32)
    y, z = empty(32, np.float32), empty(32, np.int32)
    run(launch(code, x, y, z))
    np.testing.assert_array_equal(y[:7], np.float32([0.5, 1.5, 0, 3e9, 0, 0, 7.4]))
    np.testing.assert_array_equal(z[:7], [0, 2, -2, 2**31 - 1, -(2**31), 0, 7])


# --- what shows ---------------------------------------------------------------------------------

EXCHANGE = "__shared__ float s[64]; s[threadIdx.x] = x[i]; {wait} y[i] = s[63 - threadIdx.x];"


def results(code, x, shared=0, block=32):
    """What a kernel of (x, y) leaves in y, for every order."""
    found = []
    for order in ORDERS:
        y = empty(x.shape, x.dtype)
        run(launch(code, x, y, block=block, shared=shared), order)
        found.append(np.array(y))
    return found


@pytest.mark.parametrize("wait", ["__syncthreads();", "__syncwarp();", ""])
def test_a_missing_barrier(kernel, wait):
    code = kernel("const float* x, float* y", EXCHANGE.format(wait=wait))
    x = guarded(RNG.normal(size=64), np.float32)
    right = [np.array_equal(y, x[::-1]) for y in results(code, x, block=64)]
    assert all(right) if wait == "__syncthreads();" else not any(right[:2])


def test_a_barrier_missing_before_memory_is_used_again(kernel):
    code = kernel(
        "const float* x, float* y",
        "__shared__ float s[64]; float sum = 0;\n"
        "for (int round = 1; round < 4; ++round) {\n"
        "    s[i] = round * x[i]; __syncthreads(); sum += s[63 - i]; /* and here */ }\n"
        "y[i] = sum;",
    )
    x = guarded(np.arange(64), np.float32)
    assert not any(np.array_equal(y, 6 * x[::-1]) for y in results(code, x, block=64)[:3])


def test_a_missing_wait_for_a_copy(kernel):
    code = kernel("const float* x, float* y", f"{COPY} copy_async_wait<1>(); {REST}")
    x, y = guarded(RNG.normal(size=(32, 4)), np.float32), empty((32, 2), np.float32)
    with pytest.raises(KernelFault, match=r"k0\.cu:7: the thread ends with 1 asynchronous copies"):
        run(launch(code, x, y, shared=1024))
    assert np.isnan(y[0, 1])


def test_shared_memory_begins_as_garbage(kernel):
    code = kernel(
        "float* y", "__shared__ float s[32]; DYNAMIC_SHARED(d);\n"
        "int t = threadIdx.x; auto* f = reinterpret_cast<float*>(d); float local[4];\n"
        "y[3 * i] = s[31 - t]; y[3 * i + 1] = f[t]; y[3 * i + 2] = local[1];\n"
        "s[31 - t] = f[t] = 1;",
    )  # fmt: skip
    y = empty((64, 3), np.float32)
    y[...] = 0
    run(launch(code, y, grid=2, shared=128))
    assert np.isnan(y[:, :2]).all()
    assert (abs(y[:, 2]) > 1e30).all()


def test_a_missing_wait_within_a_warp(kernel):
    """A lane that reads what another has not yet written shows in one of two orders."""
    code = kernel("float* y", "y[i] = i; if (i) y[i] += y[i - 1];")
    first, second = empty(32, np.float32), empty(32, np.float32)
    run(launch(code, first), Order("forward"))
    with np.errstate(invalid="ignore"):
        run(launch(code, second), Order("reverse"))
    assert first[31] == sum(range(32))
    assert np.isnan(second[31])


# --- how it is called -----------------------------------------------------------------------------


def test_a_null_pointer(kernel):
    y = empty(32, np.int32)
    run(launch(kernel("const float* x, int* y", "y[i] = x == nullptr;"), None, y))
    assert (y == 1).all()


def test_macros_and_architecture(tmp_path):
    (tmp_path / "m.cu").write_text(
        'extern "C" __global__ void m(int* y) { y[0] = VALUE; y[1] = __CUDA_ARCH__; }'
    )
    kernels = [Kernel.of(str(tmp_path / "m.cu"), "m", VALUE=value) for value in (3, 4)]
    build_all(kernels)
    for code, value in zip(kernels, (3, 4), strict=True):
        y = empty(2, np.int32)
        run(launch(code, y), architecture=750)
        assert y.tolist() == [value, 750]
