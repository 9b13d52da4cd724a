"""One training step in five verbs - gather, forward, loss, backward, update - over device arrays.

Everything that a step reads or writes is an attribute of `Step`, allocated once: a backend's
`capture` may run the same step its own way (compiled, or recorded), and the state of a run can be
copied out between two steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mlp.backends.protocol import LOSS_SUM, WEIGHT_SUM, Array
from mlp.backpropagation import OutputLoss, Tape, backward, forward, output_delta
from mlp.errors import InvalidSetting
from mlp.losses import Loss
from mlp.network import Network
from mlp.optimizers import Flat, Optimizer
from mlp.parameters import ParameterBuffer
from mlp.random import Doubles


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

    Attributes:
        batches: steps in an epoch.
        counters, rates, scalars: see `mlp.backends.protocol`.
        order: (N,) int64, the rows in the order of this epoch.
        full, last: arrays of a full batch, and of the last one of an epoch.
        totals: (2,) float64, sums of weighted losses and of weights since the epoch began.
        flat: the parameters, their gradients, and the numbers of the current step.
        state: the optimizer's flat buffers.
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
    ) -> None:
        backend = self.backend = network.backend
        self.network, self.optimizer, self.regularization = network, optimizer, regularization
        self.X, self.y, self.weight = X, y, weight
        self.joined = OutputLoss.of(loss, network.spec.output_activation)
        rows = len(X)
        self.batch_size = min(batch_size, rows)
        self.batches = -(-rows // self.batch_size)
        self.counters = backend.from_host(np.array([seed, 0, -1]), np.int64)
        self.rates = backend.zeros((self.batches,), np.float64)
        self.scalars = backend.zeros((2,), np.float64)
        self.totals = backend.zeros((2,), np.float64)
        self.order = backend.zeros((rows,), np.int64)
        self.gradients = ParameterBuffer(backend, network.layout, network.dtype)
        self.flat = Flat(network.parameters.flat, self.gradients.flat, self.scalars, self.counters)
        self.state = optimizer.start(backend, network.parameters, network.dtype)
        self.layers = self.joined.layers(network.layers(self.gradients, self.counters))
        self.full = self._allocate(self.batch_size)
        self.last = self._first(rows - (self.batches - 1) * self.batch_size)

    def _allocate(self, rows: int) -> Batch:
        backend, network = self.backend, self.network
        return Batch(
            backend.zeros((rows,), np.int64),
            Tape.allocate(backend, network.spec, rows, network.dtype, dropout=True),
            backend.empty((rows, *self.y.shape[1:]), self.y.dtype),
            None if self.weight is None else backend.empty((rows,), network.dtype),
        )

    def _first(self, rows: int) -> Batch:
        full = self.full
        weight = None if full.weight is None else full.weight[:rows]
        return Batch(full.index[:rows], full.tape.first(rows), full.target[:rows], weight)

    def begin_epoch(self, epoch: int, rates: Doubles) -> None:
        """Shuffles the rows for an epoch (from 0), sets each step's rate, clears the totals."""
        self.backend.begin_epoch(self.counters, self.totals, self.order, self.rates, epoch, rates)

    def run(self, start: int, stop: int) -> None:
        """Runs the steps of batches start, ..., stop - 1 of this epoch, one operation at a time."""
        for number in range(start, stop):
            self.run_one(self.full if number < self.batches - 1 else self.last)

    def run_one(self, batch: Batch) -> None:
        """The next step of the epoch; nothing in it depends on a number that the host holds."""
        backend, tape, index = self.backend, batch.tape, batch.index
        backend.begin_step(
            self.counters, self.rates, self.scalars, self.order, index, self.batch_size
        )
        backend.gather_rows(self.X, index, tape.x)
        backend.gather_rows(self.y, index, batch.target)
        if batch.weight is not None:
            backend.gather_rows(self.weight, index, batch.weight)
        forward(backend, self.layers, tape)
        output_delta(backend, self.joined, tape, batch.target, batch.weight, self.totals)
        backward(backend, self.layers, tape)
        self._update()

    def _update(self) -> None:
        backend, terms = self.backend, self.regularization
        parameters, gradients = self.flat.parameters, self.flat.gradients
        end = self.network.layout.weights_end
        if terms.l1 or terms.l2:
            backend.penalty(parameters[:end], gradients[:end], terms.l1, terms.l2)
        if terms.clip_norm is not None:
            backend.clip_norm(gradients, terms.clip_norm, self.scalars)
        if terms.weight_decay:
            backend.decay(parameters[:end], self.scalars, terms.weight_decay)
        self.optimizer.update(backend, self.flat, self.state)

    def mean_loss(self) -> float:
        """Mean loss of the rows visited since the epoch began; waits for the device."""
        sums = self.backend.to_host(self.totals)
        weight = float(sums[WEIGHT_SUM])
        return float(sums[LOSS_SUM]) / weight if weight else float("nan")

    @property
    def largest_product(self) -> int:
        """FLOPs of the largest matrix product in a step."""
        widths = self.network.spec.widths
        return max(2 * self.batch_size * i * o for i, o in pairwise(widths))

    def resume(self, earlier: Step) -> None:
        """Goes on from the optimizer state and step count of an earlier Step of the network.

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

    def release(self) -> None:
        """Lets go of the rows and of the arrays of a batch; what `resume` needs stays."""
        del self.X, self.y, self.weight, self.order, self.full, self.last
