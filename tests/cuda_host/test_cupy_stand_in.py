"""The stand-in for CuPy: order of work, what a missing wait shows, captures, memory, errors."""

import sys

import numpy as np
import pytest

from tests.cuda_host.cupy_stand_in import installed
from tests.cuda_host.run import KernelFault

CODE = r"""
extern "C" __global__ void scale(float* x, float by, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] *= by;
}
extern "C" __global__ void architecture(int* x) {
    DYNAMIC_SHARED(room);
    room[0] = 0;
    x[0] = __CUDA_ARCH__ + EXTRA;
}
"""


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


def kernel(cupy, name="scale", options=("-std=c++17", "-DEXTRA=0")):
    return cupy.RawModule(code=f"#include <intrinsics.cuh>\n{CODE}", options=options).get_function(
        name
    )


def scale(cupy, x, by, count=None):
    count = x.size if count is None else count
    kernel(cupy)((1,), (32,), (x, np.float32(by), np.int32(count)))


@pytest.fixture
def stream(cupy):
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture
def x(cupy, stream):
    """1, 2, 3, on the device."""
    with stream:
        x = cupy.empty((3,), np.float32)
        x.set(np.float32([1, 2, 3]))
        stream.synchronize()
    return x


def numbers(array, stream):
    return array.get(stream=stream).tolist()


def test_modules_come_and_go():
    before = sys.modules.get("cupy")
    with installed(count=3) as module:
        import cupy

        assert cupy is module
        assert cupy.cuda.runtime.getDeviceCount() == 3
    assert sys.modules.get("cupy") is before


def test_work_is_done_in_order_once_waited_for(cupy, stream, x):
    with stream:
        scale(cupy, x, 2)
        x.data.memset_async(0, 4)
        scale(cupy, x, 5)
    assert numbers(x, cupy.cuda.Stream.null) == [1, 2, 3]  # another stream, which waits for nothing
    assert numbers(x, stream) == [0, 20, 30]


def test_an_event_orders_streams(cupy, stream, x):
    other = cupy.cuda.Stream(non_blocking=True)
    y = cupy.empty(3, np.float32)
    with stream:
        scale(cupy, x, 2)
        done = stream.record(cupy.cuda.Event(disable_timing=True))
    with stream:
        scale(cupy, x, 2)
    assert not done.done
    other.wait_event(done)
    y.data.copy_from_device_async(x.data, x.nbytes, other)
    assert numbers(y, other) == [2, 4, 6]
    done.synchronize()
    assert numbers(x, stream) == [4, 8, 12]


def test_events_tell_the_time_that_kernels_are_said_to_take(cupy, stream, x):
    cupy.machine.cost = lambda kernel: 250.0 if kernel.startswith("scale") else 1.0
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    with stream:
        scale(cupy, x, 2)
        start.record()
        scale(cupy, x, 2)
        scale(cupy, x, 2)
        end.record()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="not ready"):
        cupy.cuda.get_elapsed_time(start, end)
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) == 0.5
    untimed = stream.record(cupy.cuda.Event(disable_timing=True))
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="invalid resource handle"):
        cupy.cuda.get_elapsed_time(start, untimed)


def test_eager_work():
    with installed(lazy=False) as cupy, cupy.cuda.Stream(non_blocking=True):
        x = cupy.empty(3, np.float32)
        x.set(np.float32([1, 2, 3]))
        scale(cupy, x, 2)
        assert numbers(x, cupy.cuda.Stream.null) == [2, 4, 6]


def test_pinned_memory_is_read_when_the_copy_is_made(cupy, stream, x):
    pinned = cupy.cuda.alloc_pinned_memory(12)
    host = np.frombuffer(pinned, np.float32, 3)
    host[...] = [7, 8, 9]
    cupy.cuda.runtime.memcpyAsync(x.data.ptr, pinned.ptr, 12, 1, stream.ptr)
    host[...] = 0  # too early: nobody waited
    assert numbers(x, stream) == [0, 0, 0]
    assert np.frombuffer(pinned, np.float32).size > 3  # CuPy's blocks are larger than asked for


def test_a_graph_runs_what_was_captured(cupy, stream, x):
    with stream:
        function = kernel(cupy)
        stream.begin_capture()
        assert stream.is_capturing()
        for by in (2, 5):
            function((1,), (32,), (x, np.float32(by), np.int32(2)))
        graph = stream.end_capture()
        assert numbers(x, stream) == [1, 2, 3]
        graph.launch()
    graph.launch(stream)
    assert numbers(x, stream) == [100, 200, 3]


FORBIDDEN = {
    "get": lambda cupy, stream, x: x.get(),
    "set": lambda cupy, stream, x: x.set(np.zeros(3, np.float32)),
    "synchronize": lambda cupy, stream, x: stream.synchronize(),
    "device": lambda cupy, stream, x: cupy.cuda.Device(0).synchronize(),
    "empty": lambda cupy, stream, x: cupy.empty(3, np.float32),
    "compile": lambda cupy, stream, x: kernel(cupy),
    "pinned": lambda cupy, stream, x: cupy.cuda.alloc_pinned_memory(4),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden_in_a_capture(cupy, stream, x, name):
    error = cupy.cuda.runtime.CUDARuntimeError
    with stream:
        stream.begin_capture()
        with pytest.raises(error, match="not permitted when stream is capturing"):
            FORBIDDEN[name](cupy, stream, x)
        with pytest.raises(error, match="previous error during capture"):
            stream.end_capture()
        assert numbers(x, stream) == [1, 2, 3]


def test_a_graph_that_outlives_its_array(cupy, stream, x):
    with stream:
        function = kernel(cupy)
        y = cupy.empty(3, np.float32)
        stream.begin_capture()
        function((1,), (32,), (y, np.float32(2), np.int32(3)))
        graph = stream.end_capture()
    graph.launch(stream)
    stream.synchronize()
    del y
    graph.launch(stream)
    error = cupy.cuda.runtime.CUDARuntimeError
    with pytest.raises(error, match="argument 0 was freed before") as caught:
        stream.synchronize()
    assert isinstance(caught.value.__cause__, KernelFault)
    with pytest.raises(error):  # the device is lost, as it would be
        cupy.empty(3, np.float32)


@pytest.mark.parametrize("same", [True, False])
def test_an_array_freed_before_its_work_is_done(cupy, stream, x, same):
    """As in CuPy's pool: memory is kept for work of the stream on which it was allocated."""
    with stream if same else cupy.cuda.Stream.null:
        y = cupy.empty(3, np.float32)
    y.data.copy_from_device_async(x.data, x.nbytes, stream)
    with stream:
        scale(cupy, y, 2)
    x.data.copy_from_device_async(y.data, x.nbytes, stream)
    del y
    if same:
        assert numbers(x, stream) == [2, 4, 6]
    else:
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="freed"):
            stream.synchronize()


def test_a_kernel_that_writes_beside_its_array(cupy, stream, x):
    with stream:
        scale(cupy, x, 2, count=4)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="past the end of an array of 12"):
        stream.synchronize()


def test_memory_runs_out():
    with installed(memory=1000) as cupy:
        x = cupy.empty(200, np.float32)
        assert cupy.cuda.Device(0).mem_info == (200, 1000)
        with pytest.raises(
            cupy.cuda.memory.OutOfMemoryError,
            match=r"allocating 240 bytes \(allocated so far: 800 bytes\)",
        ):
            cupy.empty(60, np.float32)
        del x
        assert cupy.empty(60, np.float32).nbytes == 240


def test_shared_memory_must_be_asked_for(cupy):
    function = kernel(cupy, "architecture", ("-DEXTRA=5", "-DSOURCE_DIGEST=0x1"))
    y = cupy.empty(1, np.int32)
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="CUDA_ERROR_INVALID_VALUE"):
        function((1,), (1,), (y,), shared_mem=48 * 1024 + 1)
    function.max_dynamic_shared_size_bytes = 64 * 1024
    function((1,), (1,), (y,), shared_mem=64 * 1024)
    assert y.get().tolist() == [905]
    with pytest.raises(cupy.cuda.driver.CUDADriverError):
        function.max_dynamic_shared_size_bytes = 228 * 1024


def test_kernels_that_cannot_be_had(cupy):
    with pytest.raises(cupy.cuda.compiler.CompileException, match="EXTRA"):
        kernel(cupy, "architecture", ())
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="named symbol not found"):
        kernel(cupy, "no_such")


def test_views(cupy):
    x = cupy.empty((4, 6), np.float32)
    host = np.arange(24, dtype=np.float32).reshape(4, 6)
    x.set(host)
    np.testing.assert_array_equal(x[1:3].get(), host[1:3])
    np.testing.assert_array_equal(x[-1].get(), host[-1])
    np.testing.assert_array_equal(x.reshape(-1)[5:9].get(), host.ravel()[5:9])
    np.testing.assert_array_equal(x.reshape(2, 12)[1, 3:].get(), host.reshape(2, 12)[1, 3:])
    part = x[:, 2:4]
    assert not part.flags.c_contiguous
    np.testing.assert_array_equal(cupy.ascontiguousarray(part).get(), host[:, 2:4])
    assert (len(x), x.shape, x.nbytes, x.data.ptr % 256) == (4, (4, 6), 96, 0)
    assert x[4:].size == 0
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(ValueError, match="cannot reshape"):
        x.reshape(5, 5)
    with pytest.raises(TypeError, match="float64 array cannot be set to float32"):
        x.set(host.astype(np.float64))


@pytest.mark.parametrize("through", ["asarray", "from_dlpack"])
def test_other_libraries_arrays(cupy, x, through):
    y = getattr(cupy, through)(x)
    assert y.data.ptr == x.data.ptr
    described = type("Tensor", (), {"__cuda_array_interface__": x.__cuda_array_interface__})()
    assert cupy.asarray(described)[1:].get().tolist() == [2, 3]


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"count": 0}, "no CUDA-capable device is detected"),
        ({"driver": 0}, "driver version is insufficient"),
        ({"driver": 12080}, "driver version is insufficient"),
    ],
)
def test_machines_without_a_device(properties, message):
    with installed(**properties) as cupy:
        error = cupy.cuda.runtime.CUDARuntimeError
        with pytest.raises(error, match=message):
            cupy.cuda.runtime.getDeviceCount()
        with pytest.raises(error, match=message):
            cupy.empty(3, np.float32)


def test_properties_of_a_device():
    with installed(capability=(7, 5), processors=11, count=2, name="A card") as cupy:
        device = cupy.cuda.Device(1)
        assert (device.compute_capability, device.attributes["MultiProcessorCount"]) == ("75", 11)
        assert cupy.cuda.runtime.getDeviceProperties(1)["name"] == b"A card"
        with device:
            assert cupy.empty(3, np.float32).device == device
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="invalid device ordinal"):
            cupy.cuda.Device(2).use()
        y = cupy.empty(1, np.int32)
        kernel(cupy, "architecture")((1,), (1,), (y,), shared_mem=1)
        assert y.get().tolist() == [750]
