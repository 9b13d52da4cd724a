"""A kernel launch as data: what runs, on how many threads, with which arguments."""

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
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]
    shared: int = 0


class Room(Protocol):
    """Device memory for what one launch leaves to its last block; launches run one at a time."""

    def numbers(self, count: int, dtype: Any) -> Any:
        """At least `count` numbers, contents undefined."""

    def tickets(self, count: int) -> Any:
        """At least `count` uint32, all 0; who counts with them leaves them 0."""
