"""Launches for networks of narrow layers: all of them forward in one kernel, and back in another.

Where arrays lie is told in elements from the beginning of a few buffers: the weights that products
read; the parameters, whose layout the weights and the gradients share; and the tape, which holds
what is kept of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.narrow_plan import (
    WARPS,
    DeltaPlan,
    ForwardPlan,
    NarrowLayer,
    Variant,
    bias_sums,
    delta_shared,
    padded,
    unit_sums,
)
from mlp_kernels.cuda.tiles import Device
from mlp_kernels.cuda.types import BLOCK, blocks_for, check_dtype, check_shape, number_type

ROWS_OF_WARP = 16  # on the way back
WARPS_AT_ONCE = 8  # on each multiprocessor: their registers are nearly all that it has
# In every kernel, so that most networks have one in common.
ALWAYS = ("identity", "relu")

HostArray = np.ndarray[Any, np.dtype[np.int64]]
# What puts a table of integers where the kernels can read it.
Upload = Callable[[HostArray], Any]

# struct Layer of narrow.cuh.
FIELDS = (
    "inputs", "outputs", "activation", "threshold", "number", "scale", "weights", "slot", "bias",
    "x", "a", "saved", "delta", "sums",
)  # fmt: skip


def narrow_forward(
    device: Device,
    upload: Upload,
    x: Any,
    weights: Any,
    parameters: Any,
    layers: Sequence[NarrowLayer],
    tape: Any | None,
    output: Any | None,
    plan: ForwardPlan | None = None,
) -> Launch:
    """Rows x (B, I) through all layers.

    Args:
        weights: buffer of the number type of products; each W (I, O) begins at `layer.W`.
        parameters: buffer of float32; each b (O,) begins at `layer.b`.
        tape: buffer of the weights' number type, which receives `a` and `saved` of each layer,
            where they have a place; None where none has.
        output: (B, O), receives what the last layer puts out in place of the tape; or None.
    """
    plan = plan or ForwardPlan.of(device, weights.dtype, layers)
    if plan is None:
        raise ValueError("the weights of a layer do not fit in the device's shared memory")
    variant, B = Variant.of(device, weights.dtype, layers), len(x)
    check_shape("x", x, B, layers[0].inputs)
    check_dtype("x", x, weights.dtype, np.float32)
    check_dtype("parameters", parameters, np.float32)
    if output is not None:
        check_shape("output", output, B, layers[-1].outputs)
        check_dtype("output", output, weights.dtype, np.float32)
    names = _activations(layers)
    table, slot = [], 0
    for layer in layers:
        table.append(_row(
            names, layer, layer, slot=slot if plan.resident else 0, bias=layer.b, a=layer.a,
            saved=None if layer.saved == layer.a else layer.saved,
        ))  # fmt: skip
        slot += variant.slot(layer, back=False)
    result = weights.dtype if output is None else output.dtype
    kernel = Kernel.of(
        "narrow_forward.cu", "narrow_forward", INPUT=number_type(x.dtype),
        RESULT=number_type(result), **variant.macros(names),
    )  # fmt: skip
    tiles = math.ceil(B / variant.forward_rows)
    return Launch(
        kernel, (min(tiles, _at_once(device, plan)), 1, 1), (32 * plan.warps, 1, 1),
        (x, weights, parameters, tape, output, upload(np.array(table)),
         *map(np.int32, (len(layers), B, plan.resident)), _counters(layers)),
        plan.shared,
    )  # fmt: skip


def narrow_delta(
    device: Device,
    room: Room,
    upload: Upload,
    delta: Any,
    weights: Any,
    layers: Sequence[NarrowLayer],
    below: NarrowLayer | None,
    last_bias: bool,
    tape: Any,
    gradients: Any,
    plan: DeltaPlan,
) -> list[Launch]:
    """From delta (B, O) of the last layer to that of `below`, the layer before the first.

    What is written: each `layer.delta` but the last layer's; db of `below`, of all layers but the
    last, and of that one, too, where `last_bias`; dW of all layers where the plan accumulates. No
    launch where that is nothing.

    Args:
        layers: those of the plan.
        tape: buffer of the weights' number type.
        gradients: buffer of float32, in the layout of the parameters.
    """
    variant, B = Variant.of(device, weights.dtype, layers), len(delta)
    if math.ceil(B / (ROWS_OF_WARP * WARPS[-1])) <= device.processors:
        # Smaller blocks, so that few rows occupy more multiprocessors.
        shared = delta_shared(variant, layers, below is not None, plan.accumulate, WARPS[-1])
        plan = replace(plan, warps=WARPS[-1], shared=shared)
    check_shape("delta", delta, B, layers[-1].outputs)
    for name, array in (("delta", delta), ("tape", tape)):
        check_dtype(name, array, weights.dtype)
    check_dtype("gradients", gradients, np.float32)
    lower = [below, *layers[:-1]]
    names = _activations(layer for layer in lower if layer is not None)
    sums = sum(map(unit_sums, layers)) if plan.accumulate else 0
    size = sums + bias_sums(layers)
    table, parts, slot, unit = [], [], 0, 0
    bias = padded(layers[-1].outputs)  # after those of the last layer
    if last_bias:
        parts.append((sums, layers[-1].outputs, 0, layers[-1].outputs, layers[-1].b))
    for layer, under in zip(reversed(layers), reversed(lower), strict=True):
        table.append(_row(
            names, layer, under, slot=slot, bias=bias, x=layer.x,
            saved=under.saved if under else None, delta=under.delta if under else None, sums=unit,
        ))  # fmt: skip
        if plan.accumulate:
            parts.append((unit, unit_sums(layer), layer.inputs, layer.outputs, layer.W))
            unit += unit_sums(layer)
        if under is not None:
            parts.append((sums + bias, layer.inputs, 0, layer.inputs, under.b))
            slot += variant.slot(layer, back=True)
        bias += padded(layer.inputs)
    if not parts:
        return []
    kernel = Kernel.of("narrow_delta.cu", "narrow_delta", **variant.macros(names))
    blocks = min(math.ceil(B / (ROWS_OF_WARP * plan.warps)), _at_once(device, plan))
    partial = room.numbers(blocks * size, np.float32)
    of_rows = Launch(
        kernel, (blocks, 1, 1), (32 * plan.warps, 1, 1),
        (delta, weights, tape, partial, upload(np.array(table)),
         *map(np.int32, (len(layers), B, plan.accumulate, size, size - sums,
                         0 if last_bias else -1)),
         _counters([layer for layer in lower if layer is not None])),
        plan.shared,
    )  # fmt: skip
    most = max(count for _, count, *_ in parts)
    added_up = Launch(
        Kernel.of("narrow_grads.cu", "narrow_grads", FRAGMENTS=int(variant.tensor)),
        (blocks_for(most, most=most), len(parts), 1), (BLOCK, 1, 1),
        (partial, gradients, upload(np.array(parts, np.int64)), np.int32(blocks), np.int32(size)),
    )  # fmt: skip
    return [of_rows, added_up]


def _row(
    names: Sequence[str], layer: NarrowLayer, acting: NarrowLayer | None, **places: int | None
) -> HostArray:
    """A line of the kernels' table; activation and dropout are those of the `acting` layer."""
    dropout = acting.dropout if acting else None
    known: dict[str, int | None] = {
        "inputs": layer.inputs, "outputs": layer.outputs, "weights": layer.W,
        "activation": names.index(acting.activation) if acting else 0,
        "threshold": dropout.threshold if dropout else 0,
        "number": dropout.layer if dropout else 0,
        "scale": int(np.float64(dropout.scale if dropout else 1).view(np.int64)),
    }  # fmt: skip
    known |= places
    values = [known.get(field) for field in FIELDS]
    return np.array([-1 if value is None else value for value in values], np.int64)


def _activations(layers: Iterable[NarrowLayer]) -> tuple[str, ...]:
    """Those that a kernel is compiled for, in one order."""
    used = {*ALWAYS, *(layer.activation for layer in layers)}
    return tuple(sorted(used, key=ELEMENTWISE.index))


def _counters(layers: Sequence[NarrowLayer]) -> Any | None:
    """What dropout draws by, the same for all layers; None where none drops."""
    for layer in layers:
        if layer.dropout is not None:
            check_dtype("counters", layer.dropout.counters, np.int64)
            return layer.dropout.counters
    return None


def _at_once(device: Device, plan: ForwardPlan | DeltaPlan) -> int:
    """Blocks that run at once."""
    of_one = min(WARPS_AT_ONCE // plan.warps, device.shared // max(plan.shared, 1))
    return device.processors * max(1, of_one)
