"""Backpropagation, stated once, in terms of the backend's fused operations.

For one batch x of B rows through layers 1..L:

    forward     a_0 = x,   z_l = a_{l-1} W_l + b_l,   a_l = g_l(z_l)
    loss        delta_L = dLoss/dz_L
    backward    dW_l = a_{l-1}^T delta_l,   db_l = column sums of delta_l,
                delta_{l-1} = (delta_l W_l^T) * g'_{l-1}

(Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323,
1986.) Rows are samples, so each formula is the transpose of its column-vector form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlp.activations import get_activation
from mlp.backends.protocol import ALIGNMENT, Array, Backend, Dropout
from mlp.losses import Loss
from mlp.spec import NetworkSpec


@dataclass(frozen=True)
class Layer:
    """Arrays and settings of one layer: W (I, O), b (O,), and their gradients.

    W is of the compute dtype, see `Backend.compute_dtype`; the others are of the network's.
    """

    W: Array
    b: Array
    activation: str
    dropout: Dropout | None = None
    dW: Array = None
    db: Array = None


@dataclass(frozen=True)
class Tape:
    """What a pass over B rows writes, allocated once: views of one flat buffer.

    They are of the compute dtype, but the output layer's `a` and `saved` of the network's: where
    the two differ, these lie in a buffer of their own.

    Attributes:
        flat: the buffer of the compute dtype.
        x: the batch (B, I).
        a: each layer's output (B, O), after dropout.
        saved: what each layer's derivative needs (B, O); may be the same array as in `a`.
        delta: dLoss/dz of each layer (B, O).
    """

    flat: Array
    x: Array
    a: tuple[Array, ...]
    saved: tuple[Array, ...]
    delta: tuple[Array, ...]

    @classmethod
    def allocate(
        cls, backend: Backend, spec: NetworkSpec, rows: int, dtype: np.dtype[Any], *, dropout: bool
    ) -> Tape:
        """Arrays for batches of `rows`.

        Args:
            dtype: the network's.
            dropout: whether the pass applies the layers' dropout.
        """
        compute = backend.compute_dtype(dtype)
        room = TapeRoom.of(spec, dropout=dropout, together=compute == dtype)
        outputs: list[Array] = []
        if room.output_widths:
            _, outputs = rows_in_one(backend, rows, room.output_widths, dtype)
        flat, views = rows_in_one(backend, rows, room.widths, compute)
        depth, hidden = len(spec.layers), room.hidden
        x, a, delta = views[0], [*views[1 : hidden + 1], *outputs[:1]], views[-depth:]
        own_saved = iter([*views[hidden + 1 : -depth], *outputs[1:]])
        saved = [next(own_saved) if own else a[i] for i, own in enumerate(room.apart)]
        return cls(flat, x, tuple(a), tuple(saved), tuple(delta))

    def first(self, rows: int) -> Tape:
        """Views of the first `rows` rows, for a batch that is not full."""
        a = tuple(a[:rows] for a in self.a)
        saved = [
            part if kept is whole else kept[:rows]  # what is one array stays one
            for part, whole, kept in zip(a, self.a, self.saved, strict=True)
        ]
        delta = tuple(delta[:rows] for delta in self.delta)
        return Tape(self.flat, self.x[:rows], a, tuple(saved), delta)


@dataclass(frozen=True)
class TapeRoom:
    """What a tape holds of each row.

    Attributes:
        apart: for each layer, whether what is saved of it is an array of its own.
        hidden: how many layers' outputs are in the buffer of the compute dtype.
        widths: of the arrays in that buffer: x, outputs, what is saved apart, deltas.
        output_widths: of those in the other buffer; empty where all are in one.
    """

    apart: tuple[bool, ...]
    hidden: int
    widths: tuple[int, ...]
    output_widths: tuple[int, ...]

    @classmethod
    def of(cls, spec: NetworkSpec, *, dropout: bool, together: bool) -> TapeRoom:
        apart = tuple(
            get_activation(layer.activation).saves == "z" or (dropout and layer.dropout > 0)
            for layer in spec.layers
        )
        units = [layer.units for layer in spec.layers]
        hidden = len(units) if together else len(units) - 1
        saved = [o for o, own in zip(units[:hidden], apart, strict=False) if own]
        output_widths = [] if together else [units[-1]] * (1 + apart[-1])
        widths = (spec.inputs, *units[:hidden], *saved, *units)
        return cls(apart, hidden, widths, tuple(output_widths))


def rows_in_one(
    backend: Backend, rows: int, widths: Sequence[int], dtype: np.dtype[Any]
) -> tuple[Array, list[Array]]:
    """A flat buffer, and a view (rows, width) of it for each width, aligned as arrays are."""
    unit = ALIGNMENT // dtype.itemsize
    starts, end = [], 0
    for width in widths:
        starts.append(end)
        end += -(-rows * width // unit) * unit
    flat = backend.empty((end,), dtype)
    views = [
        flat[start : start + rows * width].reshape(rows, width)
        for start, width in zip(starts, widths, strict=True)
    ]
    return flat, views


@dataclass(frozen=True)
class OutputLoss:
    """A loss joined to an output activation.

    Attributes:
        form: the loss form to compute.
        activation: what the output layer applies: its own function, or identity where the form
            merges it into the loss.
        parameter: the form's number.
    """

    form: str
    activation: str
    parameter: float

    @classmethod
    def of(cls, loss: Loss, output_activation: str) -> OutputLoss:
        """Raises InvalidSetting where the loss cannot follow the activation."""
        form, matched = loss.form(output_activation)
        return cls(form, "identity" if matched else output_activation, loss.parameter)

    def layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """`layers`, the last with the activation that the form expects."""
        return [*layers[:-1], replace(layers[-1], activation=self.activation)]


def forward(backend: Backend, layers: Sequence[Layer], tape: Tape) -> Array:
    """Runs tape.x (B, I) through all layers; returns the output (B, O)."""
    x = tape.x
    for layer, a, saved in zip(layers, tape.a, tape.saved, strict=True):
        backend.linear_forward(x, layer.W, layer.b, layer.activation, a, saved, layer.dropout)
        x = a
    return x


def output_delta(
    backend: Backend,
    loss: OutputLoss,
    tape: Tape,
    target: Array,
    weight: Array | None,
    totals: Array,
    scaling: Array | None = None,
) -> None:
    """Adds the batch's loss to `totals` and writes delta_L, scaled where there is a scale."""
    delta, output = tape.delta[-1], tape.a[-1]
    backend.loss(loss.form, output, target, weight, loss.parameter, delta, totals, scaling)
    if loss.activation != "identity":
        backend.activation_delta(delta, tape.saved[-1], loss.activation, delta)


def backward(backend: Backend, layers: Sequence[Layer], tape: Tape) -> None:
    """From delta_L to every layer's dW (I, O) and db (O,)."""
    last = len(layers) - 1
    for i in range(last, -1, -1):
        layer, delta = layers[i], tape.delta[i]
        x = tape.a[i - 1] if i > 0 else tape.x
        # Below the last layer, db came with the delta, from the same pass over it.
        backend.linear_grads(x, delta, layer.dW, layer.db if i == last else None)
        if i > 0:
            below = layers[i - 1]
            backend.linear_delta(
                delta, layer.W, tape.saved[i - 1], below.activation,
                tape.delta[i - 1], below.db, below.dropout,
            )  # fmt: skip
