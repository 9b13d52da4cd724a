"""Launches of the kernels for narrow networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.narrow import narrow_delta, narrow_forward
from mlp_kernels.cuda.narrow_plan import NarrowLayer, plan_deltas
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device
from tests.nvrtc.arrays import BFLOAT16, COUNTERS, FLOAT16, FLOAT32, ROOM, array

ROWS, BUFFER = 4096, array(FLOAT32, 1 << 20)
DROPOUT = DropoutNumbers(2**31, 2.0, 0, COUNTERS)


def _device(tf32: bool = False) -> Device:
    return Device((9, 0), 132, tf32=tf32, shared=227 * 1024)


@dataclass(frozen=True)
class Kind:
    """Numbers, how they are multiplied, and the width that a kernel is compiled for."""

    dtype: Any
    device: Device
    width: int

    def launches(
        self, activations: Sequence[str], given: Any = None, result: Any = None
    ) -> list[Launch]:
        """A chain of these activations forward, and back.

        Shared memory is left out: it depends on the chain, and tests/cuda_host/test_narrow.py holds
        that plans keep to what a device has.
        """
        layers = [
            NarrowLayer(self.width if i == 0 else 16, 16, name, 0, 0, DROPOUT, 0, 0, 1, 0)
            for i, name in enumerate(activations)
        ]
        weights, rows = array(self.dtype, 1 << 20), array(given or self.dtype, ROWS, self.width)
        output = None if result is None else array(result, ROWS, 16)
        forward = narrow_forward(
            self.device, lambda table: table, rows, weights, BUFFER, layers, weights, output
        )
        (plan,) = plan_deltas(self.device, self.dtype, layers, below=False)
        deltas = narrow_delta(
            self.device, ROOM, lambda table: table, array(self.dtype, ROWS, 16), weights, layers,
            None, True, weights, BUFFER, plan,
        )  # fmt: skip
        return [replace(launch, shared=0) for launch in (forward, *deltas)]


WIDTHS = (64, 128)
KINDS = tuple(
    Kind(dtype, device, width)
    for dtype, device in ((FLOAT32, _device()), (FLOAT32, _device(True)), (BFLOAT16, _device()))
    for width in WIDTHS
)


def heaviest_narrow_launches() -> Iterator[Launch]:
    """Each kind with an activation that saves z, dropout and gradients; float16 is as bfloat16."""
    for kind in KINDS:
        yield from kind.launches(["gelu", "gelu"])


def narrow_launches() -> Iterator[Launch]:
    """All activations at once, float16, and other types of what comes in and goes out."""
    for kind in (KINDS[0], KINDS[-1]):
        yield from kind.launches([*ELEMENTWISE, "identity"])
    for dtype in (BFLOAT16, FLOAT16):
        kind = Kind(dtype, _device(), 64)
        yield from kind.launches(["relu", "relu"], result=FLOAT32)
        yield from kind.launches(["relu", "relu"], FLOAT32, FLOAT32)
