"""The compiled epoch on the processor: a `Step` laid out for `mlp_kernels.cpu.epoch`, and run."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp.backends import threads as teams
from mlp.backends.compilation import announced, machine_code
from mlp.backends.host import aligned_empty
from mlp.backends.numba_predict import start_in
from mlp.random import Doubles, dropout_threshold
from mlp_kernels.cpu import epoch, losses
from mlp_kernels.cpu.activations import ACTIVATIONS
from mlp_kernels.cpu.optimizers import SUM_BLOCK, Rule
from mlp_kernels.cpu.product import SCRATCH_BYTES
from mlp_kernels.cpu.team import BARRIER_SIZE
from mlp_kernels.cpu.units import Units, layer_units, loss_unit
from mlp_kernels.cpu.updates import update_of


class CompiledSteps:
    """Does what the steps' own `run` does, compiled, on up to `limit` threads.

    Args:
        steps: a `mlp.step.Step`, all of whose arrays it goes on using.
        rule: the update of the step's optimizer.
        limit: the most threads.
        packed: the type of the products' packed operands.
    """

    def __init__(self, steps: Any, rule: Rule, limit: int, packed: np.dtype[Any]) -> None:
        scratch = aligned_empty((limit, SCRATCH_BYTES // packed.itemsize), packed)
        barrier = np.zeros(BARRIER_SIZE, np.int64)
        dropout = any(layer.dropout is not None for layer in steps.layers)
        self._steps, self._batches = steps, steps.batches
        self._room = np.empty(3 * steps.order.size + 4, np.int64)
        self._no_epochs = (0, np.empty((0, 0)), np.empty((0, 2)), self._room)
        # Compiled or loaded here, so that a call is one of machine code and looks at no types.
        with announced():
            units = layer_units(steps.flat.parameters.dtype, packed, dropout)
            self._fixed = (
                _plan(steps, units), update_of(rule, steps.flat.parameters), _rows(steps),
                _batch(steps), _state(steps), scratch, barrier,
            )  # fmt: skip
            self._train = _train_for(steps, packed, (*self._fixed, 0, 0, *self._no_epochs))
        self._choice = teams.ThreadChoice(limit, _flops(steps))

    def __call__(self, start: int, stop: int) -> None:
        stream = self._steps.stream
        while start < stop:
            end = stop if stream is None else min(stream.require(start), stop)
            self._choice.run(self._run_batches, start, end)
            start = end

    def _run_batches(self, first: int, last: int, count: int) -> None:
        self._run(count, first, last, *self._no_epochs)

    def epochs(self, first: int, rates: Doubles, sums: Doubles) -> None:
        if self._steps.stream is not None:
            for i, of_epoch in enumerate(rates):
                self._steps.begin_epoch(first + i, of_epoch)
                self(0, self._batches)
                sums[i] = self._steps.totals
            return

        def part(begin: int, end: int, count: int) -> None:
            self._run(count, 0, 0, first + begin, rates[begin:end], sums[begin:end], self._room)

        self._choice.run(part, 0, len(rates), self._batches)

    def _run(self, count: int, *arguments: Any) -> None:
        train, fixed = self._train, self._fixed
        teams.TEAM.run(lambda thread, threads: train(*fixed, *arguments, thread, threads), count)


# What decides the types of a step's arrays -> its machine code. Numba's own look at every argument
# takes as long as some hundred small steps.
_compiled: dict[tuple[Any, ...], Any] = {}


def _train_for(steps: Any, packed: np.dtype[Any], arguments: tuple[Any, ...]) -> Any:
    y, weight = steps.y, steps.weight
    key = steps.X.dtype, packed, y.dtype, y.ndim, weight is None
    if key not in _compiled:
        _compiled[key] = machine_code(epoch.train, *arguments, 0, 1)
    return _compiled[key]


def _flops(steps: Any) -> float:
    """Of the matrix products of a step: forward, and twice as many backward."""
    weights = sum(W.size for W in steps.network.parameters.weights)
    return float(6 * steps.batch_size * weights)


def _plan(steps: Any, units: Units) -> epoch.Plan:
    network, tape, terms = steps.network, steps.full.tape, steps.regularization
    layers = np.zeros((len(steps.layers), epoch.COLUMNS), np.int64)
    scales = np.ones(len(steps.layers))
    flat, work = network.parameters.flat, tape.flat
    for i, layer in enumerate(steps.layers):
        row = layers[i]
        row[epoch.INPUTS], row[epoch.OUTPUTS] = layer.W.shape
        row[epoch.W_START], row[epoch.B_START] = start_in(layer.W, flat), start_in(layer.b, flat)
        row[epoch.X_START] = start_in(tape.a[i - 1] if i else tape.x, work)
        row[epoch.A_START], row[epoch.SAVED_START] = (
            start_in(tape.a[i], work), start_in(tape.saved[i], work),
        )  # fmt: skip
        row[epoch.DELTA_START] = start_in(tape.delta[i], work)
        row[epoch.CODE] = ACTIVATIONS[layer.activation]
        row[epoch.KEEP] = tape.saved[i] is not tape.a[i]
        if layer.dropout is not None:
            row[epoch.THRESHOLD] = dropout_threshold(layer.dropout.rate)
            scales[i] = 1 / (1 - layer.dropout.rate)
    return epoch.Plan(
        layers=layers,
        scales=scales,
        units=units,
        loss_unit=loss_unit(flat.dtype, steps.y.ndim == 1),
        loss=losses.FORMS[steps.joined.form],
        loss_parameter=float(steps.joined.parameter),
        batch_size=steps.batch_size,
        weights_end=network.layout.weights_end,
        l1=float(terms.l1),
        l2=float(terms.l2),
        weight_decay=float(terms.weight_decay),
        clip_norm=float(terms.clip_norm or 0.0),
    )


def _rows(steps: Any) -> epoch.Rows:
    return epoch.Rows(steps.X, steps.y, steps.weight, steps.order, steps.rows)


def _batch(steps: Any) -> epoch.Batch:
    return epoch.Batch(steps.full.index, steps.full.target, steps.full.weight)


def _state(steps: Any) -> epoch.State:
    flat = steps.flat
    output = steps.full.tape.a[-1]
    blocks = -(-flat.gradients.size // SUM_BLOCK)
    penalty, none = steps.penalty_steps, np.zeros(0)
    of_weights = -(-steps.network.layout.weights_end // SUM_BLOCK)
    return epoch.State(
        flat.parameters, flat.gradients, steps.full.tape.flat,
        flat.counters, steps.rates, flat.scalars, steps.totals,
        np.zeros(output.size + losses.ROOM * len(output), output.dtype), np.zeros(len(output)),
        np.zeros(blocks),
        none if penalty is None else penalty.scales,
        none if penalty is None else penalty.values,
        np.zeros(of_weights),
    )  # fmt: skip
