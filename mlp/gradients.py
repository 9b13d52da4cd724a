"""Loss, gradients and everything on the way to them, for one batch: every number on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlp.backends.protocol import LOSS_SUM, WEIGHT_SUM, Array, Backend, HostArray
from mlp.backpropagation import Layer, OutputLoss, Tape, backward, forward, output_delta
from mlp.parameters import ParameterBuffer, host_copies
from mlp.spec import NetworkSpec


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
    backend: Backend,
    spec: NetworkSpec,
    layers: Sequence[Layer],
    gradients: ParameterBuffer,
    loss: OutputLoss,
    x: Array,
    target: Array,
    weight: Array | None,
) -> Gradients:
    """One pass forward and back over a batch on the device.

    Args:
        layers: with the spec's own output activation; they write to `gradients`.
        x: the batch (B, I).
        target, weight: as `Backend.loss` takes them.
    """
    dtype = gradients.flat.dtype
    tape = Tape.allocate(backend, spec, len(x), dtype, dropout=False)
    totals = backend.zeros((2,), np.float64)
    backend.copy(x, tape.x)
    forward(backend, layers, tape)
    activations = host_copies(backend, tape.a, dtype)
    if loss.activation != spec.output_activation:  # the loss takes z: run again to it
        forward(backend, loss.layers(layers), tape)
    output_delta(backend, loss, tape, target, weight, totals)
    backward(backend, layers, tape)
    sums = backend.to_host(totals)
    return Gradients(
        loss=float(sums[LOSS_SUM] / sums[WEIGHT_SUM]),
        weights=host_copies(backend, gradients.weights, dtype),
        biases=host_copies(backend, gradients.biases, dtype),
        deltas=host_copies(backend, tape.delta, dtype),
        activations=activations,
    )
