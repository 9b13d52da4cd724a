"""What is queued on a device, as data: launches of our kernels, and products of a library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mlp_kernels.cuda.compile import Kernel


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: what is launched.
        grid, block: blocks, and threads in each.
        arguments: device arrays (their address is passed), NumPy scalars of the parameter's very
            type, or None for a null pointer.
        shared: bytes of dynamic shared memory.
        cooperative: whether all blocks run at once, so that they may wait for each other.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]
    shared: int = 0
    cooperative: bool = False


@dataclass(frozen=True)
class LibraryProduct:
    """One call of a library: out = left right, either of them transposed.

    Attributes:
        left, right: matrices of one number type, row by row.
        out: a matrix, row by row, of the operands' number type or of that of their sums.
        transposed: whether left and right are.
        tf32: whether float32 operands are rounded to tf32; else products are exact.
    """

    left: Any
    right: Any
    out: Any
    transposed: tuple[bool, bool] = (False, False)
    tf32: bool = False

    def __post_init__(self) -> None:
        _ = self.sizes

    @property
    def kernel(self) -> Kernel:
        """What it is called in messages."""
        return Kernel("cublasLt", "product of cublasLt")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(rows, columns, depth) of the product; ValueError where the shapes do not fit."""
        turned = zip((self.left, self.right), self.transposed, strict=True)
        (rows, depth), (same, columns) = (
            tuple(each.shape)[:: -1 if turn else 1] for each, turn in turned
        )
        if depth != same or tuple(self.out.shape) != (rows, columns):
            shapes = (tuple(each.shape) for each in (self.left, self.right, self.out))
            raise ValueError("{} and {} cannot be multiplied into {}".format(*shapes))
        return rows, columns, depth


# What a list of work is made of.
Work = Launch | LibraryProduct


class Room(Protocol):
    """Device memory for what one launch leaves to its last block; launches run one at a time."""

    def numbers(self, count: int, dtype: Any) -> Any:
        """At least `count` numbers, contents undefined."""

    def tickets(self, count: int) -> Any:
        """At least `count` uint32, all 0; who counts with them leaves them 0."""
