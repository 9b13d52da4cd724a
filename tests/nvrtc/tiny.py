"""Launches of many steps at once: every number type, form and rule."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np

from mlp_kernels.cuda import losses, optimizers
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.tiny import Layer, TinyArrays, TinyPlan, tiny_steps
from tests.nvrtc.arrays import (
    BFLOAT16,
    COUNTERS,
    FLOAT32,
    FLOAT64,
    INT64,
    SCALARS,
    TOTALS,
    array,
)
from tests.nvrtc.elements import rules

P, ROWS, BATCH = 2000, 1000, 32


def _launch(number: Any, form: str, rule: optimizers.Rule, tf32: bool = False) -> Launch:
    compute = FLOAT64 if number == FLOAT64 else FLOAT32
    plan = TinyPlan(
        (
            Layer(64, 32, 0, 64, 0, 0, 0, 0, "gelu", 2**31, 2.0),
            Layer(32, 10, 0, 64, 0, 0, 0, 0, "identity"),
        ),
        BATCH,
        np.dtype(number),
    )
    output, doubles = array(compute, BATCH, 10), array(FLOAT64, BATCH)
    labels = form in losses.CLASS_FORMS
    target = array(INT64, ROWS) if labels else array(compute, ROWS, 10)
    arrays = TinyArrays(
        array(INT64, 2, 11), array(FLOAT64, 13), array(compute, P), array(compute, P),
        array(BFLOAT16, P) if number == BFLOAT16 else None, array(number, 10_000), output, output,
        array(compute, ROWS, 64), target, array(compute, ROWS), array(INT64, ROWS),
        COUNTERS, doubles, SCALARS, TOTALS, doubles, array(FLOAT64, plan.parts),
        array(np.uint32, 1),
    )  # fmt: skip
    return tiny_steps(plan, arrays, rule, form, 1000, 16, blocks=32, tf32=tf32)


def heaviest_tiny_launches() -> Iterator[Launch]:
    """A rule with all its arrays, for every number type."""
    for number in (FLOAT64, FLOAT32, BFLOAT16):
        state = array(FLOAT64 if number == FLOAT64 else FLOAT32, P)
        adam = optimizers.Adam(state, state, state, 0.9, 0.999, 1e-8, 0.01, True)
        yield _launch(number, "softmax_cross_entropy", adam)


def tiny_launches() -> Iterator[Launch]:
    """These, and every form and every rule."""
    yield from heaviest_tiny_launches()
    for form, rule in zip(cycle(losses.FORMS), rules(array(FLOAT32, P)), strict=False):
        yield _launch(FLOAT32, form, rule)
    yield _launch(FLOAT32, "mse", rule, tf32=True)
