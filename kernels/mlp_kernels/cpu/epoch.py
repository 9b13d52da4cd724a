"""Whole training steps, compiled: gather, forward, loss, backward, update, with no Python between.

The second statement of `mlp.step.Step.run`, for a team of threads that each run `train`. A step has
three parts, between which the team meets. In the first a thread takes some of the batch's rows all
the way forward and backward; in the second it makes the gradients of some of the weights; in the
third it updates a part of the flat buffers. Every number is summed in an order that does not depend
on the number of threads. Numbers below the smallest normal one count as 0 meanwhile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mlp_kernels.cpu.activations import IDENTITY
from mlp_kernels.cpu.call import borrowed, call
from mlp_kernels.cpu.compiler import Doubles, Floats, Integers, kernel
from mlp_kernels.cpu.denormals import flush_denormals, restore
from mlp_kernels.cpu.dense import delta_rows, forward_rows
from mlp_kernels.cpu.losses import ROOM, add_values, weigh_rows
from mlp_kernels.cpu.optimizers import (
    BATCH,
    GRADIENT_SCALE,
    LEARNING_RATE,
    SEED,
    STEP,
    SUM_BLOCK,
    clipping_scale,
    new_epoch,
    penalize,
    penalty_of,
    shrink,
    sum_of_squares,
)
from mlp_kernels.cpu.team import meet, share
from mlp_kernels.cpu.tiles import sum_rows
from mlp_kernels.cpu.units import Units
from mlp_kernels.cpu.updates import Update

# Columns of the table of layers: sizes; first elements in the flat parameters (W, b) and in the
# workspace (the layer's input x, output a, what its derivative needs, its delta); the activation's
# code; whether `saved` is apart from a; the threshold of its dropout.
INPUTS, OUTPUTS, W_START, B_START, X_START, A_START, SAVED_START, DELTA_START = range(8)
CODE, KEEP, THRESHOLD = range(8, 11)
COLUMNS = 11

# Shares of rows and of weights are in whole tiles, those of biases in whole cache lines, and those
# of the flat buffers in what their views are aligned to.
TILE, LINE, ALIGNED = 8, 16, 64


class Plan(NamedTuple):
    """What stays as it is from step to step.

    Attributes:
        layers: (L, COLUMNS) int64.
        scales: (L,) float64, 1 / (1 - rate) of the layers' dropout.
        units, loss_unit: addresses of what a step calls.
        loss, loss_parameter: code of the loss form, and its number.
        batch_size: rows of a full batch.
        weights_end: elements of the flat buffers up to the first bias.
        l1, l2, weight_decay: see `mlp.step.Regularization`; clip_norm is 0 for no clipping.
    """

    layers: Integers
    scales: Doubles
    units: Units
    loss_unit: int
    loss: int
    loss_parameter: float
    batch_size: int
    weights_end: int
    l1: float
    l2: float
    weight_decay: float
    clip_norm: float


class Rows(NamedTuple):
    """Rows (n, I), their targets, their weights (n,) or None, their order in this epoch, and N.

    Row i of the epoch's N is order[i mod its size]: all are there, or some in turn, as a stream has
    them. No batch crosses the end of the order.
    """

    X: Floats
    y: Any
    weight: Floats | None
    order: Integers
    length: int


class Batch(NamedTuple):
    """What a step gathers: row numbers (B,), targets, weights (B,) or None."""

    numbers: Integers
    target: Any
    weight: Floats | None


class State(NamedTuple):
    """What steps read and write.

    Attributes:
        parameters, gradients: flat (P,).
        workspace: flat; holds the batch and every layer's a, saved and delta.
        counters, rates, scalars, totals: see `mlp.backends.protocol`.
        room: (B * (O + ROOM),), for the loss; values: (B,) float64, the loss of each row.
        squares: (ceil(P / SUM_BLOCK),) float64.
        penalty_scales, penalty_values: see `mlp.backends.protocol.PenaltySteps`; empty for none.
        penalties: (ceil(weights_end / SUM_BLOCK),) float64.
    """

    parameters: Floats
    gradients: Floats
    workspace: Floats
    counters: Integers
    rates: Doubles
    scalars: Doubles
    totals: Doubles
    room: Floats
    values: Doubles
    squares: Doubles
    penalty_scales: Doubles
    penalty_values: Doubles
    penalties: Doubles


@kernel()
def gather(
    plan: Plan, rows: Rows, batch: Batch, x: Floats, begin: int, first: int, last: int
) -> None:
    """Rows first, ..., last - 1 of the batch that begins at `begin` of the epoch's order."""
    width = rows.X.shape[1]
    start = plan.layers[0, X_START]
    for i in range(first, last):
        number = rows.order[begin + i]
        batch.numbers[i] = number
        row, out = rows.X[number], x[start + i * width : start + (i + 1) * width]
        for j in range(width):
            out[j] = row[j]
    gather_targets(rows.y, rows.order, batch.target, begin, first, last)
    gather_weights(rows.weight, rows.order, batch.weight, begin, first, last)


@kernel()
def gather_targets(y: Any, order: Integers, out: Any, begin: int, first: int, last: int) -> None:
    if y.ndim == 1:
        for i in range(first, last):
            out[i] = y[order[begin + i]]
    else:
        for i in range(first, last):
            for j in range(y.shape[1]):
                out[i, j] = y[order[begin + i], j]


@kernel()
def gather_weights(
    weight: Floats | None, order: Integers, out: Any, begin: int, first: int, last: int
) -> None:
    # An argument that is None prunes its branch; a field of a tuple would not.
    if weight is not None:
        for i in range(first, last):
            out[i] = weight[order[begin + i]]


@kernel()
def batch_weight(weight: Floats | None, order: Integers, begin: int, count: int) -> float:
    """sum(w) of a batch, or its number of rows where all weights are 1."""
    if weight is None:
        return float(count)
    total = 0.0
    for i in range(begin, begin + count):
        total += weight[order[i]]
    return total


@kernel()
def pass_rows(
    plan: Plan, batch: Batch, state: State, total: float,
    first: int, last: int, seed: int, step: int, scratch: Floats,
) -> None:  # fmt: skip
    """Rows first, ..., last - 1 of the batch forward, through the loss, and backward."""
    layers, scales = plan.layers, plan.scales
    p, work = state.parameters, state.workspace
    depth = layers.shape[0]
    for i in range(depth):
        forward_rows(
            work, layers[i, X_START], p, layers[i, W_START], p, layers[i, B_START],
            layers[i, INPUTS], layers[i, OUTPUTS], layers[i, CODE],
            work, layers[i, A_START], work, layers[i, SAVED_START], layers[i, KEEP] != 0,
            first, last, layers[i, THRESHOLD], scales[i], i, seed, step, plan.units, scratch,
        )  # fmt: skip
    top = depth - 1
    width = layers[top, OUTPUTS]
    begin, end = first * width, last * width
    out = layers[top, A_START]
    delta_start = layers[top, DELTA_START]
    delta = work[delta_start + begin : delta_start + end]
    call(plan.loss_unit, (
        plan.loss, work[out + begin : out + end], batch.target[first:last], last - first, width,
        plan.loss_parameter, delta, state.room[first * (width + ROOM) :], state.values[first:last],
    ))  # fmt: skip
    weigh_rows(plan.loss, batch.weight, total, work, delta_start, width, first, last)
    if layers[top, CODE] != IDENTITY:
        saved = work[layers[top, SAVED_START] + begin : layers[top, SAVED_START] + end]
        call(plan.units.derive, (layers[top, CODE], delta, saved, delta.size, width))
    for i in range(top, 0, -1):
        delta_rows(
            work, layers[i, DELTA_START], p, layers[i, W_START],
            layers[i, INPUTS], layers[i, OUTPUTS],
            work, layers[i - 1, SAVED_START], layers[i - 1, CODE],
            work, layers[i - 1, DELTA_START], first, last,
            layers[i - 1, THRESHOLD], scales[i - 1], i - 1, seed, step, plan.units, scratch,
        )  # fmt: skip


@kernel()
def weight_gradients(
    plan: Plan, state: State, count: int, thread: int, threads: int, scratch: Floats
) -> None:
    """This thread's rows of every dW, and columns of every db, from a batch of `count` rows."""
    layers, work, gradients = plan.layers, state.workspace, state.gradients
    for i in range(layers.shape[0]):
        inputs, outputs = layers[i, INPUTS], layers[i, OUTPUTS]
        W, delta = layers[i, W_START], layers[i, DELTA_START]
        first, last = share(inputs, TILE, thread, threads)
        if last > first:
            call(plan.units.product, (
                work, layers[i, X_START] + first, inputs, True, work, delta, outputs, False,
                gradients, W + first * outputs, outputs, last - first, outputs, count, scratch,
            ))  # fmt: skip
        first, last = share(outputs, LINE, thread, threads)
        sum_rows(
            work, delta + first, outputs, gradients, layers[i, B_START] + first,
            count, last - first,
        )  # fmt: skip


@kernel()
def clipping(plan: Plan, state: State, barrier: Integers, thread: int, threads: int) -> float:
    """The factor that clips the gradients of all threads together."""
    if plan.clip_norm == 0:
        return 1.0
    meet(barrier, threads)  # penalties are gradients, too
    squares, size = state.squares, state.gradients.size
    first, last = share(squares.size, 1, thread, threads)
    for i in range(first, last):
        begin = i * SUM_BLOCK
        squares[i] = sum_of_squares(state.gradients, begin, min(begin + SUM_BLOCK, size))
    meet(barrier, threads)
    total = 0.0
    for i in range(squares.size):
        total += squares[i]
    return clipping_scale(total, plan.clip_norm)


@kernel()
def sum_penalties(plan: Plan, state: State, thread: int, threads: int) -> None:
    """The penalty of this thread's blocks of weights, while no thread changes any."""
    if state.penalty_values.size > 0:
        first, last = share(state.penalties.size, 1, thread, threads)
        for i in range(first, last):
            begin = i * SUM_BLOCK
            end = min(begin + SUM_BLOCK, plan.weights_end)
            state.penalties[i] = penalty_of(state.parameters, begin, end, plan.l1, plan.l2)


@kernel()
def penalize_weights(plan: Plan, state: State, number: int, thread: int, threads: int) -> None:
    scale = 1.0
    if state.penalty_values.size > 0:
        scale = state.penalty_scales[number]
        if thread == 0:
            total = 0.0
            for i in range(state.penalties.size):
                total += state.penalties[i]
            state.penalty_values[number] = total
    # Of the same elements as the update that follows: no other thread has to be waited for.
    if plan.l1 != 0 or plan.l2 != 0:
        first, last = share(state.parameters.size, ALIGNED, thread, threads)
        first, last = min(first, plan.weights_end), min(last, plan.weights_end)
        l1, l2 = scale * plan.l1, scale * plan.l2
        penalize(state.parameters, state.gradients, first, last, l1, l2)


@kernel()
def update(
    plan: Plan, rule: Update, state: State, rate: float, gradient_scale: float, t: int,
    thread: int, threads: int,
) -> None:  # fmt: skip
    """This thread's share of the flat buffers."""
    p = state.parameters
    first, last = share(p.size, ALIGNED, thread, threads)
    if plan.weight_decay != 0:
        shrink(
            p, min(first, plan.weights_end), min(last, plan.weights_end), rate, plan.weight_decay
        )
    call(rule.unit, (
        p, state.gradients, rule.state0, rule.state1, rule.state2, rule.settings,
        p.size, rule.kept, first, last, rate, gradient_scale, t,
    ))  # fmt: skip


@kernel()
def steps(
    plan: Plan, rule: Update, rows: Rows, batch: Batch, state: State,
    own: Floats, barrier: Integers, start: int, stop: int, thread: int, threads: int,
) -> None:  # fmt: skip
    """One thread's part of the steps of batches start, ..., stop - 1 of this epoch."""
    seed, before = state.counters[SEED], state.counters[STEP]
    rate, scale = 0.0, 1.0
    for number in range(start, stop):
        t = before + 1 + number - start
        begin = number * plan.batch_size
        count = min(plan.batch_size, rows.length - begin)
        begin %= rows.order.size
        total = batch_weight(rows.weight, rows.order, begin, count)
        first, last = share(count, TILE, thread, threads)
        gather(plan, rows, batch, state.workspace, begin, first, last)
        pass_rows(plan, batch, state, total, first, last, seed, t, own)
        meet(barrier, threads)
        weight_gradients(plan, state, count, thread, threads, own)
        sum_penalties(plan, state, thread, threads)
        if thread == 0:
            add_values(batch.weight, state.values, count, total, state.totals)
        meet(barrier, threads)
        penalize_weights(plan, state, number, thread, threads)
        scale = clipping(plan, state, barrier, thread, threads)
        rate = state.rates[number]
        update(plan, rule, state, rate, scale, t, thread, threads)
        meet(barrier, threads)
    if thread == 0 and stop > start:
        state.counters[STEP] = before + stop - start
        state.counters[BATCH] = stop - 1
        state.scalars[LEARNING_RATE] = rate
        state.scalars[GRADIENT_SCALE] = scale


@kernel(nogil=True)
def train(
    plan: Plan, rule: Update, rows: Rows, batch: Batch, state: State,
    scratch: Floats, barrier: Integers, start: int, stop: int,
    epoch: int, rates: Any, sums: Any, room: Integers, thread: int, threads: int,
) -> None:  # fmt: skip
    """One thread's part of some steps of this epoch, or of whole epochs.

    Args:
        scratch: (threads, SCRATCH_BYTES) of the type of the products.
        barrier: (BARRIER_SIZE,), 0 before the first use.
        start, stop: the batches of this epoch, if no epochs are asked for.
        epoch: number of the first whole epoch.
        rates: (epochs, batches) float64, the learning rate of every step.
        sums: (epochs, 2) float64, receives the totals of each epoch.
        room: (3 N + 4,) int64 for shuffling.
    """
    plan, rule, rows = borrowed(plan), borrowed(rule), borrowed(rows)
    batch, state, barrier = borrowed(batch), borrowed(state), borrowed(barrier)
    rates, sums, room = borrowed(rates), borrowed(sums), borrowed(room)
    own = borrowed(scratch)[thread]
    before = flush_denormals()
    epochs = rates.shape[0]
    for e in range(max(epochs, 1)):
        if epochs > 0:
            start, stop = 0, rates.shape[1]
            if thread == 0:
                new_epoch(
                    state.counters, state.totals, rows.order, state.rates, epoch + e, rates[e], room
                )
            meet(barrier, threads)
        steps(plan, rule, rows, batch, state, own, barrier, start, stop, thread, threads)
        if epochs > 0 and thread == 0:
            sums[e, 0], sums[e, 1] = state.totals[0], state.totals[1]
    restore(before)
