"""Launches of the loss and its gradient: losses.cu, weights.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.types import (
    BLOCK,
    blocks_for,
    check_dtype,
    check_shape,
    number_type,
    row_lanes,
)

# The forms of mlp.losses; labels are targets of the first two only.
CLASS_FORMS = ("softmax_cross_entropy", "cross_entropy")
FORMS = (
    *CLASS_FORMS, "sigmoid_cross_entropy", "binary_cross_entropy", "half_squared_error", "mse",
    "mae", "huber", "poisson",
)  # fmt: skip

# Blocks of a loss: the last of them adds up what all have left.
MOST_BLOCKS = 1024


def form_struct(form: str) -> str:
    """The struct of losses.cuh for a form: SoftmaxCrossEntropy for softmax_cross_entropy."""
    if form not in FORMS:
        raise ValueError(f"'{form}' is no form of a loss")
    return "".join(word.capitalize() for word in form.split("_"))


def loss(
    form: str,
    output: Any,
    target: Any,
    weight: Any | None,
    parameter: float,
    delta: Any,
    totals: Any,
    room: Room,
    scaling: Any | None = None,
) -> list[Launch]:
    """Delta = w_i dL_i/d output_i / sum(w), 0 where sum(w) is 0; totals += sum(w_i L_i), sum(w).

    output (B, O) and weight (B,) are float32 or float64; target is of the same, (B, O), or labels
    (B,) int64 in 0..O-1; delta (B, O) of any number type. With scaling (2,) float64, delta is also
    times scaling[LOSS_SCALE]. One launch; with weights two, the first of which sums them.
    """
    rows, width = output.shape
    labels = target.ndim == 1 and form in CLASS_FORMS
    _check(output, target, weight, delta, totals, scaling, labels)
    lanes = row_lanes(width)
    blocks = blocks_for(rows * lanes, most=MOST_BLOCKS)
    of_weights = blocks_for(rows, most=MOST_BLOCKS)
    left = room.numbers(1 + max(blocks, of_weights), np.float64)  # by the first for the second, too
    ticket = room.tickets(1)
    macros: dict[str, str | int] = {
        "FORM": form_struct(form), "ROW_LANES": lanes, "OUTPUT": number_type(output.dtype),
        "DELTA": number_type(delta.dtype), "LABELS": int(labels),
        "WEIGHTED": int(weight is not None), "SCALED": int(scaling is not None),
    }  # fmt: skip
    main = Launch(
        Kernel.of("losses.cu", "loss", **macros), (blocks, 1, 1), (BLOCK, 1, 1),
        (output, target, weight, np.float64(parameter), scaling, delta, totals, np.int64(rows),
         np.int64(width), left, ticket),
    )  # fmt: skip
    if weight is None:
        return [main]
    before = Launch(
        Kernel.of("weights.cu", "total_weight", NUMBER=number_type(weight.dtype)),
        (of_weights, 1, 1), (BLOCK, 1, 1),
        (weight, np.int64(rows), left, ticket),
    )  # fmt: skip
    return [before, main]


def _check(
    output: Any, target: Any, weight: Any, delta: Any, totals: Any, scaling: Any, labels: bool
) -> None:
    rows, width = output.shape
    check_dtype("output", output, np.float32, np.float64)
    check_shape("target", target, *((rows,) if labels else (rows, width)))
    check_dtype("target", target, np.int64 if labels else output.dtype)
    check_shape("delta", delta, rows, width)
    check_shape("totals", totals, 2)
    check_dtype("totals", totals, np.float64)
    if weight is not None:
        check_shape("weight", weight, rows)
        check_dtype("weight", weight, output.dtype)
    if scaling is not None:
        check_shape("scaling", scaling, 2)
        check_dtype("scaling", scaling, np.float64)
