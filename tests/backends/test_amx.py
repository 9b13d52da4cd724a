"""Products of bfloat16 in AMX tiles: what is emitted, run on emulated tiles and on real ones."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import cfunc, types

from mlp.backends.numba import NumbaBackend
from mlp.backends.rounding import bfloat16_rounded
from mlp.errors import BackendUnavailable
from mlp_kernels.cpu import pairs
from mlp_kernels.cpu.amx import TileInstructions
from mlp_kernels.cpu.product import DEPTH_BYTES, HEIGHT, SCRATCH_BYTES, product
from mlp_kernels.cpu.vectors import VECTOR_BYTES
from tests.backends import emulated_tiles
from tests.tolerances import assert_close

SIZES = (1, 3, 15, 16, 17, 31, 32, 33, 127, 300)
FLIPS = tuple(itertools.product((False, True), repeat=2))
BLOCK = DEPTH_BYTES // 2  # of k: each number of a pair is two bytes
# Bits of two bfloat16 NaNs, and a float32: what nobody has written shows in a result.
UNWRITTEN, CANARY = 0x7FC07FC0, np.float32(-12345.0)

Product = Callable[..., np.ndarray]

EMULATED = pytest.param(
    emulated_tiles.PREFIX,
    id="emulated",
    marks=pytest.mark.skipif(
        VECTOR_BYTES != 64, reason="operands of tiles are packed with 64-byte vectors (AVX512)"
    ),
)
REAL = pytest.param(
    TileInstructions.prefix,
    id="processor",
    marks=pytest.mark.skipif(
        pairs.amx_refusal() is not None, reason=f"this processor has {pairs.amx_refusal()}"
    ),
)


def compiled() -> Any:
    """The product of pairs packed for tiles, compiled as `units.layer_units` does, but not kept."""
    n, array, scratch = types.int64, types.CPointer(types.float32), types.CPointer(pairs.IN_TILES)
    matrix = (array, n, n)
    signature = types.void(*matrix, n, *matrix, n, *matrix, n, n, n, scratch)
    return cfunc(signature, error_model="numpy")(product)


def lying(matrix: np.ndarray, flip: bool) -> np.ndarray:
    """The matrix, or its transpose, among numbers of which none must be read."""
    room = np.full((matrix.T if flip else matrix).shape + np.array([2, 5]), np.nan, np.float32)
    room[1:-1, 2:-3] = matrix.T if flip else matrix
    return room


@pytest.fixture(scope="module", params=[EMULATED, REAL])
def multiply(request: pytest.FixtureRequest) -> Product:
    """A function of (A, B), with how each lies, and which rows and columns of A @ B to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TileInstructions, "prefix", request.param)
        function = compiled()
    # All that it takes is as wide as an address: 15 numbers.
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 15)(function.address)

    def call(
        A: np.ndarray, B: np.ndarray, a_flip: bool = False, b_flip: bool = False,
        rows: slice = slice(None), columns: slice = slice(None),
    ) -> np.ndarray:  # fmt: skip
        A, B = A[rows], B[:, columns]
        a, b = lying(A, a_flip), lying(B, b_flip)
        height, width = A.shape[0], B.shape[1]
        c = np.full((height + 2, width + 5), CANARY)
        scratch = np.full(SCRATCH_BYTES // 4, UNWRITTEN, np.uint32)
        operands: list[int] = []
        for array, flip in ((a, (a_flip,)), (b, (b_flip,)), (c, ())):
            operands += [array.ctypes.data, array.shape[1] + 2, array.shape[1], *flip]
        run(*operands, height, width, A.shape[1], scratch.ctypes.data)
        assert not emulated_tiles.FAULTS
        assert emulated_tiles.STATE.rows is None  # released
        written = c[1:-1, 2:-3].copy()
        c[1:-1, 2:-3] = CANARY
        assert (c == CANARY).all()
        return written

    call.compiled = function  # the code that it runs must not be collected
    return call


def operands(height: int, width: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((height, width, depth))
    A, B = rng.standard_normal((height, depth)), rng.standard_normal((depth, width))
    return A.astype(np.float32), B.astype(np.float32)


def check(actual: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    exact = bfloat16_rounded(A).astype(np.float64) @ bfloat16_rounded(B).astype(np.float64)
    assert_close(actual, exact, np.float32, terms=A.shape[1])


@pytest.mark.parametrize("height", SIZES)
def test_every_shape(multiply: Product, height: int) -> None:
    for i, (width, depth) in enumerate(itertools.product(SIZES, repeat=2)):
        A, B = operands(height, width, depth)
        # Each place meets each way to lie: 10 depths are no multiple of 4 ways.
        check(multiply(A, B, *FLIPS[(i + height) % 4]), A, B)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("depth", [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 48, 2 * BLOCK + 33])
def test_sums_of_several_blocks_are_added(
    multiply: Product, depth: int, flips: tuple[bool, bool]
) -> None:
    A, B = operands(45, 50, depth)
    check(multiply(A, B, *flips), A, B)


def test_more_rows_than_are_packed_at_once(multiply: Product) -> None:
    A, B = operands(HEIGHT + 21, 35, 70)
    check(multiply(A, B), A, B)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_shares_of_rows_and_columns_change_no_bit(
    multiply: Product, threads: int, flips: tuple[bool, bool]
) -> None:
    A, B = operands(141, 75, BLOCK + 78)
    whole = multiply(A, B, *flips)
    cuts = [141 * i // threads for i in range(threads + 1)]
    parts = [multiply(A, B, *flips, rows=slice(*cut)) for cut in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    cuts = [75 * i // threads for i in range(threads + 1)]
    parts = [multiply(A, B, *flips, columns=slice(*cut)) for cut in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_not_a_number_and_infinities_pass(multiply: Product) -> None:
    A, B = np.ones((20, 40), np.float32), np.ones((40, 35), np.float32)
    A[3, 39], A[17, 0], B[5, 34] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = A.astype(np.float64) @ B
    np.testing.assert_array_equal(multiply(A, B), expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for x86")
def test_machine_code_for_a_processor_with_tiles() -> None:
    """Numba compiles the whole product for one, in a process that never runs it."""
    features = "+amx-tile,+amx-bf16,+avx512f,+avx512bf16,+avx512vl,+avx512bw,+avx512dq,+avx2,+fma"
    environment = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": features}
    path = os.pathsep.join(p for p in sys.path if p)
    text = subprocess.run(
        [sys.executable, "-c", _PRINT_MACHINE_CODE],
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    used = re.findall(r"^\s*(t\w*tile\w*|tile\w+|ldtilecfg|tdp\w+)\s*(.*)$", text, re.MULTILINE)
    names = {name for name, _ in used}
    assert names == {
        "ldtilecfg", "tilezero", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease",
    }  # fmt: skip
    # Sums stay in tiles 0 to 3 from zero to store, and no other tile is ever stored: no spills.
    for name, given in used:
        tiles = [int(number) for number in re.findall(r"%tmm(\d)", given)]
        if name in ("tilezero", "tilestored"):
            assert max(tiles) < 4
        elif name == "tileloadd":
            assert min(tiles) >= 4
        elif name == "tdpbf16ps":  # as AT&T write it: B, A, sums
            b, a, sums = tiles
            assert (b, a, sums) in {(6 + j, 4 + i, 2 * i + j) for i in (0, 1) for j in (0, 1)}
    # In the loop over a block of four tiles, a load for every product: each is used twice.
    loops = re.split(r"^\.L\w+:", text, flags=re.MULTILINE)
    of_four = [block for block in loops if "%tmm5, %tmm3" in block]
    assert of_four
    for block in of_four:
        assert block.count("tileloadd") == block.count("tdpbf16ps")


_PRINT_MACHINE_CODE = """
from tests.backends.test_amx import compiled
print(compiled()._library.get_asm_str())
"""


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[str]], None]:
    """Puts another processor's features in place, under a Linux that refuses what it is asked."""

    def pretend(features: set[str]) -> None:
        refusing = SimpleNamespace(
            CDLL=lambda *_, **__: SimpleNamespace(syscall=lambda *_: -1),
            c_long=ctypes.c_long,
            get_errno=lambda: errno.EOPNOTSUPP,
        )
        monkeypatch.setattr(pairs, "FEATURES", features)
        monkeypatch.setattr(pairs, "amx_refusal", pairs.amx_refusal.__wrapped__)
        monkeypatch.setattr(pairs, "ctypes", refusing)
        monkeypatch.setattr(pairs, "sys", SimpleNamespace(platform="linux"))

    return pretend


AMX = {"amx-tile", "amx-bf16", "avx512f"}


def test_without_permission_the_vector_instructions_are_used(asked_anew: Any) -> None:
    asked_anew({*AMX, "avx512bf16"})
    assert pairs.pairs_type() == np.int32


def test_no_instructions_at_all(asked_anew: Any) -> None:
    asked_anew({"avx512f"})
    with pytest.raises(BackendUnavailable, match=r"has no AVX512-BF16, and no AMX-BF16; use"):
        NumbaBackend("bfloat16")


def test_refused_permission_is_told(asked_anew: Any) -> None:
    asked_anew(AMX)
    with pytest.raises(
        BackendUnavailable, match=r"AVX512-BF16, and Linux gives no permission.*supported"
    ):
        NumbaBackend("bfloat16")
