"""The three products of a layer: by which tile, or by the library, as `Choices` has it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.cuda.choices import Choices
from mlp.backends.protocol import Array, HostArray
from mlp.errors import DeviceOutOfMemory
from mlp_kernels.cuda import library, products
from mlp_kernels.cuda.launch import LibraryProduct, Room, Work
from mlp_kernels.cuda.tiles import (
    Device,
    Tile,
    choose_shares,
    choose_tile,
    copy_bytes,
    tiles_for,
)
from mlp_kernels.cuda.tune import ProductKey
from mlp_kernels.cuda.types import number_type

if TYPE_CHECKING:
    from mlp.backends.cuda.device import CudaDevice, Graph

LIBRARY = "cublasLt"  # a candidate's name; the others are those of tiles
MOST_TILES = 4  # that are measured for one product, the rule of thumb among them

# A measurement makes a product so often that this many multiply-adds are done in one graph, since a
# short kernel takes less than the host needs to queue it, and at most so many times.
WORK_OF_GRAPH, MOST_OF_GRAPH = 10**9, 20
# Of the free memory what scratch arrays may take, and the numbers that fill them over and over:
# zeros would let a device run faster than it does.
SHARE_OF_SCRATCH = 0.5
PATTERN = 1 << 20

Sizes = tuple[int, int, int]  # rows, columns, depth of a product

# Of the operands (left, right) of each operation.
SIZES: dict[str, Callable[[Array, Array], Sizes]] = {
    "linear_forward": lambda x, W: (x.shape[0], W.shape[1], x.shape[1]),
    "linear_delta": lambda delta, W: (delta.shape[0], W.shape[0], delta.shape[1]),
    "linear_grads": lambda x, delta: (x.shape[1], delta.shape[1], x.shape[0]),
}

# How a product is made of room, a tile (None: the rule of thumb; LIBRARY: the library) and arrays.
Make = Callable[..., list[Work]]


class Products:
    """Makes lists of work for the products of a layer.

    Args:
        on: the device.
        tiles: the same, as the choice of a tile goes by it.
        room: that launches use.
        new_room: makes room of its own for a measurement.
        choices: of the device.

    Attributes:
        device: `tiles`.
    """

    def __init__(
        self, on: CudaDevice, tiles: Device, room: Room, new_room: Callable[[], Room],
        choices: Choices,
    ) -> None:  # fmt: skip
        self._on, self.device, self._room = on, tiles, room
        self._new_room, self._choices = new_room, choices

    def linear_forward(
        self, x: Array, W: Array, b: Array, activation: str, a: Array, saved: Array | None,
        dropout: products.DropoutNumbers | None = None,
    ) -> list[Work]:  # fmt: skip
        """See `products.linear_forward`."""

        def make(room: Room, tile: Tile | str | None, *arrays: Any) -> list[Work]:
            x, W, b, a, saved = arrays
            given = (x, W, b, activation, a, saved, dropout)
            if isinstance(tile, str):
                return library.linear_forward(self.device, room, *given)
            return [products.linear_forward(self.device, *given, tile)]

        return self._made("linear_forward", x, W, make, (x, W, b, a, saved))

    def linear_delta(
        self, delta: Array, W: Array, saved: Array, activation: str, out: Array, db_prev: Array,
        dropout: products.DropoutNumbers | None = None,
    ) -> list[Work]:  # fmt: skip
        """See `products.linear_delta`."""

        def make(room: Room, tile: Tile | str | None, *arrays: Any) -> list[Work]:
            delta, W, saved, out, db_prev = arrays
            given = (delta, W, saved, activation, out, db_prev, dropout)
            if isinstance(tile, str):
                return library.linear_delta(self.device, room, *given)
            return [products.linear_delta(self.device, room, *given, tile)]

        return self._made("linear_delta", delta, W, make, (delta, W, saved, out, db_prev))

    def linear_grads(self, x: Array, delta: Array, dW: Array) -> list[Work]:
        """See `products.linear_grads`."""

        def make(room: Room, tile: Tile | str | None, *arrays: Any) -> list[Work]:
            x, delta, dW = arrays
            if isinstance(tile, str):
                return library.linear_grads(self.device, room, x, delta, dW)
            return [products.linear_grads(self.device, room, x, delta, dW, tile)]

        return self._made("linear_grads", x, delta, make, (x, delta, dW))

    def _made(
        self, operation: str, left: Array, right: Array, make: Make,
        arrays: tuple[Array | None, ...],
    ) -> list[Work]:  # fmt: skip
        """The product of two operands, as it was chosen to be made."""
        if left.ndim != 2 or right.ndim != 2:
            return make(self._room, None, *arrays)  # which raises
        sizes, dtype, copy = SIZES[operation](left, right), left.dtype, copy_bytes(left, right)
        tiles = ranked_tiles(self.device, operation, sizes, dtype, copy)
        key = str(ProductKey.of(operation, sizes, numbers_of(dtype, self.device), copy))
        trials = functools.partial(self._trials, make, arrays, tiles, sizes)
        measured = trials if self._on.recording else None
        names = (*tiles, LIBRARY)
        chosen = self._choices.choose(key, names, measured, _repeats(sizes)).name
        if chosen == LIBRARY:
            work = self._by_library(make, arrays)
            if work is not None:
                return work
            # It is missing, or the entry is of another product of this class: the best of our own.
            chosen = self._choices.choose(key, tuple(tiles)).name
        return make(self._room, tiles[chosen], *arrays)

    def _by_library(self, make: Make, arrays: Sequence[Array | None]) -> list[Work] | None:
        """The product by the library; None where it cannot be had."""
        if self._on.library.reason is not None:
            return None
        work = make(self._room, LIBRARY, *arrays)
        refused = (self._on.library.why_not(w) for w in work if isinstance(w, LibraryProduct))
        return None if any(refused) else work

    def _trials(
        self, make: Make, arrays: Sequence[Array | None], tiles: dict[str, Tile], sizes: Sizes
    ) -> dict[str, Callable[[], None]]:
        """Functions for some candidates: each makes the product `_repeats` times, of new arrays."""
        names = [*itertools.islice(tiles, MOST_TILES)]
        if self._on.library.reason is None:
            names.append(LIBRARY)
        scratch = functools.cache(lambda: (self._new_room(), *self._scratch(arrays)))

        def trial(name: str) -> Callable[[], None]:
            @functools.cache
            def graph() -> Graph:
                room, *others = scratch()
                return self._on.graph(make(room, tiles.get(name, LIBRARY), *others) * count)

            return lambda: graph()()

        count = _repeats(sizes)
        return {name: trial(name) for name in names}

    def _scratch(self, arrays: Sequence[Array | None]) -> list[Array | None]:
        """New arrays of the same shapes and types, full of random numbers; one for each.

        Raises:
            DeviceOutOfMemory: they would take too much of what is free.
        """
        distinct = {id(array): array for array in arrays if array is not None}
        asked, free = sum(array.nbytes for array in distinct.values()), self._on.free_bytes
        if asked > SHARE_OF_SCRATCH * free:
            raise DeviceOutOfMemory(
                f"a measurement needs {asked} bytes of {free} that are free", asked, free
            )
        new = {key: self._on.empty(array.shape, array.dtype) for key, array in distinct.items()}
        for array in new.values():
            flat, numbers = array.reshape(-1), _pattern(array.dtype)
            for start in range(0, flat.size, PATTERN):
                part = flat[start : start + PATTERN]
                self._on.upload(numbers[: part.size], part)
        return [None if array is None else new[id(array)] for array in arrays]


@functools.lru_cache(maxsize=1024)
def ranked_tiles(
    device: Device, operation: str, sizes: Sizes, dtype: Any, copy: int
) -> dict[str, Tile]:
    """All tiles that a product can be divided into, by name: the rule of thumb's choice first.

    The others come in the order of their cost, as the same rule counts it.
    """
    rows, columns, depth = sizes
    tiles = tiles_for(device, dtype, copy)
    if operation == "linear_grads":
        first, _ = choose_shares(device, rows, columns, depth, tiles)
    else:
        first = choose_tile(device, rows, columns, dtype, copy)

    def cost(tile: Tile) -> int:
        return math.ceil(tile.blocks(rows, columns) / device.processors) * tile.cost

    return {tile.name: tile for tile in (first, *sorted(tiles, key=cost))}


def numbers_of(dtype: Any, device: Device) -> str:
    """What products of such operands are called in a key."""
    number = number_type(dtype)
    if number == "float":
        return "tf32" if device.tf32 else "float32"
    return {"double": "float64"}.get(number, number)


def _repeats(sizes: Sizes) -> int:
    """How often one graph of a measurement makes a product."""
    return max(1, min(WORK_OF_GRAPH // math.prod(sizes), MOST_OF_GRAPH))


@functools.cache
def _pattern(dtype: np.dtype[Any]) -> HostArray:
    """PATTERN random numbers."""
    normal = np.random.default_rng(0).standard_normal(PATTERN, np.float32)
    if dtype == np.uint16:  # bfloat16
        return (normal.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return normal.astype(dtype)
