"""The kernels that a backend can launch: every value of every macro, and what is heaviest.

Not the product of all values, which would be thousands. A product has every tile with its heaviest
epilogue, and every activation on its largest tile; other values vary one at a time around a typical
case. All come from the functions that build launches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.compile import TENSOR_CORES, Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.products import (
    DropoutNumbers,
    linear_delta,
    linear_forward,
    linear_grads,
)
from mlp_kernels.cuda.tiles import Device, Tile, tiles_for
from tests.nvrtc.arrays import BFLOAT16, COUNTERS, FLOAT16, FLOAT32, FLOAT64, ROOM, array
from tests.nvrtc.elements import element_launches
from tests.nvrtc.library import all_epilogues, heaviest_epilogues
from tests.nvrtc.narrow import heaviest_narrow_launches, narrow_launches
from tests.nvrtc.tiny import heaviest_tiny_launches, tiny_launches

DROPOUT = DropoutNumbers(2**31, 2.0, 0, COUNTERS)
# As much shared memory as any tile takes, to have all tiles.
NEW, OLD = (Device(capability, 132, shared=227 * 1024) for capability in ((9, 0), (7, 5)))
TF32 = Device((9, 0), 132, tf32=True, shared=227 * 1024)
# Number types, and devices that multiply them without tensor cores and with.
PLAIN = ((FLOAT64, NEW), (FLOAT32, NEW), (BFLOAT16, OLD), (FLOAT16, OLD))
TENSOR = ((FLOAT32, TF32), (BFLOAT16, NEW), (FLOAT16, NEW))
SIDE = 4096
# KiB that a block can have on a device of each target; on others of its major number, less.
SHARED = {70: 96, 75: 64, 80: 163, 90: 227, 100: 227, 120: 99}


@dataclass(frozen=True)
class Operands:
    """Square operands of products of one number type on one device, and the tile that is used."""

    dtype: Any
    device: Device
    tile: Tile

    def forward(
        self, activation: str, saved: bool = True, dropout: bool = True, result: Any = None
    ) -> Launch:
        x, b, a = self._square(), array(self.sums, SIDE), self._square(result)
        apart = self._square(result) if saved else None
        drop = DROPOUT if dropout else None
        return linear_forward(self.device, x, x, b, activation, a, apart, drop, self.tile)

    def delta(self, activation: str, dropout: bool = True) -> Launch:
        x, db = self._square(), array(self.sums, SIDE)
        drop = DROPOUT if dropout else None
        return linear_delta(self.device, ROOM, x, x, x, activation, x, db, drop, self.tile)

    def grads(self) -> Launch:
        x = self._square()
        return linear_grads(self.device, ROOM, x, x, self._square(self.sums), self.tile)

    def heaviest(self) -> tuple[Launch, Launch, Launch]:
        """The three products with the epilogue that takes most registers."""
        return self.forward("gelu"), self.delta("gelu"), self.grads()

    @property
    def sums(self) -> Any:
        return FLOAT64 if self.dtype == FLOAT64 else FLOAT32

    def _square(self, dtype: Any = None) -> Any:
        return array(dtype or self.dtype, SIDE, SIDE)


def every_tile() -> Iterator[Operands]:
    """Operands for each tile of bfloat16 and of float32.

    Fewer bytes that are copied at a time are tried on the square tiles alone.
    """
    for dtype, device in PLAIN:
        yield from (Operands(dtype, device, tile) for tile in tiles_for(device, dtype, 16))
    for (dtype, device), copies in ((TENSOR[0], (4,)), (TENSOR[1], (4, 2))):
        yield from (Operands(dtype, device, tile) for tile in tiles_for(device, dtype, 16))
        for copy in copies:
            for tile in one_of_each_size(tiles_for(device, dtype, copy)):
                if tile.rows == tile.columns:
                    yield Operands(dtype, device, tile)
    yield from _of_warpgroups(BFLOAT16)


def tiles_of_float16() -> Iterator[Operands]:
    """What differs from bfloat16 in one instruction."""
    dtype, device = TENSOR[2]
    for tile in one_of_each_size(tiles_for(device, dtype, 16)):
        yield Operands(dtype, device, tile)
    yield from _of_warpgroups(FLOAT16)


def _of_warpgroups(dtype: Any) -> Iterator[Operands]:
    hopper = replace(NEW, warpgroups=True)
    for tile in tiles_for(hopper, dtype, 16):
        if tile.warpgroups:
            yield Operands(dtype, hopper, tile)


def one_of_each_size(tiles: Iterable[Tile]) -> list[Tile]:
    """The first tile of each size."""
    found: dict[tuple[int, int], Tile] = {}
    for tile in tiles:
        found.setdefault((tile.rows, tile.columns), tile)
    return list(found.values())


def epilogues() -> Iterator[Launch]:
    """Every activation on the largest tile of a type, and other values one at a time."""
    for (dtype, device), activation in product(PLAIN[:2] + TENSOR[:2], ELEMENTWISE):
        largest = Operands(dtype, device, tiles_for(device, dtype, 16)[0])
        yield largest.forward(activation, dropout=False)
        yield largest.delta(activation, dropout=False)
    for dtype, device in PLAIN + TENSOR:
        small = Operands(dtype, device, tiles_for(device, dtype, 16)[-1])
        yield small.forward("relu", saved=False, dropout=False)
        yield small.forward("relu", saved=True, dropout=False)
        yield small.forward("relu", saved=False, dropout=True)
        yield small.forward("identity", saved=False, dropout=False, result=small.sums)
        yield small.delta("relu", dropout=False)


def heaviest() -> dict[Kernel, Launch]:
    """Every tile with its heaviest epilogue, other heavy kernels, and two of each light one."""
    products = (operands.heaviest() for operands in every_tile())
    return _by_kernel(
        _two_of_each(element_launches()), heaviest_epilogues(), heaviest_tiny_launches(),
        heaviest_narrow_launches(), *products,
    )  # fmt: skip


def everything() -> dict[Kernel, Launch]:
    """All of them, each kernel once."""
    of_float16 = chain(*(operands.heaviest() for operands in tiles_of_float16()))
    others = (
        element_launches(), epilogues(), of_float16, all_epilogues(), tiny_launches(),
        narrow_launches(),
    )  # fmt: skip
    return heaviest() | _by_kernel(*others)


def _two_of_each(launches: Iterable[Launch]) -> Iterator[Launch]:
    """The first and the last launch of each function."""
    of_function: dict[str, list[Launch]] = {}
    for launch in launches:
        of_function.setdefault(launch.kernel.name, []).append(launch)
    for found in of_function.values():
        yield from (found[0], found[-1])


def _by_kernel(*launches: Iterable[Launch]) -> dict[Kernel, Launch]:
    return {launch.kernel: launch for launch in chain(*launches)}


def runs_on(kernel: Kernel, target: int) -> bool:
    """Whether a device of compute capability target / 10 may be asked to run a kernel."""
    macros = dict(kernel.macros)
    if "TENSOR" not in macros:
        return True
    if int(macros.get("SHARED", 0)) > SHARED[target] * 1024:
        return False
    if kernel.of_one_architecture:
        return target == 90
    tensor_cores = divmod(target, 10) >= TENSOR_CORES
    if macros["NUMBER"] in ("bfloat16", "float16"):
        return tensor_cores == bool(macros["TENSOR"])
    return tensor_cores or not macros["TENSOR"]
