"""Chains of narrow layers: what they are, and how much of one fits in a block's shared memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mlp_kernels.cuda.activations import activation_struct
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device
from mlp_kernels.cuda.types import number_type

WIDEST = 128
# Sums of a unit of narrow_unit.cuh: 32 inputs by 16 outputs.
UNIT_ROWS, UNIT_COLUMNS = 32, 16
WARPS = (8, 4)  # of a block: the first with which its shared memory fits


@dataclass(frozen=True)
class NarrowLayer:
    """A layer of a chain, and where its arrays begin.

    Attributes:
        inputs, outputs: of its weights (I, O).
        activation: its own, any that works element by element.
        W, b: among the parameters.
        dropout: of its output.
        x: its inputs (B, I) on the tape.
        a: its output (B, O) on the tape; None if that is not kept.
        saved: what its derivative needs (B, O): `a`, or a place apart; None if it is not kept.
        delta: its delta (B, O) on the tape; None if it is not written.
    """

    inputs: int
    outputs: int
    activation: str
    W: int
    b: int
    dropout: DropoutNumbers | None = None
    x: int | None = None
    a: int | None = None
    saved: int | None = None
    delta: int | None = None


@dataclass(frozen=True)
class Variant:
    """How the kernels of a chain are compiled, and what they need.

    Attributes:
        dtype: of weights, activations and deltas.
        tensor: on tensor cores.
        width: 64 or 128.
    """

    dtype: np.dtype[Any]
    tensor: bool
    width: int

    @classmethod
    def of(cls, device: Device, dtype: Any, layers: Iterable[NarrowLayer]) -> Variant:
        widest = max(max(layer.inputs, layer.outputs) for layer in layers)
        return cls(np.dtype(dtype), device.has_tensor_cores_for(dtype), 64 if widest <= 64 else 128)

    def macros(self, activations: Iterable[str]) -> dict[str, str | int]:
        """What narrow.cuh reads."""
        names = ", ".join(map(activation_struct, activations))
        return {
            "NUMBER": number_type(self.dtype), "TENSOR": int(self.tensor), "WIDTH": self.width,
            "ACTIVATIONS": names,
        }  # fmt: skip

    @property
    def forward_rows(self) -> int:
        """Rows of a warp in narrow_forward.cu."""
        return 32 if self.width == 64 else 16

    def rows_bytes(self, rows: int, *, back: bool) -> int:
        """Of so many rows of activations in shared memory: narrow.cuh's STRIDE."""
        return rows * self._line(self.tensor and back) * self.dtype.itemsize

    def slot(self, layer: NarrowLayer, *, back: bool) -> int:
        """Numbers of a layer's weights in shared memory: narrow.cuh's WEIGHTS."""
        return padded(layer.inputs) * self._line(self.tensor and not back)

    def _line(self, depth_is_row: bool) -> int:
        """Numbers from one row to the next."""
        return self.width + (8 if self.dtype.itemsize == 2 or depth_is_row else 4)


@dataclass(frozen=True)
class ForwardPlan:
    """How narrow_forward.cu runs a chain.

    Attributes:
        warps: of a block.
        resident: whether the weights of all layers are in shared memory at once.
        shared: bytes of it.
    """

    warps: int
    resident: bool
    shared: int

    @classmethod
    def of(cls, device: Device, dtype: Any, layers: Sequence[NarrowLayer]) -> ForwardPlan | None:
        """None where not even the weights of one layer fit beside the rows of a block."""
        variant = Variant.of(device, dtype, layers)
        slots = [variant.slot(layer, back=False) * variant.dtype.itemsize for layer in layers]
        for weights, resident in ((sum(slots), True), (max(slots), False)):
            for warps in WARPS:
                shared = variant.rows_bytes(warps * variant.forward_rows, back=False) + weights
                if shared <= device.shared:
                    return cls(warps, resident, shared)
        return None


@dataclass(frozen=True)
class DeltaPlan:
    """How narrow_delta.cu runs the way back through some layers of a chain.

    Attributes:
        start, stop: these layers of the chain.
        warps: of a block.
        accumulate: whether it sums the weights' gradients, too.
        shared: bytes of shared memory.
    """

    start: int
    stop: int
    warps: int
    accumulate: bool
    shared: int


def plan_deltas(
    device: Device,
    dtype: Any,
    layers: Sequence[NarrowLayer],
    below: bool,
    accumulating: Sequence[bool] = (True, False),
    warps_of: Sequence[int] = WARPS,
) -> list[DeltaPlan] | None:
    """The way back in as few launches as shared memory allows, from the last layer on.

    Gradients are summed on the way where this takes two layers at least to a launch (or all that
    are left); else deltas are written, and gradients are products of their own. None where not even
    two layers can be done at once.

    Args:
        below: whether there is a layer before the first, whose delta is to be written.
        accumulating, warps_of: what is tried, in this order.
    """
    plans: list[DeltaPlan] = []
    stop = len(layers)
    while stop:
        found = None
        for accumulate, warps in product(accumulating, warps_of):
            count, shared = _most_layers(
                device, Variant.of(device, dtype, layers), layers[:stop], below, accumulate, warps
            )
            if count >= min(2, stop):
                found = DeltaPlan(stop - count, stop, warps, accumulate, shared)
                break
        if found is None:
            return None
        plans.append(found)
        stop = found.start
    return plans


def _most_layers(
    device: Device,
    variant: Variant,
    layers: Sequence[NarrowLayer],
    below: bool,
    accumulate: bool,
    warps: int,
) -> tuple[int, int]:
    """How many of the last layers fit, and the bytes of shared memory that they take."""
    fitting = 0, 0
    for count in range(1, len(layers) + 1):
        taken = layers[-count:]
        shared = delta_shared(variant, taken, below or count < len(layers), accumulate, warps)
        if shared <= device.shared:
            fitting = count, shared
    return fitting


def delta_shared(
    variant: Variant, layers: Sequence[NarrowLayer], below: bool, accumulate: bool, warps: int
) -> int:
    """Bytes that narrow_delta.cu has in shared memory."""
    slots = sum(variant.slot(layer, back=True) for layer in (layers if below else layers[1:]))
    sums = sum(map(unit_sums, layers)) if accumulate else 0
    return (
        4 * (sums + warps * bias_sums(layers))
        + 2 * variant.rows_bytes(warps * 16, back=True)
        + slots * variant.dtype.itemsize
    )


def padded(width: int) -> int:
    return math.ceil(width / 16) * 16


def unit_sums(layer: NarrowLayer) -> int:
    """Numbers that a block keeps of a layer's dW."""
    down, across = math.ceil(layer.inputs / UNIT_ROWS), math.ceil(layer.outputs / UNIT_COLUMNS)
    return down * across * UNIT_ROWS * UNIT_COLUMNS


def bias_sums(layers: Sequence[NarrowLayer]) -> int:
    """Numbers that each warp keeps of db: of the last layer, and of those below each."""
    return padded(layers[-1].outputs) + sum(padded(layer.inputs) for layer in layers)


def can_chain(device: Device, dtype: Any) -> bool:
    """Whether chains of such numbers can be run: not float64, nor 16 bits without tensor cores."""
    name = number_type(dtype)
    return name == "float" or (name != "double" and device.has_tensor_cores_for(dtype))
