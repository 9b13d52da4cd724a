"""The instructions of AMX-BF16 in NumPy, called by what the kernels emit in the real ones' place.

Written from the operations in Intel's Software Developer's Manual. What would raise a fault there
is noted here: shapes that do not fit, tiles used before they are configured or after their release.
Not done is the flushing of denormal numbers to 0, of which the tests have none.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np

PREFIX = "emulated."
TILES, ROWS, ROW_BYTES = 8, 16, 64

_TILE, _ADDRESS, _STRIDE = ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64
_OPERANDS: dict[str, tuple[Any, ...]] = {
    "ldtilecfg": (_ADDRESS,),
    "tilerelease": (),
    "tilezero": (_TILE,),
    "tileloadd64": (_TILE, _ADDRESS, _STRIDE),
    "tilestored64": (_TILE, _ADDRESS, _STRIDE),
    "tdpbf16ps": (_TILE, _TILE, _TILE),
}


class EmulatedTiles(threading.local):
    """The tiles of each thread, and their shapes; `rows` is None where none are configured."""

    def __init__(self) -> None:
        self.rows: np.ndarray | None = None
        self.row_bytes = np.zeros(TILES, int)
        self.data = np.zeros((TILES, ROWS, ROW_BYTES), np.uint8)

    def ldtilecfg(self, address: int) -> None:
        given = np.frombuffer(ctypes.string_at(address, 64), np.uint8)
        row_bytes, rows = given[16:32].view(np.uint16).astype(int), given[48:56].astype(int)
        assert given[0] == 1, "the palette is not 1"
        assert not given[1:16].any(), "a reserved byte is set, or the start row is not 0"
        assert not given[32:48].any(), "a reserved byte is set"
        assert not given[56:64].any(), "a reserved byte is set"
        assert (rows <= ROWS).all(), "a tile has too many rows"
        assert (row_bytes <= ROW_BYTES).all(), "a tile has too long rows"
        assert ((rows == 0) == (row_bytes == 0)).all(), "a tile has rows, or bytes, but not both"
        self.rows, self.row_bytes = rows, row_bytes
        self.data[:] = 0

    def tilerelease(self) -> None:
        self.rows = None
        self.data[:] = 0

    def tilezero(self, tile: int) -> None:
        self._shape(tile)
        self.data[tile] = 0

    def tileloadd64(self, tile: int, address: int, stride: int) -> None:
        rows, row_bytes = self._shape(tile)
        self.data[tile] = 0
        for r in range(rows):
            row = ctypes.string_at(address + r * stride, row_bytes)
            self.data[tile, r, :row_bytes] = np.frombuffer(row, np.uint8)

    def tilestored64(self, tile: int, address: int, stride: int) -> None:
        rows, row_bytes = self._shape(tile)
        for r in range(rows):
            ctypes.memmove(address + r * stride, self.data[tile, r].tobytes(), row_bytes)

    def tdpbf16ps(self, sums: int, a: int, b: int) -> None:
        """Products of pairs are summed for the first and the second halves apart, then joined."""
        (m, n_bytes), (a_rows, k_bytes), (k, b_bytes) = map(self._shape, (sums, a, b))
        assert len({sums, a, b}) == 3, "a tile is named twice"
        assert a_rows == m, "A and the sums have different numbers of rows"
        assert b_bytes == n_bytes, "B and the sums have rows of different lengths"
        assert k_bytes == 4 * k, "A's rows are not as long as B is high"
        left, right = self._pairs(a)[:m, :k], self._pairs(b)[:k, : n_bytes // 4]
        halves = np.zeros((m, n_bytes // 4, 2), np.float32)
        total = self.data[sums].view(np.float32)[:m, : n_bytes // 4]
        with np.errstate(invalid="ignore", over="ignore"):
            for i in range(k):
                halves += left[:, None, i] * right[i]  # exact products: rounded as when fused
            total += halves[..., 0] + halves[..., 1]

    def _shape(self, tile: int) -> tuple[int, int]:
        assert self.rows is not None, "tiles are not configured"
        assert self.rows[tile], "this tile is not configured"
        return int(self.rows[tile]), int(self.row_bytes[tile])

    def _pairs(self, tile: int) -> np.ndarray:
        """A tile as float32 (16, 16, 2)."""
        bits = self.data[tile].view(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(ROWS, -1, 2)


STATE = EmulatedTiles()
FAULTS: list[str] = []


def _noting_faults(name: str) -> Callable[..., None]:
    """An exception cannot leave a function that compiled code calls."""

    def call(*operands: int) -> None:
        try:
            getattr(STATE, name)(*operands)
        except AssertionError as fault:
            FAULTS.append(f"{name}: {fault}")

    return call


_FUNCTIONS = {
    name: ctypes.CFUNCTYPE(None, *operands)(_noting_faults(name))
    for name, operands in _OPERANDS.items()
}
for _name, _function in _FUNCTIONS.items():
    llvm.add_symbol(PREFIX + _name, ctypes.cast(_function, ctypes.c_void_p).value)
