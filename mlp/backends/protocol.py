"""The backend contract: the operations that a training step is made of.

Data-sized operations write into arrays that they are given and allocate nothing that grows with the
batch (the NumPy reference, written to be read, may). An `Array` belongs to its backend: NumPy
arrays on the CPU backends, device arrays elsewhere. All are C-contiguous, and only `to_host` may be
relied on to make a NumPy array of one. They are of the network's dtype, that of its parameters,
unless said: "compute" marks those of `compute_dtype`, which a 16-bit precision stores in 16 bits.

Sizes: B rows in the batch, I inputs and O outputs of a layer, N rows of data, P numbers in a flat
buffer. `z = x @ W + b`, `a = g(z)`, `delta = dLoss/dz`.

What changes from step to step is in three small arrays, so that a recorded step can be replayed:

- `counters` (4,) int64: SEED; STEP, this step, from 1; BATCH, its place in the epoch, from 0;
  SKIPPED, the steps so far whose update was skipped because gradients overflowed;
- `rates` (batches per epoch,) float64: the learning rate of each step of this epoch;
- `scalars` (3,) float64: LEARNING_RATE and GRADIENT_SCALE of the current step, and SKIP: 1 where
  its update is to be skipped, else 0.

The order (N,) int64 of an epoch's rows is an array, too, and so is what loss scaling goes by:

- `scaling` (2,) float64: LOSS_SCALE, by which the deltas of this step are multiplied, so that
  numbers of 16 bits hold them; GOOD_STEPS, steps since the scale changed. None: no loss scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from mlp.backends.row_stream import EpochRows, RowStream

Array: TypeAlias = Any
HostArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# Bytes to which arrays, and the views of a flat buffer, are aligned.
ALIGNMENT = 256

SEED, STEP, BATCH, SKIPPED = range(4)
LEARNING_RATE, GRADIENT_SCALE, SKIP = range(3)
LOSS_SUM, WEIGHT_SUM = 0, 1
LOSS_SCALE, GOOD_STEPS = 0, 1

# The scale begins as in torch.amp.GradScaler, and doubles after so many steps without an overflow.
FIRST_LOSS_SCALE = 2.0**16
GOOD_STEPS_TO_DOUBLE = 2000


@dataclass(frozen=True)
class Dropout:
    """Dropout of one layer's output: the mask is drawn from (seed, step, layer), never stored.

    Attributes:
        rate: probability in (0, 1) that an output is dropped.
        layer: number of the layer, from 0.
        counters: the array that holds seed and step.
    """

    rate: float
    layer: int
    counters: Array


@dataclass(frozen=True)
class PenaltySteps:
    """A factor of the penalty's gradient in every step of an epoch, and the penalty's values there.

    Which step it is, is read from `counters` on the device, so that a recorded step goes on in
    these arrays, too.

    Attributes:
        scales: (batches,) float64, the factors.
        values: (batches,) float64, l1 sum|w| + l2/2 sum w^2 of the weights before each update,
            without the factor; summed in float64, in an order that no number of threads changes.
        counters: the array that holds BATCH, the place in both.
    """

    scales: Array
    values: Array
    counters: Array


class Steps(Protocol):
    """What `capture` takes: training steps that can be run by their number in the epoch.

    `mlp.step.Step` is the one there is. A backend that compiles or records steps reads its other
    attributes, too.
    """

    @property
    def largest_product(self) -> int:
        """FLOPs of the largest matrix product in a step."""

    def begin_epoch(self, epoch: int, rates: Any, plan: Any = None) -> None:
        """Shuffle the rows for an epoch, and set the rates of its steps."""

    totals: Array

    def run(self, start: int, stop: int) -> None:
        """Run the steps of batches start, ..., stop - 1 of the current epoch."""


class Run(Protocol):
    """What a captured step is: a function, and the same for whole epochs."""

    def __call__(self, start: int, stop: int) -> None:
        """What `Steps.run` does."""

    def epochs(self, first: int, rates: HostArray, sums: HostArray) -> None:
        """`begin_epoch` and all steps, for epochs first, first + 1, ...

        rates (E, batches) float64 are those of each epoch's steps; sums (E, 2) float64 receives
        each epoch's totals. Waits for the device.
        """


class Backend(Protocol):
    """One kind of device, and the operations on its arrays."""

    name: str
    threads: int  # the most that it uses by itself
    device: str  # as `get_backend` takes it: the name, and the number where there are several
    about: str | None  # a GPU in words

    def compute_dtype(self, dtype: Any) -> np.dtype[Any]:
        """What products read and layers hand on, for parameters of `dtype`.

        The dtype of the batch, of hidden activations and what is saved of them, of deltas, and of
        the weights' copies that products read. The same dtype, except in a precision of 16 bits.
        """

    # --- memory ---------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array whose first byte is aligned to 256; contents undefined."""

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """`empty`, filled with 0."""

    def from_host(self, array: HostArray, dtype: Any) -> Array:
        """A device copy of a host array, converted to `dtype`."""

    def borrow(self, array: HostArray, dtype: Any) -> Array:
        """`from_host` for reading only: may be the host array itself, if the device can use it."""

    def device_array(self, value: Any) -> Array | None:
        """What a user passes, as an array of this device, where it lives there; else None.

        Nothing is copied, but on the device where the value is not C-contiguous or of a dtype that
        the backend has not: then it comes in one that holds its numbers. None on the backends of
        the processor, whose arrays are the host's.
        """

    def to_host(self, array: Array) -> HostArray:
        """A host copy; waits for the device. It may be float32 where NumPy lacks the dtype."""

    def copy(self, source: Array, out: Array) -> None:
        """out[...] = source, of one shape; rounded to the nearest if their dtypes differ."""

    def gather_rows(self, X: Array, index: Array, out: Array) -> None:
        """out[i] = X[index[i]]: X (N, I) or (N,), index (B,) int64 in 0..N-1.

        `out` is of X's dtype, or of the compute dtype: then rounded to the nearest.
        """

    def gather_batch(self, index: Array, *pairs: tuple[Array, Array]) -> None:
        """`gather_rows` of up to three pairs (X, out): the rows, targets and weights of a batch."""

    def convert_rows(
        self, X: Array, out: Array, mean: Array | None = None, scale: Array | None = None
    ) -> None:
        """Out = (X - mean) / scale in float64, rounded to out's dtype: X (N, I) of any real dtype.

        mean and scale (I,) are float64, or both None for X itself.
        """

    def is_finite(self, array: Array) -> bool:
        """Whether all numbers of an array are finite; waits for the device."""

    # --- layer ----------------------------------------------------------------------------------

    def linear_forward(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: str,
        a: Array,
        saved: Array | None,
        dropout: Dropout | None = None,
    ) -> None:
        """A = g(x @ W + b): x (B, I) and W (I, O) compute, b (O,), a (B, O).

        a and saved are compute in a hidden layer, and of the network's dtype in the output layer.

        `saved` (B, O) receives what the backward pass needs of this layer, g(z) or z as the
        activation table says. It may be `a` itself where that is g(z) and there is no dropout, and
        None for a forward pass without a backward one. With dropout, a = g(z) * mask / (1 - rate).
        """

    def linear_delta(
        self,
        delta: Array,
        W: Array,
        saved: Array,
        activation: str,
        out: Array,
        db_prev: Array,
        dropout: Dropout | None = None,
    ) -> None:
        """Out = (delta @ W.T) * g'(saved), and its column sums in db_prev: the step backwards.

        delta (B, O) and W (I, O) are a layer's; saved, out (B, I), activation, dropout and db_prev
        (I,) belong to the layer before it. With dropout, out is also times mask / (1 - rate). All
        are compute, but db_prev.
        """

    def linear_grads(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        """DW = x.T @ delta, and db = column sums of delta unless None.

        x (B, I) and delta (B, O) are compute, dW (I, O) and db (O,) of the network's dtype.
        """

    def activation_delta(self, gradient: Array, saved: Array, activation: str, out: Array) -> None:
        """dLoss/dz from dLoss/da, all (B, O) of an output layer; `out` may be `gradient`.

        gradient and out are compute, saved is of the network's dtype.
        """

    # --- loss -----------------------------------------------------------------------------------

    def loss(
        self,
        form: str,
        output: Array,
        target: Array,
        weight: Array | None,
        parameter: float,
        delta: Array,
        totals: Array,
        scaling: Array | None = None,
    ) -> None:
        """The loss of a batch, and its gradient.

        Args:
            form: a name from `mlp.losses.FORMS`.
            output: a or z (B, O), as the form takes.
            target: (B, O) of the network's dtype, or class labels (B,) int64 in 0..O-1.
            weight: sample weights w (B,) of the network's dtype, >= 0; None for all 1.
            parameter: the form's number (label smoothing, Huber's delta).
            delta: (B, O) compute, receives w_i dL_i/d output_i / sum(w), or 0 where sum(w) is 0.
            totals: (2,) float64, to which sum(w_i L_i) and sum(w_i) are added.
            scaling: where given, delta is also multiplied by scaling[LOSS_SCALE].
        """

    # --- update ---------------------------------------------------------------------------------
    # Flat buffers (P,). The gradient is read as gradients * scalars[GRADIENT_SCALE]. Optimizer
    # state that a variant does without is None. Formulas are in `mlp.optimizers`; their t is
    # counters[STEP] - counters[SKIPPED]. Optimizers and `decay` do nothing where scalars[SKIP] is
    # 1.

    def unscale(self, gradients: Array, scaling: Array, scalars: Array, counters: Array) -> None:
        """Gradients *= 1 / scaling[LOSS_SCALE], and what follows for this step and the next scale.

        Where all gradients are finite, GOOD_STEPS += 1, and when it reaches GOOD_STEPS_TO_DOUBLE,
        LOSS_SCALE *= 2 and GOOD_STEPS = 0. Else scalars[SKIP] = 1, counters[SKIPPED] += 1,
        LOSS_SCALE /= 2 and GOOD_STEPS = 0.

        Source: Micikevicius et al., "Mixed precision training", ICLR 2018; torch.amp.GradScaler.
        """

    def sgd(
        self,
        parameters: Array,
        gradients: Array,
        velocity: Array | None,
        scalars: Array,
        counters: Array,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None: ...

    def rmsprop(
        self,
        parameters: Array,
        gradients: Array,
        square: Array,
        mean: Array | None,
        velocity: Array | None,
        scalars: Array,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
    ) -> None: ...

    def adagrad(
        self,
        parameters: Array,
        gradients: Array,
        total: Array,
        scalars: Array,
        counters: Array,
        lr_decay: float,
        weight_decay: float,
        eps: float,
    ) -> None: ...

    def adam(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        v: Array,
        v_max: Array | None,
        scalars: Array,
        counters: Array,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
        eps_hat: bool = False,
    ) -> None: ...

    def lion(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        scalars: Array,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> None: ...

    def penalty(
        self,
        weights: Array,
        gradients: Array,
        l1: float,
        l2: float,
        steps: PenaltySteps | None = None,
    ) -> None:
        """Gradients += l1 sign(weights) + l2 weights: of the penalty l1 sum|w| + l2/2 sum w^2.

        With `steps`, and k = counters[BATCH], what is added is times scales[k], and values[k]
        receives the penalty.
        """

    def decay(self, weights: Array, scalars: Array, weight_decay: float) -> None:
        """Weights *= 1 - learning rate * weight_decay: decay that no optimizer rescales."""

    def clip_norm(self, gradients: Array, max_norm: float, scalars: Array) -> None:
        """scalars[GRADIENT_SCALE] = min(1, max_norm / (||gradients|| + 1e-6)).

        Source: torch.nn.utils.clip_grad_norm_. The update applies it, so no pass is spent on it.
        """

    # --- control --------------------------------------------------------------------------------

    def begin_epoch(
        self,
        counters: Array,
        totals: Array,
        order: Array,
        rates: Array,
        epoch: int,
        new_rates: HostArray,
    ) -> None:
        """counters[BATCH] = -1, totals = 0, rates = new_rates, and the order of this epoch.

        order (N,) int64 receives `mlp.random.permutation` of counters[SEED] and the epoch.
        """

    def begin_step(
        self,
        counters: Array,
        rates: Array,
        scalars: Array,
        order: Array,
        index: Array,
        batch_size: int,
    ) -> None:
        """counters[BATCH] += 1, counters[STEP] += 1, scalars = [rates[counters[BATCH]], 1, 0].

        index (B,) int64 receives order[batch_size * counters[BATCH] mod len(order)] and the B - 1
        that follow, so that nothing in a step depends on a number that the host holds. An epoch
        starts with counters[BATCH] = -1, so that its first step is batch 0.
        """

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes of rows can be on the device at once, beside all else."""

    def stream(self, rows: EpochRows, batch_size: int) -> RowStream:
        """A stream of rows for which the device, or the host's memory, has no room."""

    def predictor(
        self, layers: Sequence[Any], flat: Array, repeated: bool = False
    ) -> Callable[[Array, Array], None]:
        """A function of (x, out) that writes the outputs (N, O) of rows x (N, I) to out.

        `layers` are `mlp.backpropagation.Layer`s, whose dropout is not applied, and `flat` is the
        buffer of the parameters: their b are views of it, and their W where those are no copies of
        a compute dtype. The function goes on reading these, whose numbers may change from call to
        call. x and out are of the network's dtype. `repeated` says that the same two will come
        again and again, so that a backend may record the pass, and hold them.
        """

    def capture(self, steps: Steps) -> AbstractContextManager[Run]:
        """A context whose value runs the steps as cheaply as can be.

        NumPy runs `steps.run` itself, others may record or compile the steps; what they make is
        held equal to the reference step by step. What a recording holds (arrays, threads) it holds
        until the context ends.
        """

    def synchronize(self) -> None:
        """Wait until everything that was asked for has been done."""
