"""Prediction on the processor: a network laid out for `mlp_kernels.cpu.inference`, and run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlp.backends import threads as teams
from mlp.backends.compilation import announced, machine_code
from mlp.backends.host import aligned_empty
from mlp.backends.protocol import Array
from mlp_kernels.cpu import inference
from mlp_kernels.cpu.activations import ACTIVATIONS
from mlp_kernels.cpu.product import SCRATCH_BYTES
from mlp_kernels.cpu.units import layer_units

# Work that makes up for waking another thread, in FLOPs.
WORTH_A_THREAD = 1e7


class Predictor:
    """A function of (x, out), compiled and with its room allocated when it is first called.

    Args:
        layers: `mlp.backpropagation.Layer`s, whose arrays it goes on reading.
        flat: the buffer that their W and b are views of.
        limit: the most threads.
        packed: the type of the products' packed operands.
    """

    def __init__(
        self, layers: Sequence[Any], flat: Array, limit: int, packed: np.dtype[Any]
    ) -> None:
        self._layers, self._flat, self._packed = layers, flat, packed
        self._limit = limit
        self._flops = sum(2.0 * layer.W.size for layer in layers)
        self._lock = threading.Lock()  # the room for intermediate results is one
        self._threads = 0

    def __call__(self, x: Array, out: Array) -> None:
        rows = x.shape[0]
        worth = int(rows * self._flops / WORTH_A_THREAD)
        blocks = -(-rows // inference.BLOCK_ROWS)
        threads = max(1, min(self._limit, worth, blocks))
        with self._lock:
            if threads > self._threads:
                self._prepare(threads)
            if threads == 1:
                self._run(*self._fixed, x, out, *self._room, 0, 1)
                return
            teams.TEAM.run(
                lambda thread, count: self._run(*self._fixed, x, out, *self._room, thread, count),
                threads,
            )

    def _prepare(self, threads: int) -> None:
        dtype = self._flat.dtype
        table = np.array(
            [
                [
                    *layer.W.shape, start_in(layer.W, self._flat), start_in(layer.b, self._flat),
                    ACTIVATIONS[layer.activation],
                ]
                for layer in self._layers
            ],
            np.int64,
        )  # fmt: skip
        widest = max(layer.b.size for layer in self._layers)
        self._room = (
            aligned_empty((threads, 2 * inference.BLOCK_ROWS * widest), dtype),
            aligned_empty((threads, SCRATCH_BYTES // self._packed.itemsize), self._packed),
        )
        rows = aligned_empty((1, 1), dtype)
        with announced():
            self._fixed = (table, layer_units(dtype, self._packed, False), self._flat)
            self._run = machine_code(inference.predict, *self._fixed, rows, rows, *self._room, 0, 1)
        self._threads = threads


def start_in(view: Array, flat: Array) -> int:
    """Where in a flat buffer a view of it begins, in elements."""
    return int(view.ctypes.data - flat.ctypes.data) // int(flat.itemsize)
