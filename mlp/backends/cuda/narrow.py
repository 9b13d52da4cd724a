"""Runs of narrow layers in a network: forward in one kernel, and back in another.

What is not narrow (a layer wider than 128) goes through the ordinary products, before, between and
after the runs. There are no runs in float64, in 16 bits without tensor cores, and where a layer's
weights do not fit in the device's shared memory; `backend.fused_chain = False` turns all of them
off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.activations import get_activation
from mlp.backends.protocol import Array, HostArray
from mlp.random import dropout_threshold
from mlp_kernels.cuda import narrow, softmax
from mlp_kernels.cuda.launch import Launch, Room
from mlp_kernels.cuda.narrow_plan import (
    WIDEST,
    DeltaPlan,
    ForwardPlan,
    NarrowLayer,
    can_chain,
    plan_deltas,
)
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend


@dataclass(frozen=True)
class Run:
    """Layers start, ..., stop - 1 of a network: a chain, or one layer for the ordinary products.

    Attributes:
        back: how the way back through a chain is divided into launches; None for ordinary products.
    """

    start: int
    stop: int
    is_chain: bool
    back: tuple[DeltaPlan, ...] | None = None


class Chains:
    """A network's layers on one backend, run by run.

    Args:
        backend: whose operations do what is in no chain.
        device, room: what its launches are made for.
        layers: `mlp.backpropagation.Layer`s, whose arrays are used from then on.
        flat: the buffer of the parameters.
        training: whether there is a way back, and dropout.
    """

    def __init__(
        self,
        backend: CupyBackend,
        device: Device,
        room: Room,
        layers: Sequence[Any],
        flat: Array,
        training: bool,
    ) -> None:
        self._backend, self._device, self._room = backend, device, room
        self._flat, self._training = flat, training
        self._layers = [*layers] if training else [replace(each, dropout=None) for each in layers]
        self._compute = backend.compute_dtype(flat.dtype)
        self._tables: dict[bytes, Array] = {}
        self.runs = self._find_runs()

    @property
    def any(self) -> bool:
        """Whether there is a chain."""
        return any(run.is_chain for run in self.runs)

    # --- what is in a chain ---------------------------------------------------------------------

    def _find_runs(self) -> list[Run]:
        if not (self._backend.fused_chain and can_chain(self._device, self._compute)):
            return [Run(i, i + 1, False) for i in range(len(self._layers))]
        runs: list[Run] = []
        for fits, group in groupby(range(len(self._layers)), self._fits):
            found = [*group]
            start, stop = found[0], found[-1] + 1
            chain = [self._placed(i) for i in found]
            if fits and len(found) > 1 and ForwardPlan.of(self._device, self._compute, chain):
                plans = plan_deltas(self._device, self._compute, chain, below=start > 0)
                runs.append(Run(start, stop, True, None if plans is None else tuple(plans)))
            else:
                runs += [Run(i, i + 1, False) for i in found]
        return runs

    def _fits(self, i: int) -> bool:
        layer, is_last = self._layers[i], i == len(self._layers) - 1
        if max(layer.W.shape) > WIDEST:
            return False
        if layer.activation == "softmax":  # a pass of its own, after the chain
            return is_last and layer.dropout is None
        # The output layer of 16 bits is in float32, beside the tape; a chain has no place for more
        # of it than its output.
        beside = is_last and self._training and self._compute.itemsize == 2
        saved_apart = get_activation(layer.activation).saves == "z" or layer.dropout is not None
        return not (beside and saved_apart)

    def _placed(self, i: int, tape: Any = None) -> NarrowLayer:
        """Layer i as the kernels take it, with places on the tape where there is one."""
        layer = self._layers[i]
        kept: dict[str, int] = {}
        if tape is not None:
            arrays = {
                "x": tape.a[i - 1] if i else tape.x, "a": tape.a[i], "saved": tape.saved[i],
                "delta": tape.delta[i],
            }  # fmt: skip
            kept = {
                name: _place(array, tape.flat)
                for name, array in arrays.items()
                if array.dtype == tape.flat.dtype  # else it is the output of 16 bits
            }
        dropout = layer.dropout
        inputs, outputs = layer.W.shape
        return NarrowLayer(
            inputs, outputs,
            "identity" if layer.activation == "softmax" else layer.activation,
            W=_place(layer.W, self._weights), b=_place(layer.b, self._flat),
            dropout=None if dropout is None else DropoutNumbers(
                dropout_threshold(dropout.rate), 1 / (1 - dropout.rate), dropout.layer,
                dropout.counters,
            ),
            **kept,
        )  # fmt: skip

    @property
    def _weights(self) -> Array:
        """The first of all, from which places are counted."""
        return self._layers[0].W

    def _upload(self, table: HostArray) -> Array:
        """On the device, where it stays for the next call."""
        key = table.tobytes()
        if key not in self._tables:
            self._tables[key] = self._backend.from_host(table, np.int64)
        return self._tables[key]

    def _submit(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            self._backend.on.submit(launch)

    # --- passes ---------------------------------------------------------------------------------

    def forward(self, tape: Any) -> None:
        """What `mlp.backpropagation.forward` does."""
        for run in self.runs:
            x = tape.a[run.start - 1] if run.start else tape.x
            a, saved = tape.a[run.stop - 1], tape.saved[run.stop - 1]
            if run.is_chain:
                self._forward_chain(run, x, a, tape)
            else:
                layer = self._layers[run.start]
                self._backend.linear_forward(
                    x, layer.W, layer.b, layer.activation, a, saved, layer.dropout
                )

    def predict(self, run: Run, x: Array, out: Array) -> None:
        """Rows x (B, I) through the layers of a run, to out (B, O)."""
        if run.is_chain:
            self._forward_chain(run, x, out, None)
            return
        layer = self._layers[run.start]
        self._backend.linear_forward(x, layer.W, layer.b, layer.activation, out, None)

    def _forward_chain(self, run: Run, x: Array, a: Array, tape: Any) -> None:
        layers = [self._placed(i, tape) for i in range(run.start, run.stop)]
        on_tape = tape is not None and a.dtype == tape.flat.dtype
        self._submit([narrow.narrow_forward(
            self._device, self._upload, x, self._weights, self._flat, layers,
            None if tape is None else tape.flat, None if on_tape else a,
        )])  # fmt: skip
        if self._layers[run.stop - 1].activation == "softmax":
            self._submit([softmax.softmax_rows(a, a, None)])

    def backward(self, tape: Any, gradients: Array) -> None:
        """What `mlp.backpropagation.backward` does.

        Where a chain sums the gradients of its weights, the deltas inside it are not written.
        """
        for run in reversed(self.runs):
            if run.back is None:
                for i in range(run.stop - 1, run.start - 1, -1):
                    self._backward_layer(i, tape)
                continue
            for plan in run.back:
                self._backward_chain(run, plan, tape, gradients)

    def _backward_layer(self, i: int, tape: Any) -> None:
        """By the ordinary products; as in `mlp.backpropagation`, db came with the delta."""
        layer, is_last = self._layers[i], i == len(self._layers) - 1
        x = tape.a[i - 1] if i else tape.x
        self._backend.linear_grads(x, tape.delta[i], layer.dW, layer.db if is_last else None)
        if i:
            below = self._layers[i - 1]
            self._backend.linear_delta(
                tape.delta[i], layer.W, tape.saved[i - 1], below.activation, tape.delta[i - 1],
                below.db, below.dropout,
            )  # fmt: skip

    def _backward_chain(self, run: Run, plan: DeltaPlan, tape: Any, gradients: Array) -> None:
        start, stop = run.start + plan.start, run.start + plan.stop
        layers = [self._placed(i, tape) for i in range(start, stop)]
        if plan.accumulate:
            layers = [replace(layer, delta=None) for layer in layers]
        below = self._placed(start - 1, tape) if start else None
        self._submit(narrow.narrow_delta(
            self._device, self._room, self._upload, tape.delta[stop - 1], self._weights, layers,
            below, stop == len(self._layers), tape.flat, gradients, plan,
        ))  # fmt: skip
        if not plan.accumulate:
            for i in range(start, stop):
                x = tape.a[i - 1] if i else tape.x
                self._backend.linear_grads(x, tape.delta[i], self._layers[i].dW, None)


def _place(array: Array, base: Array) -> int:
    """Where an array begins, in elements from the beginning of another."""
    return int(array.data.ptr - base.data.ptr) // int(array.dtype.itemsize)
