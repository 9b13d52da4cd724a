"""Loss, gradients and everything on the way to them, for one batch: every number on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.protocol import LOSS_SUM, WEIGHT_SUM, HostArray
from mlp.backpropagation import OutputLoss, Tape, backward, forward, output_delta
from mlp.losses import Loss
from mlp.parameters import ParameterBuffer, host_copies

if TYPE_CHECKING:
    from mlp.network import Network


@dataclass(frozen=True)
class Gradients:
    """What `Network.gradients` computes; all arrays are on the host, in the network's dtype.

    Attributes:
        loss: the mean loss of the batch.
        weights: dLoss/dW (I, O) per layer.
        biases: dLoss/db (O,) per layer.
        deltas: dLoss/dz (B, O) per layer.
        activations: a (B, O) per layer.
    """

    loss: float
    weights: tuple[HostArray, ...]
    biases: tuple[HostArray, ...]
    deltas: tuple[HostArray, ...]
    activations: tuple[HostArray, ...]


def compute_gradients(
    network: Network, X: Any, y: Any, loss: Loss, sample_weight: Any = None
) -> Gradients:
    """What `Network.gradients` answers; its arguments are described there."""
    backend, spec, dtype = network.backend, network.spec, network.dtype
    joined = OutputLoss.of(loss, spec.output_activation)
    rows = network.rows_to_device(X)
    target = network.target_to_device(y, len(rows), loss)
    weight = network.weight_to_device(sample_weight, len(rows))
    buffer = ParameterBuffer(backend, network.layout, dtype)
    tape = Tape.allocate(backend, spec, len(rows), dtype, dropout=False)
    totals = backend.zeros((2,), np.float64)
    layers = network.layers(buffer)
    backend.copy(rows, tape.x)
    forward(backend, layers, tape)
    activations = host_copies(backend, tape.a)
    if joined.activation != spec.output_activation:  # the loss takes z: run again to it
        forward(backend, joined.layers(layers), tape)
    output_delta(backend, joined, tape, target, weight, totals)
    backward(backend, layers, tape)
    sums = backend.to_host(totals)
    return Gradients(
        loss=float(sums[LOSS_SUM] / sums[WEIGHT_SUM]),
        weights=host_copies(backend, buffer.weights),
        biases=host_copies(backend, buffer.biases),
        deltas=host_copies(backend, tape.delta),
        activations=activations,
    )
