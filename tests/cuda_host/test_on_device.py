"""That the way by which kernel tests reach a device is right: here the device is the stand-in."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.backends.cuda.device import CudaDevice
from mlp_kernels.cuda import convert, optimizers
from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.arrays import Room
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.on_device import everything_runs_on
from tests.cuda_host.run import run


@pytest.fixture
def there(cupy):
    with everything_runs_on(CudaDevice(0)):
        yield cupy


def test_results_come_back(there):
    source, out = guarded(np.arange(33), np.float32), empty(33, np.float64)
    run(convert.convert(source, out))
    np.testing.assert_array_equal(out, np.arange(33))


def test_arrays_in_place_and_parts_of_arrays(there):
    gradients = guarded(np.full(33, 3.0))
    scalars = guarded(np.ones(3))
    room = Room()
    run(optimizers.prepare(gradients, gradients[:0], scalars, None, room, max_norm=1.0))
    assert scalars[1] == pytest.approx(1 / (3 * np.sqrt(33) + 1e-6))
    np.testing.assert_array_equal(gradients, 3)


def test_an_unaligned_array_stays_so(there):
    whole = guarded(np.arange(34), np.float32)
    out = empty(33, np.float32)
    run(convert.convert(whole[1:], out))
    np.testing.assert_array_equal(out, np.arange(1, 34))


@pytest.mark.usefixtures("cupy")
def test_shared_memory_beside_a_kernels_own(kernel):
    """Without asking a block has 48 KiB of both together."""
    own = "__shared__ float own[64]; own[i] = i; __syncthreads(); y[i] = own[63 - i];"
    code, device = kernel("float* y", own), CudaDevice(0)
    y = device.empty((64,), np.float32)
    for size in (48, 100, 60, 100):
        device.submit(Launch(code, (1, 1, 1), (64, 1, 1), (y,), size * 1024))
    np.testing.assert_array_equal(device.download(y), np.arange(64)[::-1])
