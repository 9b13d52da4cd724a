"""Prediction on a CUDA device: a forward pass over blocks of rows, without dropout."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp.backends.cuda.device import Graph
from mlp.backends.protocol import Array

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

# Bytes that the intermediate results of a block of rows may take, and their share of what is free.
BLOCK_BYTES = 256 * 2**20
SHARE_OF_BLOCKS = 0.25


class Predictor:
    """A function of (x, out); its room is allocated when it is first called.

    Args:
        backend: whose operations it uses.
        layers: `mlp.backpropagation.Layer`s, whose arrays it goes on reading.
        flat: the buffer of the parameters.
        repeated: whether the same x and out come again and again: then the pass is recorded, which
            holds both.
    """

    def __init__(
        self, backend: CupyBackend, layers: Sequence[Any], flat: Array, repeated: bool
    ) -> None:
        self._backend, self._layers, self._repeated = backend, layers, repeated
        self._recorded: tuple[tuple[int, int, int], Graph] | None = None
        self._dtype, self._compute = flat.dtype, backend.compute_dtype(flat.dtype)
        self._chains = backend.chains(layers, flat, training=False)
        *inner, _ = runs = self._chains.runs
        between = [layers[run.stop - 1].W.shape[1] for run in inner]
        # A run reads what the one before it wrote: two buffers take turns, and one for the rows
        # where these are not of the compute dtype and no chain converts them.
        self._widths = [max(between[i::2], default=0) for i in (0, 1)]
        converted = self._compute != self._dtype and not runs[0].is_chain
        self._inputs = layers[0].W.shape[0] if converted else 0
        row = (sum(self._widths) + self._inputs) * self._compute.itemsize
        room = min(BLOCK_BYTES, int(SHARE_OF_BLOCKS * backend.on.free_bytes))
        self._block = max(room // max(row, 1), 1)
        self._buffers: list[Array] = []
        self._rows = 0
        self._lock = threading.Lock()  # the buffers are one set

    def __call__(self, x: Array, out: Array) -> None:
        with self._lock:
            self._allocate(min(len(x), self._block))
            if self._repeated:
                self._graph(x, out)()
            else:
                self._predict_all(x, out)

    def _graph(self, x: Array, out: Array) -> Graph:
        key = (x.data.ptr, out.data.ptr, len(x))
        if self._recorded is None or self._recorded[0] != key:
            with self._backend.on.recorded() as launches:
                self._predict_all(x, out)
            self._recorded = key, self._backend.on.graph(launches)
        return self._recorded[1]

    def _predict_all(self, x: Array, out: Array) -> None:
        for start in range(0, len(x), self._block):
            part = slice(start, start + self._block)
            self._predict(x[part], out[part])

    def _allocate(self, rows: int) -> None:
        if rows <= self._rows:
            return
        self._buffers = []  # given back before more is asked for
        widths = [*self._widths, self._inputs]
        self._buffers = [self._backend.empty((rows * width,), self._compute) for width in widths]
        self._rows = rows

    def _predict(self, x: Array, out: Array) -> None:
        backend, rows = self._backend, len(x)
        *turns, inputs = self._buffers
        if self._inputs:
            converted = inputs[: x.size].reshape(x.shape)
            backend.copy(x, converted)
            x = converted
        for i, run in enumerate(self._chains.runs):
            a = out
            if run.stop < len(self._layers):
                width = self._layers[run.stop - 1].W.shape[1]
                a = turns[i % 2][: rows * width].reshape(rows, width)
            self._chains.predict(run, x, a)
            x = a
