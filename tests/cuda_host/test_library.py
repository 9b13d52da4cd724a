"""Products by cublasLt, on a stand-in for its bindings: against float64, and in captured steps."""

from __future__ import annotations

import enum
import inspect
import re
import sys

import numpy as np
import pytest

import mlp.backends
from mlp.backends import get_backend
from mlp.backends.cuda.backend import CupyBackend
from mlp.backends.cuda.choices import RULE, Choice, Choices
from mlp.backends.cuda.library import ALGORITHM
from mlp.backends.cuda.products import LIBRARY
from mlp.errors import BackendUnavailable, DeviceFault
from mlp_kernels.cuda.launch import LibraryProduct
from tests.cuda_host import cublas_stand_in
from tests.cuda_host.cublas_stand_in import cuBLASLtError, library_installed
from tests.cuda_host.runs import PRECISIONS, classifier, digits, machine, trainer_of
from tests.problems import parameters
from tests.tolerances import bound

# Significant bits that operands of a product keep, as do its results where they are of 16 bits.
BITS = {"tf32": 11, "float16": 11, "bfloat16": 8}


@pytest.fixture
def always(monkeypatch):
    """The library is chosen wherever it can be had, and steps are made of products."""
    monkeypatch.setattr(CupyBackend, "tiny_steps", "graph")
    monkeypatch.setattr(CupyBackend, "fused_chain", False)

    def choose(self, key, names, candidates=None, calls=1):
        return Choice(key, LIBRARY if LIBRARY in names else names[0], RULE)

    monkeypatch.setattr(Choices, "choose", choose)


@pytest.fixture
def library(cupy):
    with library_installed() as installed:
        yield installed


class On:
    """A backend of a precision, with arrays of float64 put there."""

    def __init__(self, precision):
        self.precision, self.backend = precision, get_backend("cuda", precision)
        self.sums = np.dtype(np.float64 if precision == "float64" else np.float32)

    def put(self, values, dtype=None):
        return self.backend.from_host(
            np.asarray(values), dtype or self.backend.compute_dtype(self.sums)
        )

    def assert_near(self, array, expected, terms):
        """Within the rounding of operands, of sums and of what is stored."""
        got = self.backend.to_host(array).astype(np.float64)
        scale = np.abs(expected).max() + 1
        limit = bound(self.sums, terms, scale)
        if self.precision in BITS:
            limit += 4 * np.sqrt(terms) * 2.0 ** -BITS[self.precision] * scale
        assert np.abs(got - expected).max() <= limit


def draw(*shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def check_products(on, B, I, O):  # noqa: E741
    """The three products, at once and as a graph, against float64."""
    backend = on.backend
    x, W, b, delta = draw(B, I), draw(I, O), draw(O), draw(B, O)
    kept, z = np.tanh(draw(B, I, seed=1)), x @ W + b
    given = [on.put(each) for each in (x, W, delta, kept)]
    bias = on.put(b, on.sums)

    def work():
        x, W, delta, kept = given
        backend.linear_forward(x, W, bias, "silu", a, saved)
        backend.linear_delta(delta, W, kept, "tanh", out, db)
        backend.linear_grads(x, delta, dW, None)

    def check():
        on.assert_near(a, z / (1 + np.exp(-z)), I)
        on.assert_near(saved, z, I)
        expected = delta @ W.T * (1 - kept**2)
        on.assert_near(out, expected, O)
        on.assert_near(db, expected.sum(axis=0), B + O)
        on.assert_near(dW, x.T @ delta, B)

    for captured in (False, True):
        a, saved, out = (on.put(np.full(shape, np.nan)) for shape in ((B, O), (B, O), (B, I)))
        db, dW = (backend.empty(size, on.sums) for size in ((I,), (I, O)))
        if captured:
            with backend.on.recorded() as launches:
                work()
            backend.on.graph(launches)()
        else:
            work()
        check()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(5, 3, 7), (64, 32, 40)], ids=str)
def test_the_three_products(library, precision, shape):
    check_products(On(precision), *shape)
    B, I, O = shape  # noqa: E741
    kind = {"float64": "COMPUTE_64F", "tf32": "COMPUTE_32F_FAST_TF32"}.get(precision, "COMPUTE_32F")
    # As the library sees them, column by column: (columns, rows, depth).
    assert library.calls == 2 * [(O, B, I, kind), (I, B, O, kind), (O, I, B, kind)]


@pytest.mark.gpu
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(5, 3, 7), (64, 32, 40), (257, 300, 129)], ids=str)
def test_the_three_products_on_a_device(precision, shape):
    on = On(precision)
    if on.backend.on.library.reason is not None:
        pytest.skip(on.backend.on.library.reason)
    check_products(on, *shape)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_are_recorded_with_the_library(library, precision):
    ours, theirs = (classifier(device, precision, hidden=16) for device in ("cuda", "numpy"))
    for net in (ours, theirs):
        trainer_of(net, batch_size=32).fit(*digits(112), 1)  # the last batch is not full
    asked = library.asked
    assert asked > 0
    assert len(library.calls) > asked  # a product's algorithm is asked for once
    scale = 1e-4 if precision == "float32" else 3e-2
    for mine, other in zip(parameters(ours), parameters(theirs), strict=True):
        assert np.abs(mine - other).max() < scale


@pytest.mark.usefixtures("always")
def test_a_run_repeats_bit_by_bit(library):
    runs = []
    for _ in range(2):
        net = classifier("cuda", "bfloat16", hidden=16)
        trainer_of(net, batch_size=32).fit(*digits(64), 1)
        runs.append([values.tobytes() for values in parameters(net)])
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("always")
def test_products_that_the_library_refuses_are_made_by_a_tile(cupy):
    with library_installed(refuses=lambda m, n, k: k == 3) as library:
        on = On("float32")
        x, W, b = draw(5, 3), draw(3, 7), draw(7)
        a = on.put(np.zeros((5, 7)))
        with pytest.raises(BackendUnavailable, match="cannot make this product"):
            on.backend.on.submit(LibraryProduct(on.put(x), on.put(W), a))
        # `always` chooses the library again; the backend then leaves it out.
        on.backend.linear_forward(*map(on.put, (x, W, b)), "identity", a, None)
        on.assert_near(a, x @ W + b, 3)
        assert not library.calls


def test_operands_that_begin_anywhere(library):
    on = On("float32")
    W, a = on.put(draw(4, 4)), on.put(np.zeros((4, 4)))
    flat = on.put(draw(20))
    for start in (0, 1, 2):
        x = flat[start : start + 16].reshape(4, 4)
        product = LibraryProduct(x, W, a)
        on.backend.on.submit(product)
        expected = on.backend.to_host(x) @ on.backend.to_host(W)
        on.assert_near(a, expected, 4)
    assert library.asked == 3, "for each alignment"
    with on.backend.on.recorded():
        on.backend.on.submit(product)
    assert library.asked == 3
    assert len(library.calls) == 3, "noted, not made"


def reason(**properties):
    with library_installed(**properties):
        return get_backend("cuda").on.library.reason


def test_why_it_cannot_be_used(cupy, monkeypatch):
    assert reason() is None
    mlp.backends._make.cache_clear()
    found = reason(missing=RuntimeError("libcublasLt.so.13: cannot\nopen"))
    assert found.startswith("cublasLt cannot be used (libcublasLt.so.13: cannot open); pip install")
    mlp.backends._make.cache_clear()
    monkeypatch.setitem(sys.modules, "nvmath", None)
    library = get_backend("cuda").on.library
    assert "nvmath-python, which calls cublasLt, cannot be imported" in library.reason
    assert 'pip install "fused-mlp[cuda13-cublas]"' in library.reason
    with pytest.raises(BackendUnavailable, match="nvmath-python"):
        _ = library.version


def test_the_stand_in_is_like_the_bindings():
    real = pytest.importorskip("nvmath.bindings.cublasLt")
    from nvmath import CudaDataType
    from nvmath.bindings.cublas import ComputeType

    assert real.matmul_heuristic_result_dtype.itemsize == ALGORITHM.itemsize
    enumerations = {"CudaDataType": CudaDataType, "ComputeType": ComputeType}
    for name, ours in vars(cublas_stand_in).items():
        if isinstance(ours, enum.EnumMeta):
            theirs = enumerations.get(name) or getattr(real, name)
            assert {each.name: int(theirs[each.name]) for each in ours} == {
                each.name: int(each) for each in ours
            }
    with library_installed():
        installed = vars(sys.modules["nvmath.bindings.cublasLt"])
        functions = {name: each for name, each in installed.items() if inspect.ismethod(each)}
    assert functions
    for name, function in functions.items():
        given = re.match(r"\w+\((.*?)\)", getattr(real, name).__doc__)[1]
        assert len(inspect.signature(function).parameters) == len(given.split(",") if given else [])


def test_its_version(library):
    assert get_backend("cuda").on.library.version == "13.1.0"


def test_a_call_that_fails(library, monkeypatch):
    def fails(*arguments):
        raise cuBLASLtError("CUBLAS_STATUS_EXECUTION_FAILED (13)")

    monkeypatch.setattr(sys.modules["nvmath.bindings.cublasLt"], "matmul", fails)
    x = On("float32").put(draw(4, 4))
    with pytest.raises(DeviceFault, match="cublasLt: CUBLAS_STATUS_EXECUTION_FAILED"):
        get_backend("cuda").on.submit(LibraryProduct(x, x, x))


def test_the_workspace_is_as_large_as_the_device_is_new():
    for capability, size in (((8, 0), 4 * 2**20), ((9, 0), 32 * 2**20)):
        with machine(capability=capability) as cupy, library_installed():
            before = cupy.machine.used[0]
            assert get_backend("cuda").on.library.reason is None
            assert cupy.machine.used[0] - before >= size
