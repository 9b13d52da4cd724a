"""One flat buffer for all parameters of a network, and views of it per layer.

The weights of all layers come first, then all biases, each starting on a multiple of 256 bytes.
Gradients and optimizer state have the same layout, so an update is one pass over flat arrays, and
what concerns weights alone (penalties, decay) takes the first `weights_end` elements. The padding
between views is 0 and stays 0: its gradient is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import ALIGNMENT, Array, Backend, HostArray
from mlp.spec import NetworkSpec


@dataclass(frozen=True)
class Layout:
    """Where each weight matrix and bias vector lies in a flat buffer, in elements.

    Attributes:
        weight_offsets, bias_offsets: first element of each layer's W and b.
        weights_end: elements up to the first bias, padding included.
        size: elements in all.
    """

    spec: NetworkSpec
    weight_offsets: tuple[int, ...]
    bias_offsets: tuple[int, ...]
    weights_end: int
    size: int

    @classmethod
    def of(cls, spec: NetworkSpec, dtype: np.dtype[Any]) -> Layout:
        """The layout of buffers of `dtype`, or of several dtypes of which it is the smallest."""
        unit = ALIGNMENT // dtype.itemsize
        offsets, end = [], 0
        sizes = [i * o for i, o in zip(spec.widths, spec.widths[1:], strict=False)]
        for size in (*sizes, *spec.widths[1:]):
            offsets.append(end)
            end += -(-size // unit) * unit
        depth = len(spec.layers)
        return cls(spec, tuple(offsets[:depth]), tuple(offsets[depth:]), offsets[depth], end)

    def weights(self, flat: Array) -> list[Array]:
        """Views W (I, O) of a flat buffer, one per layer."""
        widths = self.spec.widths
        return [
            flat[start : start + i * o].reshape(i, o)
            for start, i, o in zip(self.weight_offsets, widths, widths[1:], strict=False)
        ]

    def biases(self, flat: Array) -> list[Array]:
        """Views b (O,) of a flat buffer, one per layer."""
        return [
            flat[start : start + o]
            for start, o in zip(self.bias_offsets, self.spec.widths[1:], strict=True)
        ]


class ParameterBuffer:
    """A flat array of one layout (parameters, their copies, or gradients), with its views.

    Attributes:
        flat: (size,) of `dtype`.
        weights, biases: views of it per layer, (I, O) and (O,).
    """

    def __init__(self, backend: Backend, layout: Layout, dtype: np.dtype[Any]) -> None:
        self.layout = layout
        self.flat = backend.zeros((layout.size,), dtype)
        self.weights = layout.weights(self.flat)
        self.biases = layout.biases(self.flat)


def host_copies(
    backend: Backend, arrays: Iterable[Array], dtype: np.dtype[Any]
) -> tuple[HostArray, ...]:
    """Copies on the host, read-only, so that no one takes them for the arrays themselves."""
    copies = tuple(backend.to_host(array).astype(dtype, copy=False) for array in arrays)
    for array in copies:
        array.flags.writeable = False
    return copies
