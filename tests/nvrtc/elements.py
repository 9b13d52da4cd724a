"""Launches of the kernels that are no matrix products: every value of every macro."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product
from typing import Any

import numpy as np

from mlp_kernels.cuda import (
    activations,
    columns,
    control,
    convert,
    gather,
    losses,
    optimizers,
    shuffle,
    softmax,
)
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.types import INTEGER_TYPES
from tests.nvrtc.arrays import (
    BFLOAT16,
    COUNTERS,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT64,
    ROOM,
    SCALARS,
    SCALING,
    TOTALS,
    array,
)

NUMBERS = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
# What is computed in a type is stored in it or in a shorter one.
STORED = ((FLOAT64, FLOAT64), (FLOAT32, FLOAT32), (FLOAT32, FLOAT16), (FLOAT32, BFLOAT16))
INTEGERS = tuple(dtype for dtype in INTEGER_TYPES if dtype != np.bool_)
WIDTHS = (1, 2, 3, 8, 10, 100)  # for every number of threads of a row
ROWS = 64


def loss_launches() -> Iterator[Launch]:
    for form, (output, delta) in product(losses.FORMS, STORED):
        labels = form in losses.CLASS_FORMS
        yield from _loss(form, output, delta, 10, labels, True, True)
    for form, width in product(losses.CLASS_FORMS, WIDTHS):
        yield from _loss(form, FLOAT32, FLOAT32, width, False, False, False)
    for labels, weighted, scaled in product((False, True), repeat=3):
        yield from _loss("cross_entropy", FLOAT32, BFLOAT16, 10, labels, weighted, scaled)


def _loss(
    form: str, output: Any, delta: Any, width: int, labels: bool, weighted: bool, scaled: bool
) -> list[Launch]:
    target = array(INT64, ROWS) if labels else array(output, ROWS, width)
    return losses.loss(
        form, array(output, ROWS, width), target, array(output, ROWS) if weighted else None, 0.0,
        array(delta, ROWS, width), TOTALS, ROOM, SCALING if scaled else None,
    )  # fmt: skip


def rules(state: Any) -> Iterator[optimizers.Rule]:
    """Every rule with every set of state arrays."""
    for maybe in (None, state):
        yield optimizers.Sgd(maybe, 0.9, 0.0, 0.0, True)
        yield optimizers.Adam(state, state, maybe, 0.9, 0.999, 1e-8, 0.01, True)
    for mean, velocity in product((None, state), repeat=2):
        yield optimizers.Rmsprop(state, mean, velocity, 0.99, 1e-8, 0.0, 0.9)
    yield optimizers.Adagrad(state, 0.0, 0.0, 1e-10)
    yield optimizers.Lion(state, 0.9, 0.99, 0.0)


def update_launches() -> Iterator[Launch]:
    """Every rule in both precisions, with decay and, where there can be one, a copy."""
    for parameters, copy in ((FLOAT64, None), (FLOAT32, BFLOAT16)):
        for rule in rules(array(parameters, 1000)):
            yield _update(rule, parameters, copy, 0.01)
    adam = optimizers.Adam(*[array(FLOAT32, 1000)] * 3, 0.9, 0.999, 1e-8, 0.01, True)
    for copy, weight_decay in product((None, FLOAT16), (0.0, 0.01)):
        yield _update(adam, FLOAT32, copy, weight_decay)


def _update(rule: optimizers.Rule, dtype: Any, copy: Any, weight_decay: float) -> Launch:
    flat = array(dtype, 1000)
    copies = None if copy is None else array(copy, 1000)
    return optimizers.update(
        rule, flat, flat, SCALARS, COUNTERS, copies=copies, weights_end=900,
        weight_decay=weight_decay,
    )  # fmt: skip


def gradient_launches() -> Iterator[Launch]:
    for dtype in (FLOAT64, FLOAT32):
        flat = array(dtype, 1000)
        for scaling, l1, max_norm in product((None, SCALING), (0.0, 0.1), (None, 1.0)):
            yield optimizers.prepare(
                flat, flat, SCALARS, COUNTERS, ROOM, scaling=scaling, l1=l1, max_norm=max_norm
            )
        for scaling, max_norm in product((None, SCALING), (None, 1.0)):
            yield optimizers.prepare(
                flat, flat, SCALARS, COUNTERS, ROOM, scaling=scaling, l2=0.1, max_norm=max_norm,
                penalty_scales=array(FLOAT64, 8), penalty_values=array(FLOAT64, 8),
            )  # fmt: skip
        yield optimizers.decay(flat, SCALARS, 0.01)


def gather_launches() -> Iterator[Launch]:
    index = array(INT64, ROWS)

    def pair(source: Any, out: Any, *width: int) -> tuple[Any, Any]:
        return array(source, 1000, *width), array(out, ROWS, *width)

    same = ((dtype, dtype) for dtype in INTEGERS + NUMBERS)
    for source, out in chain(same, product(NUMBERS, repeat=2)):
        yield gather.gather_batch(index, pair(source, out, 20))
    for number, compute in STORED:
        x, weight = pair(number, compute, 20), pair(number, number)
        for target in (pair(INT64, INT64), pair(number, number, 10)):
            yield gather.gather_batch(index, x, target)
            yield gather.gather_batch(index, x, target, weight)


def conversion_launches() -> Iterator[Launch]:
    def rows(dtype: Any) -> Any:
        return array(dtype, ROWS, 20)

    statistic = array(FLOAT64, 20)
    for source in INTEGERS + NUMBERS:
        yield convert.convert(rows(source), rows(source))
        yield convert.convert(rows(source), rows(FLOAT32))
        yield convert.standardise(rows(source), rows(FLOAT32), statistic, statistic)
    for number in NUMBERS:
        yield convert.convert(rows(FLOAT32), rows(number))
        yield convert.convert(rows(FLOAT64), rows(number))
        yield convert.standardise(rows(FLOAT64), rows(number))
        yield convert.count_not_finite(rows(number), array(INT64, 1), ROOM)
        sums = array(FLOAT64 if number == FLOAT64 else FLOAT32, 20)
        yield columns.column_sums(rows(number), sums, ROOM)


def softmax_launches() -> Iterator[Launch]:
    dropout = DropoutNumbers(2**31, 2.0, 0, COUNTERS)

    def both(given: Any, saved: Any, out: Any, width: int, drop: Any) -> Iterator[Launch]:
        arrays = [array(dtype, ROWS, width) for dtype in (given, saved, out)]
        yield softmax.softmax_rows(arrays[0], arrays[2], arrays[1], drop)
        yield softmax.softmax_delta(*arrays, drop)

    for width in WIDTHS:
        yield from both(FLOAT32, FLOAT32, FLOAT32, width, None)
    for number in NUMBERS:
        yield from both(number, number, number, 10, dropout)
        yield from both(FLOAT32, number, number, 10, dropout)


def activation_launches() -> Iterator[Launch]:
    def rows(dtype: Any) -> Any:
        return array(dtype, ROWS, 20)

    for name, dtype in product(activations.ELEMENTWISE, (FLOAT32, FLOAT64)):
        yield activations.activation_delta(rows(dtype), rows(dtype), name, rows(dtype))
    for number in NUMBERS:
        yield activations.activation_delta(rows(number), rows(FLOAT32), "gelu", rows(FLOAT32))
        yield activations.activation_delta(rows(FLOAT32), rows(number), "gelu", rows(number))


def control_launches() -> Iterator[Launch]:
    order, index = array(INT64, 10_000), array(INT64, ROWS)
    yield control.begin_step(COUNTERS, array(FLOAT64, 10), SCALARS, order, index, ROWS, ROOM)
    yield control.begin_epoch(COUNTERS, TOTALS)
    yield control.fill_in_turn(order, 100)
    keys = array(np.uint64, shuffle.keys_needed(order.size))
    yield from shuffle.shuffle(COUNTERS, 0, order, keys)


def element_launches() -> Iterator[Launch]:
    return chain(
        loss_launches(), update_launches(), gradient_launches(), gather_launches(),
        conversion_launches(), softmax_launches(), activation_launches(), control_launches(),
    )  # fmt: skip
