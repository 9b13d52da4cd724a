"""The barrier of all blocks of a cooperative launch, and what misuse of it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.cupy_stand_in import installed
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.run import FORWARD, ORDERS, KernelFault, Order, run

BLOCKS, THREADS = 5, 64


def launch(kernel, *arguments, blocks=BLOCKS, threads=THREADS, shared=0):
    return Launch(kernel, (blocks, 1, 1), (threads, 1, 1), arguments, shared, cooperative=True)


def counter(value=0):
    return guarded([value], np.uint32)


# Each round, each block adds what the next one wrote in the round before.
RING = """
const int n = gridDim.x * blockDim.x, other = (i + blockDim.x) % n;
for (int round = 0; round < 4; ++round) {{
    float* from = round % 2 ? y : x;
    float* to = round % 2 ? x : y;
    to[i] = from[i] + 2 * from[other];
    {wait}
}}
"""


def ring(kernel, wait, order):
    x = guarded(np.arange(BLOCKS * THREADS), np.float32)
    y = empty(x.size, np.float32)
    code = kernel("float* x, float* y, unsigned* counter", RING.format(wait=wait))
    run(launch(code, x, y, counter()), order)
    return np.array(x)


def test_blocks_see_what_others_wrote_before(kernel):
    expected = np.arange(BLOCKS * THREADS, dtype=np.float32)
    for _ in range(4):
        expected = expected + 2 * np.roll(expected, -THREADS)
    for order in ORDERS:
        np.testing.assert_array_equal(ring(kernel, "grid_barrier(counter);", order), expected)


def test_a_missing_barrier_shows(kernel):
    right = ring(kernel, "grid_barrier(counter);", FORWARD)
    with np.errstate(invalid="ignore"):
        wrong = [ring(kernel, "__syncthreads();", order) for order in ORDERS]
    assert not any(np.array_equal(each, right) for each in wrong)


def test_shared_memory_and_variables_outlast_the_wait(kernel):
    """Each block has its own, also while others run; and it begins as garbage in each."""
    code = kernel(
        "const float* x, float* y, unsigned* counter",
        "DYNAMIC_SHARED(room); auto* s = reinterpret_cast<float*>(room); __shared__ float t[64];\n"
        "const float garbage = s[threadIdx.x]; float mine = x[i];\n"
        "s[threadIdx.x] = x[i]; t[threadIdx.x] = 2 * x[i];\n"
        "grid_barrier(counter);\n"
        "mine += s[63 - threadIdx.x] + t[63 - threadIdx.x];\n"
        "y[i] = garbage == garbage ? 0 : mine;",
    )
    x = guarded(np.random.default_rng(0).integers(0, 100, BLOCKS * THREADS), np.float32)
    for order in ORDERS:
        y = empty(x.size, np.float32)
        run(launch(code, x, y, counter(), shared=4 * THREADS), order)
        turned = x.reshape(BLOCKS, THREADS)[:, ::-1].ravel()
        np.testing.assert_array_equal(y, x + 3 * turned)


def test_a_launch_can_be_repeated_and_the_grid_may_change(kernel):
    code = kernel("int* x, unsigned* counter", "x[i] = i; grid_barrier(counter); x[i] += 1;")
    count = counter()
    for blocks in (1, 3, 3, 2):
        x = empty(blocks * THREADS, np.int32)
        run(launch(code, x, count, blocks=blocks))
        np.testing.assert_array_equal(x, np.arange(x.size) + 1)


def test_blocks_come_in_the_order_that_is_asked_for(kernel):
    """After each barrier anew."""
    code = kernel(
        "int* x, unsigned* ticket, unsigned* counter",
        "if (threadIdx.x == 0) x[atomicAdd(ticket, 1u)] = blockIdx.x;\ngrid_barrier(counter);\n"
        "if (threadIdx.x == 0) x[atomicAdd(ticket, 1u)] = blockIdx.x;",
    )

    def order_of(order):
        x = empty((2, BLOCKS), np.int32)
        run(launch(code, x, guarded([0], np.uint32), counter()), order)
        return np.array(x)

    forward = np.arange(BLOCKS)
    np.testing.assert_array_equal(order_of(FORWARD), [forward] * 2)
    np.testing.assert_array_equal(order_of(Order(blocks="reverse")), [forward[::-1]] * 2)
    first, second = order_of(Order(blocks="random", seed=3))
    assert sorted(first) == sorted(second) == [*forward]
    assert [*first] != [*second]


FAULTS = {
    "if (blockIdx.x != 2) grid_barrier(counter);": r"blocks wait for each other: block \(0, 0, 0\),"
    r" thread \(0, 0, 0\) waits in grid_barrier at k0\.cu:5; block \(2, 0, 0\), .* has ended",
    "if (blockIdx.x == 2) grid_barrier(counter);": "block .* has ended; block .2, 0, 0., .* waits",
    "if (blockIdx.x == 2) {\ngrid_barrier(counter);\n} else {\ngrid_barrier(counter);\n}":
    r"grid_barrier at k0\.cu:8; block \(2, 0, 0\), .* waits in grid_barrier at k0\.cu:6",
    "if (i != 3) grid_barrier(counter);": r"the thread ends while thread .* waits in grid_barrier|"
    "grid_barrier after 1 threads of the block have ended",
    "if (threadIdx.x == 3) __syncthreads(); else grid_barrier(counter);":
    r"(__syncthreads, while .* grid_barrier|grid_barrier, while .* __syncthreads)",
    "grid_barrier(counter + blockIdx.x % 2);": "blocks wait with different counters",
    "grid_barrier(counter + 2);": "the counter of grid_barrier was not 0 at first",
    "if (i == 70) *(volatile int*)1232 = 5; grid_barrier(counter);": "an unknown address",
}  # fmt: skip


@pytest.mark.parametrize("body", FAULTS)
def test_faults(kernel, body):
    code = kernel("unsigned* counter", body)
    with pytest.raises(KernelFault, match=f"^k: .*{FAULTS[body]}"):
        run(launch(code, guarded([0, 0, 7], np.uint32)))
    run(launch(kernel("unsigned* counter", "grid_barrier(counter);"), counter()))  # it works on


def test_a_launch_that_is_not_cooperative(kernel):
    code = kernel("unsigned* counter", "grid_barrier(counter);")
    alone = replace(launch(code, counter()), cooperative=False)
    with pytest.raises(KernelFault, match="grid_barrier in a launch that is not cooperative"):
        run(alone)
    with pytest.raises(KernelFault, match="grid_barrier: the grid is not a row"):
        run(replace(launch(code, counter()), grid=(2, 2, 1)))
    with pytest.raises(KernelFault, match="a cooperative launch of 64000 threads"):
        run(launch(code, counter(), blocks=1000))


CODE = """#include <intrinsics.cuh>
extern "C" __global__ void k(int* x, unsigned* counter) {
    x[blockIdx.x] = 1;
    grid_barrier(counter);
    if (threadIdx.x == 0 && blockIdx.x == 0) x[0] = gridDim.x;
}
"""


def test_the_stand_in_launches_as_cupy_does():
    """A grid that is too large to be resident is made smaller, with a warning."""
    with installed(processors=2) as cupy:
        module = cupy.RawModule(code=CODE, options=(), enable_cooperative_groups=True)
        function = module.get_function("k")
        x, count = cupy.empty((40,), np.int32), cupy.empty((1,), np.uint32)
        count.set(np.zeros(1, np.uint32))
        function((4,), (1024,), (x, count))
        assert x.get()[0] == 4
        with pytest.warns(UserWarning, match="reduced from 40 to 4"):
            function((40,), (1024,), (x, count))
        plain = cupy.RawModule(code=CODE, options=()).get_function("k")
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="not cooperative"):
            plain((4,), (32,), (x, count))
