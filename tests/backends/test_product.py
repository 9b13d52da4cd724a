"""The matrix product of the processor's kernels, against NumPy's in float64.

Small whole numbers make structural tests exact: every product and sum of them is held by any dtype,
so nothing is compared with a tolerance. What lies around an operand is NaN, and around the result a
guard value, so that a place read or written by mistake shows.
"""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit

from mlp.backends.host import aligned_empty
from mlp_kernels.cpu.call import call
from mlp_kernels.cpu.pairs import pairs_type
from mlp_kernels.cpu.product import DEPTH_BYTES, GROUP, HEIGHT, MANY_COLUMNS, SCRATCH_BYTES
from mlp_kernels.cpu.units import layer_units
from tests.backends.conftest import in_bfloat16
from tests.conftest import needs_bfloat16
from tests.tolerances import assert_close

ROOT = Path(__file__).parents[2]
SIZES = (1, 3, 31, 32, 33, 127)
# (height, width, depth): across the blocks in all three, in every dtype, and with operands that are
# packed because of their size.
LARGE = [(300, 35, 600), (9, 70, 2100), (33, 70, 1100), (515, 515, 260), (40, 2100, 20)]
FLIPS = list(itertools.product((False, True), repeat=2))
GUARD = -12345.0

KINDS = ["float32", "float64", pytest.param("bfloat16", marks=needs_bfloat16)]


@njit(error_model="numpy")
def multiply(unit, a, b, c, sizes, scratch):
    """`a`, `b`, `c` are (flat array, start, row, ...) as the product takes them."""
    call(unit, (
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2],
        sizes[0], sizes[1], sizes[2], scratch,
    ))  # fmt: skip


class Product:
    """The compiled product of one kind."""

    def __init__(self, kind: str) -> None:
        self.dtype = np.dtype("float32" if kind == "bfloat16" else kind)
        packed = pairs_type() if kind == "bfloat16" else self.dtype
        self.unit = layer_units(self.dtype, packed, False).product
        self.scratch = aligned_empty((SCRATCH_BYTES // packed.itemsize,), packed)
        self.operand = in_bfloat16 if kind == "bfloat16" else np.asarray

    def run(self, a, b, c, height, width, depth):
        self.scratch.view(np.uint8)[:] = 255  # NaN in any dtype: nothing is left from before
        multiply(self.unit, a, b, c, (height, width, depth), self.scratch)

    def __call__(self, A, B, flips=(False, False), start=0, extra=0):
        """A @ B, of operands laid out `extra` wider than they are and from `start` on."""
        height, depth = A.shape
        width = B.shape[1]
        c, C = self.laid_out(np.full((height, width), np.nan), start, extra, GUARD)
        before = c.copy()
        a = (*self.place(A, flips[0], start, extra), int(flips[0]))
        b = (*self.place(B, flips[1], start, extra), int(flips[1]))
        self.run(a, b, (c, start, width + extra), height, width, depth)
        result = C.copy()
        C[...] = np.nan
        np.testing.assert_array_equal(c, before, err_msg="written outside the result")
        return result

    def place(self, X, flip, start, extra):
        """(flat, start, row) of X, or of its transpose."""
        lies = X.T if flip else X
        return self.laid_out(lies, start, extra, np.nan)[0], start, lies.shape[1] + extra

    def laid_out(self, X, start, extra, around):
        """A flat array that holds X, and the view of X in it."""
        rows, width = X.shape
        flat = np.full(start + rows * (width + extra) + 64, around, self.dtype)
        inside = flat[start : start + rows * (width + extra)].reshape(rows, width + extra)
        inside[:, :width] = X
        return flat, inside[:, :width]


@pytest.fixture(params=KINDS)
def product(request) -> Product:
    return Product(request.param)


def whole(rng, *shape):
    """Whole numbers, so small that all sums here are exact in float32."""
    return rng.integers(-8, 9, shape).astype(float)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("flips", FLIPS)
def test_every_shape(product, flips):
    rng = np.random.default_rng(0)
    for height, width, depth in [*itertools.product(SIZES, repeat=3), *LARGE]:
        A, B = whole(rng, height, depth), whole(rng, depth, width)
        np.testing.assert_array_equal(product(A, B, flips), A @ B)


def test_the_large_shapes_are_large_enough():
    heights, widths, depths = (max(sizes) for sizes in zip(*LARGE, strict=True))
    assert heights > HEIGHT
    assert widths > GROUP
    assert depths > DEPTH_BYTES // 2  # of the smallest numbers, those of bfloat16
    assert any(height > HEIGHT and width > MANY_COLUMNS for height, width, _ in LARGE)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize(("start", "extra"), [(0, 5), (3, 0), (17, 31), (1, 4000)])
def test_operands_inside_larger_matrices(product, flips, start, extra):
    rng = np.random.default_rng(1)
    for height, width, depth in [(1, 1, 1), (33, 31, 127), (127, 33, 31), (137, 40, 300)]:
        A, B = whole(rng, height, depth), whole(rng, depth, width)
        np.testing.assert_array_equal(product(A, B, flips, start, extra), A @ B)


@pytest.mark.parametrize("flips", FLIPS)
def test_rounding(product, flips):
    """Real numbers: operands are rounded once if at all, and sums are made in the dtype."""
    rng = np.random.default_rng(2)
    for height, width, depth in [(31, 33, 127), *LARGE]:
        A, B = normal(rng, height, depth), normal(rng, depth, width)
        expected = product.operand(A) @ product.operand(B)
        assert_close(product(A, B, flips), expected, product.dtype, terms=depth)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("shape", [(33, 65, 127), (140, 70, 600), (520, 530, 9)])
def test_any_share_of_the_result_has_the_same_bits(product, flips, shape):
    rng = np.random.default_rng(3)
    height, width, depth = shape
    A, B = normal(rng, height, depth), normal(rng, depth, width)
    C = product(A, B, flips)
    a, a_start, a_row = product.place(A, flips[0], 0, 0)
    b, b_start, b_row = product.place(B, flips[1], 0, 0)
    for row_cuts, column_cuts in [
        ((8, 16), ()),
        ((1, 2, 3, 31), (1, 5, 33)),
        ((height - 1,), (width - 1,)),
        (range(1, height), ()),
        ((), range(1, width)),
    ]:
        shared = np.full_like(C, np.nan)
        for top, bottom in itertools.pairwise([0, *row_cuts, height]):
            for left, right in itertools.pairwise([0, *column_cuts, width]):
                first = a_start + (top if flips[0] else top * a_row)
                second = b_start + (left * b_row if flips[1] else left)
                product.run(
                    (a, first, a_row, int(flips[0])), (b, second, b_row, int(flips[1])),
                    (shared.reshape(-1), top * width + left, width),
                    bottom - top, right - left, depth,
                )  # fmt: skip
        np.testing.assert_array_equal(shared, C)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("shape", [(5, 3, 2), (33, 40, 127), (140, 70, 600)])
def test_nan_and_infinity_are_passed_on(product, flips, shape):
    height, width, depth = shape
    rng = np.random.default_rng(4)
    A, B = whole(rng, height, depth), whole(rng, depth, width)
    A[1, depth // 2], A[2, 0], A[-1, -1] = np.nan, np.inf, -np.inf
    B[-1, 1], B[0, -1] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = A @ B
    np.testing.assert_array_equal(product(A, B, flips), expected)


@needs_bfloat16
def test_each_number_is_rounded_to_the_nearest_bfloat16():
    product = Product("bfloat16")
    near = [1 + k * 2.0**-10 for k in range(65)]  # ties among them, to even below and above
    numbers = [*near, *(-x for x in near), 1.9999999, 3.0e38, 1e-30, 0.1, 255.5, 2.0**127]
    for sign in (1, -1):
        A = np.array(numbers).astype(np.float32).astype(float)[:, None]
        exact = np.full((1, 1), float(sign))
        np.testing.assert_array_equal(product(A, exact), in_bfloat16(A) * sign)
        np.testing.assert_array_equal(product(exact, A.T), in_bfloat16(A).T * sign)


@needs_bfloat16
def test_bfloat16_cannot_hold_everything():
    """A NaN whose bits are all in the half that goes stays NaN; what is too large is infinite."""
    product = Product("bfloat16")
    quiet_low = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    large = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    A = np.concatenate([quiet_low, large])[:, None]
    expected = [[np.nan], [np.nan], [np.inf], [-np.inf]]
    np.testing.assert_array_equal(product(A, np.ones((1, 1))), expected)
    np.testing.assert_array_equal(product(np.ones((1, 1)), A.T), np.transpose(expected))


# Bytes of a vector -> a processor that has such; `vectors` knows no features but those named here.
AVX2 = "+avx,+avx2,+fma,+sse4.2,+popcnt,+bmi,+bmi2"
OTHER_PROCESSORS = {
    32: {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2},
    16: {"NUMBA_CPU_NAME": "generic"},
}
IN_ANOTHER_PROCESS = """
import sys
import pytest
from mlp_kernels.cpu import vectors

assert vectors.VECTOR_BYTES == int(sys.argv[1])
names = "every_shape or larger_matrices or same_bits"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", names, sys.argv[2]]))
"""


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="a choice among x86 processors"
)
@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="compiled for another one already")
@pytest.mark.parametrize("vector_bytes", OTHER_PROCESSORS)
def test_compiled_for_a_lesser_processor(vector_bytes, tmp_path):
    here = llvm.get_host_cpu_features()
    if vector_bytes == 32 and not (here.get("avx2") and here.get("fma")):
        pytest.skip("the processor has no AVX2")
    environment = {
        **os.environ, **OTHER_PROCESSORS[vector_bytes], "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(vector_bytes), __file__],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
