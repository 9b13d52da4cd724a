"""One training step in five verbs - gather, forward, loss, backward, update - over device arrays.

Everything that a step reads or writes is an attribute of `Step`, allocated once: a backend's
`capture` may run the same step its own way (compiled, or recorded), and the state of a run can be
copied out between two steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mlp.backends.protocol import (
    ALIGNMENT,
    FIRST_LOSS_SCALE,
    LOSS_SCALE,
    LOSS_SUM,
    SKIPPED,
    WEIGHT_SUM,
    Array,
    HostArray,
    PenaltySteps,
)
from mlp.backends.row_stream import RowStream
from mlp.backpropagation import OutputLoss, Tape, TapeRoom, backward, forward, output_delta
from mlp.epoch_plan import EpochPlan
from mlp.errors import DeviceOutOfMemory, InvalidSetting
from mlp.losses import Loss
from mlp.network import Network
from mlp.optimizers import Flat, Optimizer
from mlp.parameters import ParameterBuffer
from mlp.random import Doubles

# Of what is free, what a batch that is said to fit may take: a backend needs some room of its own.
SHARE_OF_BATCH = 0.95


@dataclass(frozen=True)
class Regularization:
    """What is added to or done beside the loss; 0 or None turns a term off.

    Attributes:
        l1, l2: penalty l1 sum|W| + l2/2 sum W² over the weight matrices, through the gradient.
        weight_decay: W *= 1 - learning rate * weight_decay before the update, weights only.
        clip_norm: bound on the norm of all gradients together.
    """

    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None


@dataclass(frozen=True)
class Batch:
    """The arrays of one batch size: views of the step's own for a last batch that is not full.

    Attributes:
        index: numbers of the batch's rows (B,) int64.
        tape, target, weight: see `mlp.backpropagation`.
    """

    index: Array
    tape: Tape
    target: Array
    weight: Array | None


class Step:
    """Training steps of one network on one set of rows.

    Args:
        network: whose parameters the steps change.
        loss, optimizer, regularization: what the steps minimise, and how.
        batch_size: rows in a batch; the last of an epoch has what is left.
        X, y, weight: all training rows on the device: (N, I), labels (N,) or numbers (N, O), and
            sample weights (N,) or None.
        seed: of the dropout masks.
        stream: where the rows are too many for the device, what X, y and weight belong to.
        planned: whether epochs may have plans with weights and penalty scales. The step then has
            weights of its own, and keeps the value of the penalty in every step.

    Attributes:
        rows: N.
        batches: steps in an epoch.
        counters, rates, scalars: see `mlp.backends.protocol`.
        scaling: the loss scale, in the precision float16; else None.
        order: (N,) int64, the rows in the order of this epoch; a stream's is of places in X.
        full, last: arrays of a full batch, and of the last one of an epoch.
        totals: (2,) float64, sums of weighted losses and of weights since the epoch began.
        flat: the parameters, their gradients, and the numbers of the current step.
        state: the optimizer's flat buffers.
        penalty_steps: the penalty's factors and values in this epoch's steps, if planned; else
            None, as without l1 and l2.

    Raises:
        DeviceOutOfMemory: the device has no room for such a batch; says which size would fit.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        X: Array,
        y: Array,
        weight: Array | None,
        seed: int,
        stream: RowStream | None = None,
        planned: bool = False,
    ) -> None:
        backend = self.backend = network.backend
        self.network, self.optimizer, self.regularization = network, optimizer, regularization
        self.X, self.y, self.weight = X, y, weight
        self.planned = planned
        self.joined = OutputLoss.of(loss, network.spec.output_activation)
        self.stream = stream
        rows = self.rows = len(X) if stream is None else stream.rows
        self.batch_size = min(batch_size, rows)
        self.batches = -(-rows // self.batch_size)
        self._given_weight: Array | None = None
        if planned and weight is not None and stream is None:
            # A plan's weights go where captured steps read them, and not into the caller's array.
            self._given_weight, self.weight = weight, backend.empty((rows,), network.dtype)
            backend.copy(weight, self.weight)
        self.counters = backend.from_host(np.array([seed, 0, -1, 0]), np.int64)
        self.rates = backend.zeros((self.batches,), np.float64)
        self.scalars = backend.zeros((3,), np.float64)
        self.scaling: Array | None = None
        if network.precision == "float16":
            self.scaling = backend.from_host(np.array([FIRST_LOSS_SCALE, 0]), np.float64)
        self.totals = backend.zeros((2,), np.float64)
        self.order = backend.zeros((rows,), np.int64) if stream is None else stream.order
        # What an epoch shuffles in place of its order, where that is given or a stream has it.
        self._one_row = backend.zeros((1,), np.int64)
        self.gradients = ParameterBuffer(backend, network.layout, network.dtype)
        parameters, compute = network.parameters, network.compute
        self.flat = Flat(
            parameters.flat, self.gradients.flat, self.scalars, self.counters,
            None if compute is parameters else compute.flat,
        )  # fmt: skip
        self.state = optimizer.start(backend, network.parameters, network.dtype)
        self.penalty_steps: PenaltySteps | None = None
        if planned and (regularization.l1 or regularization.l2):
            scales, values = (backend.zeros((self.batches,), np.float64) for _ in range(2))
            self.penalty_steps = PenaltySteps(scales, values, self.counters)
        self.layers = self.joined.layers(network.layers(self.gradients, self.counters))
        self.full = self._allocate(self.batch_size)
        self.last = self._first(rows - (self.batches - 1) * self.batch_size)

    def _allocate(self, rows: int) -> Batch:
        backend, network, y = self.backend, self.network, self.y
        try:
            # The largest last, so that what is free by then tells which size would fit.
            return Batch(
                index=backend.zeros((rows,), np.int64),
                target=backend.empty((rows, *y.shape[1:]), y.dtype),
                weight=None if self.weight is None else backend.empty((rows,), network.dtype),
                tape=Tape.allocate(backend, network.spec, rows, network.dtype, dropout=True),
            )
        except DeviceOutOfMemory as error:
            asked, free = error.asked, error.free
        # Raised here, so that it holds no frame, and thereby no array, of what failed.
        raise DeviceOutOfMemory(self._too_large(rows, asked, free), asked, free)

    def _too_large(self, rows: int, asked: int, free: int) -> str:
        dtype, compute = self.network.dtype, self.network.compute.flat.dtype
        room = TapeRoom.of(self.network.spec, dropout=True, together=compute == dtype)
        row = sum(room.widths) * compute.itemsize + sum(room.output_widths) * dtype.itemsize
        row += math.prod(self.y.shape[1:]) * self.y.dtype.itemsize + np.dtype(np.int64).itemsize
        row += 0 if self.weight is None else dtype.itemsize
        padding = ALIGNMENT * (len(room.widths) + len(room.output_widths) + 3)
        fitting = min((int(SHARE_OF_BATCH * free) - padding) // row, rows - 1)
        return (
            f"device '{self.backend.device}' has no room for batches of {rows:,} rows: "
            f"{_mebibytes(asked)} were asked for and {_mebibytes(free)} are free; "
            + (
                f"a batch_size of {fitting:,} would fit"
                if fitting > 0
                else "not even a batch_size of 1 would fit: use a smaller network"
            )
        )

    def _first(self, rows: int) -> Batch:
        full = self.full
        weight = None if full.weight is None else full.weight[:rows]
        return Batch(full.index[:rows], full.tape.first(rows), full.target[:rows], weight)

    def begin_epoch(self, epoch: int, rates: Doubles, plan: EpochPlan | None = None) -> None:
        """Shuffles the rows for an epoch (from 0), sets each step's rate, clears the totals.

        Raises what `EpochPlan.checked` does, and InvalidSetting for weights or penalty scales where
        the step was made for none.
        """
        backend, order = self.backend, self.order
        plan = self._checked(plan or EpochPlan())
        if self.stream is not None:  # it shuffles; its order is of places and does not change
            self.stream.begin_epoch(epoch, plan.order, plan.weights)
            order = self._one_row
        elif plan.order is not None:
            backend.copy(backend.from_host(plan.order, np.int64), self.order)
            order = self._one_row
        backend.begin_epoch(self.counters, self.totals, order, self.rates, epoch, rates)
        if self._given_weight is not None:
            weight = self._given_weight
            if plan.weights is not None:
                weight = backend.from_host(plan.weights, self.network.dtype)
            backend.copy(weight, self.weight)
        if self.penalty_steps is not None:
            scales = plan.penalty_scale
            scales = np.ones(self.batches) if scales is None else scales
            backend.copy(backend.from_host(scales, np.float64), self.penalty_steps.scales)

    def _checked(self, plan: EpochPlan) -> EpochPlan:
        if not self.planned and (plan.weights is not None or plan.penalty_scale is not None):
            raise InvalidSetting("the step was not made for plans with weights or penalty scales")
        return plan.checked(self.rows, self.batches, self.weight is not None)

    def run(self, start: int, stop: int) -> None:
        """Runs the steps of batches start, ..., stop - 1 of this epoch, one operation at a time."""
        for number in range(start, stop):
            if self.stream is not None:
                self.stream.require(number)
            self.run_one(self.full if number < self.batches - 1 else self.last)

    def run_one(self, batch: Batch) -> None:
        """The next step of the epoch; nothing in it depends on a number that the host holds."""
        self.compute_gradients(batch)
        self.update()

    def compute_gradients(self, batch: Batch) -> None:
        """The part of a step up to the gradients: gather, forward, loss, backward."""
        self.gather(batch)
        forward(self.backend, self.layers, batch.tape)
        self.compute_output_delta(batch)
        backward(self.backend, self.layers, batch.tape)

    def gather(self, batch: Batch) -> None:
        """Begins the next step: its counters and its rate, and its rows, targets and weights."""
        backend, tape, index = self.backend, batch.tape, batch.index
        backend.begin_step(
            self.counters, self.rates, self.scalars, self.order, index, self.batch_size
        )
        pairs = [(self.X, tape.x), (self.y, batch.target)]
        if batch.weight is not None:
            pairs.append((self.weight, batch.weight))
        backend.gather_batch(index, *pairs)

    def compute_output_delta(self, batch: Batch) -> None:
        """The loss of a batch whose forward pass is done, and the delta of the last layer."""
        output_delta(
            self.backend, self.joined, batch.tape, batch.target, batch.weight, self.totals,
            self.scaling,
        )  # fmt: skip

    def update(self) -> None:
        """The rest of a step: what regularization does to the gradients, and the update."""
        backend, terms = self.backend, self.regularization
        parameters, gradients = self.flat.parameters, self.flat.gradients
        end = self.network.layout.weights_end
        if self.scaling is not None:
            backend.unscale(gradients, self.scaling, self.scalars, self.counters)
        if terms.l1 or terms.l2:
            backend.penalty(
                parameters[:end], gradients[:end], terms.l1, terms.l2, self.penalty_steps
            )
        if terms.clip_norm is not None:
            backend.clip_norm(gradients, terms.clip_norm, self.scalars)
        if terms.weight_decay:
            backend.decay(parameters[:end], self.scalars, terms.weight_decay)
        self.optimizer.update(backend, self.flat, self.state)
        if self.flat.copies is not None:
            backend.copy(parameters, self.flat.copies)

    def mean_loss(self) -> float:
        """Mean loss of the rows visited since the epoch began; waits for the device."""
        sums = self.backend.to_host(self.totals)
        weight = float(sums[WEIGHT_SUM])
        return float(sums[LOSS_SUM]) / weight if weight else float("nan")

    @property
    def penalties(self) -> HostArray:
        """(batches,) float64, l1 sum|W| + l2/2 sum W² before each step's update in this epoch.

        Without the factor of a plan; 0 where l1 and l2 are 0. Waits for the device.

        Raises:
            InvalidSetting: the step was not made for plans, and keeps no such values.
        """
        if self.penalty_steps is not None:
            return self.backend.to_host(self.penalty_steps.values)
        if not self.planned and (self.regularization.l1 or self.regularization.l2):
            raise InvalidSetting("values of the penalty are kept where epochs have plans")
        return np.zeros(self.batches)

    @property
    def batch_sizes(self) -> HostArray:
        """(batches,) int64, the rows in each step of an epoch."""
        sizes = np.full(self.batches, self.batch_size)
        sizes[-1] = self.rows - (self.batches - 1) * self.batch_size
        return sizes

    @property
    def skipped(self) -> int:
        """Updates skipped so far because gradients overflowed; waits for the device."""
        if self.scaling is None:
            return 0
        return int(self.backend.to_host(self.counters)[SKIPPED])

    @property
    def loss_scale(self) -> float:
        """What deltas are multiplied by; 1 without loss scaling; waits for the device."""
        if self.scaling is None:
            return 1.0
        return float(self.backend.to_host(self.scaling)[LOSS_SCALE])

    @property
    def largest_product(self) -> int:
        """FLOPs of the largest matrix product in a step."""
        widths = self.network.spec.widths
        return max(2 * self.batch_size * i * o for i, o in pairwise(widths))

    def resume(self, earlier: Step) -> None:
        """Goes on from an earlier Step of the network: optimizer state, step count, loss scale.

        Raises:
            InvalidSetting: the earlier one had another optimizer.
        """
        backend = self.backend
        if set(earlier.state) != set(self.state):
            raise InvalidSetting(
                "a Trainer keeps its optimizer; make a new Trainer for another one"
            )
        for name, buffer in self.state.items():
            backend.copy(earlier.state[name], buffer)
        backend.copy(earlier.counters, self.counters)
        if self.scaling is not None:
            backend.copy(earlier.scaling, self.scaling)

    def release(self) -> None:
        """Lets go of the rows and of the arrays of a batch; what `resume` needs stays."""
        if self.stream is not None:
            self.stream.close()
        del self.X, self.y, self.weight, self.order, self.stream, self.full, self.last
        self._given_weight = None


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
