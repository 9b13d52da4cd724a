"""Every number of one row's pass through a network and back, collected before it is written up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.activations import get_activation
from mlp.backends.protocol import HostArray
from mlp.losses import FORMS, Loss
from mlp.network import Network


@dataclass(frozen=True)
class LayerTrace:
    """One layer with I inputs and O outputs; all float64.

    Attributes:
        number: from 1, of `depth` layers.
        x, z, a: input (I,), weighted sum (O,), output (O,).
        W, b, dW, db: parameters and their gradients, (I, O) and (O,).
        upstream: dL/da (O,).
        slope: g'(z) (O,); None for softmax, which mixes its outputs.
        delta: dL/dz (O,).
        next_W, next_delta: the next layer's W (O, its outputs) and δ; None in the last layer.
    """

    number: int
    depth: int
    activation: str
    x: HostArray
    W: HostArray
    b: HostArray
    z: HostArray
    a: HostArray
    upstream: HostArray
    slope: HostArray | None
    delta: HostArray
    dW: HostArray
    db: HostArray
    next_W: HostArray | None = None
    next_delta: HostArray | None = None

    @property
    def is_output(self) -> bool:
        return self.number == self.depth


@dataclass(frozen=True)
class Trace:
    """One row: its features, every layer, the loss.

    Attributes:
        raw: features (I,) as given, before standardisation.
        target: what the outputs are compared with (O,): numbers, or a label as a one-hot row, its
            smoothing included.
        matched: the loss form that merges the output activation, or None.
        names: what each output stands for, or None.
        label: the row's class, or None.
    """

    raw: HostArray
    layers: tuple[LayerTrace, ...]
    loss: Loss
    value: float
    target: HostArray
    matched: str | None
    names: tuple[str, ...] | None
    label: str | None

    @classmethod
    def of(cls, net: Network, X: HostArray, y: Any, loss: Loss) -> Trace:
        """Runs X (1, I) forwards and backwards on the network's own backend.

        z is recomputed on the host, since a backend keeps it only where a derivative needs it.
        """
        found = net.gradients(X, y, loss)
        form, matched = loss.form(net.spec.output_activation)
        rows = net.check_target(y, 1, loss)
        a = [row[0].astype(np.float64) for row in found.activations]
        delta = [row[0].astype(np.float64) for row in found.deltas]
        W = [weights.astype(np.float64) for weights in net.weights]
        b = [biases.astype(np.float64) for biases in net.biases]
        x = net.backend.to_host(net.rows_to_device(X))[0].astype(np.float64)
        layers = []
        for i, layer in enumerate(net.spec.layers):
            z = x @ W[i] + b[i]
            following = (W[i + 1], delta[i + 1]) if i + 1 < len(a) else (None, None)
            if i + 1 < len(a):
                upstream = W[i + 1] @ delta[i + 1]
            else:
                upstream = FORMS[loss.name](a[i][None], rows, loss.parameter)[1][0]
            layers.append(
                LayerTrace(
                    i + 1, len(a), layer.activation, x, W[i], b[i], z, a[i],
                    upstream, _slope(layer.activation, z, a[i]), delta[i],
                    found.weights[i].astype(np.float64), found.biases[i].astype(np.float64),
                    *following,
                )
            )  # fmt: skip
            x = a[i]
        names = _output_names(net, loss)
        label = _label(names, rows)
        return cls(
            np.asarray(X)[0], tuple(layers), loss, found.loss, _target_row(rows, loss, len(a[-1])),
            form if matched else None, names, label,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All arrays in full, as lists."""
        fields = ("x", "z", "a", "delta", "dW", "db")
        return {
            "features": self.raw.tolist(),
            "layers": [
                {"number": layer.number, "activation": layer.activation}
                | {name: getattr(layer, name).tolist() for name in fields}
                for layer in self.layers
            ],
            "target": self.target.tolist(),
            "label": self.label,
            "loss_name": self.loss.name,
            "loss": self.value,
        }


def _slope(activation: str, z: HostArray, a: HostArray) -> HostArray | None:
    row = get_activation(activation)
    if row.derivative is None:
        return None
    return row.derivative(z if row.saves == "z" else a)


def _target_row(rows: HostArray, loss: Loss, outputs: int) -> HostArray:
    """The target (O,) as the loss formula sees it: t_k = (1 - s) y_k + s / O for classes."""
    row = np.eye(outputs)[int(rows[0])] if rows.ndim == 1 else rows[0]
    if loss.targets == "classes":
        row = row * (1 - loss.parameter) + loss.parameter / outputs
    return np.asarray(row, dtype=np.float64)


def _output_names(net: Network, loss: Loss) -> tuple[str, ...] | None:
    """A name per output; of a single yes-no output, the names of no and yes."""
    outputs = net.spec.outputs
    if loss.targets not in ("classes", "unit"):
        return None
    if net.classes is None:
        return tuple(map(str, range(outputs))) if loss.targets == "classes" else None
    fitting = len(net.classes) == (2 if outputs == 1 and loss.targets == "unit" else outputs)
    return tuple(map(str, net.classes)) if fitting else None


def _label(names: tuple[str, ...] | None, rows: HostArray) -> str | None:
    """The name of the row's class, where its target is one class."""
    if names is None:
        return None
    if rows.ndim == 1:
        return names[int(rows[0])]
    return names[int(rows[0, 0] >= 0.5)] if rows.shape[1] == 1 and len(names) == 2 else None
