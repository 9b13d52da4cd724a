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
    """Arrays and settings of one layer: W (I, O), b (O,), and their gradients."""

    W: Array
    b: Array
    activation: str
    dropout: Dropout | None = None
    dW: Array = None
    db: Array = None


@dataclass(frozen=True)
class Tape:
    """What a pass over B rows writes, allocated once: views of one flat buffer.

    Attributes:
        flat: the buffer.
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
        """Arrays for batches of `rows`; `dropout`: whether the pass applies the layers' dropout."""
        apart = [
            get_activation(layer.activation).saves == "z" or (dropout and layer.dropout > 0)
            for layer in spec.layers
        ]
        units = [layer.units for layer in spec.layers]
        widths = [spec.inputs, *units, *(o for o, own in zip(units, apart, strict=True) if own)]
        flat, views = rows_in_one(backend, rows, [*widths, *units], dtype)
        depth = len(units)
        x, a, delta = views[0], views[1 : depth + 1], views[-depth:]
        own_saved = iter(views[depth + 1 : -depth])
        saved = [next(own_saved) if own else a[i] for i, own in enumerate(apart)]
        return cls(flat, x, tuple(a), tuple(saved), tuple(delta))

    def first(self, rows: int) -> Tape:
        """Views of the first `rows` rows, for a batch that is not full."""
        return Tape(
            self.flat,
            self.x[:rows],
            tuple(a[:rows] for a in self.a),
            tuple(saved[:rows] for saved in self.saved),
            tuple(delta[:rows] for delta in self.delta),
        )


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
) -> None:
    """Adds the batch's loss to `totals` and writes delta_L."""
    delta, output = tape.delta[-1], tape.a[-1]
    backend.loss(loss.form, output, target, weight, loss.parameter, delta, totals)
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
