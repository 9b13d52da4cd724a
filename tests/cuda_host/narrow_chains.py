"""A chain of narrow layers with all its arrays, its launches, and what they have to write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mlp.activations import ACTIVATIONS, activation_backward
from mlp.random import dropout_mask, dropout_threshold
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.narrow import narrow_delta, narrow_forward
from mlp_kernels.cuda.narrow_plan import ForwardPlan, NarrowLayer, plan_deltas
from mlp_kernels.cuda.products import DropoutNumbers
from mlp_kernels.cuda.tiles import Device
from tests.cuda_host.arrays import BFLOAT16, FLOAT16, FLOAT32, Room, assert_close, draw, get, put
from tests.cuda_host.memory import empty, guarded

SEED, STEP = 2**40 + 7, 5
KINDS = {"float32": FLOAT32, "tf32": FLOAT32, "bfloat16": BFLOAT16, "float16": FLOAT16}


@dataclass
class Chain:
    """A chain with all its arrays.

    Attributes:
        layers: the chain's, and before them one whose outputs are its inputs.
        weights, parameters, gradients, tape: the buffers.
    """

    kind: str
    layers: list[NarrowLayer]
    B: int
    weights: np.ndarray
    parameters: np.ndarray
    gradients: np.ndarray
    tape: np.ndarray

    @classmethod
    def of(
        cls, kind: str, widths: Any, B: int, activations: Any = (), dropped: float = 0.25,
        unit: int = 1,
    ) -> Chain:  # fmt: skip
        """Random parameters and rows; each third layer drops. Arrays begin at multiples of unit."""
        rng, dtype = np.random.default_rng([B, *widths]), KINDS[kind]
        counters = guarded(np.array([SEED, STEP, 0, 0], np.int64))
        # The first stands for the layer below, of which nothing but its results is used.
        widths = [widths[0], *widths]
        activations = activations or [("gelu", "relu")[i % 2] for i in range(len(widths) - 1)]
        ends = {"parameters": 0, "tape": 0}

        def take(buffer: str, size: int) -> int:
            start = ends[buffer]
            ends[buffer] += -(-size // unit) * unit
            return start

        layers: list[NarrowLayer] = []
        x = take("tape", B * widths[0])
        for i, ((inputs, outputs), name) in enumerate(
            zip(pairwise(widths), activations, strict=True)
        ):
            drop = None
            if i % 3 == 0 and dropped:
                drop = DropoutNumbers(dropout_threshold(dropped), 1 / (1 - dropped), i, counters)
            a = take("tape", B * outputs)
            apart = drop is not None or ACTIVATIONS[name].saves == "z"
            layers.append(NarrowLayer(
                inputs, outputs, name, take("parameters", inputs * outputs),
                take("parameters", outputs), drop, x, a,
                take("tape", B * outputs) if apart else a, take("tape", B * outputs),
            ))  # fmt: skip
            x = a
        parameters = rng.standard_normal(ends["parameters"])
        for layer in layers:
            parameters[layer.W : layer.W + layer.inputs * layer.outputs] *= layer.inputs**-0.5
        parameters = get(put(parameters, BFLOAT16))
        chain = cls(
            kind, layers, B, put(parameters, dtype), guarded(parameters, np.float32),
            empty(ends["parameters"], np.float32), empty(ends["tape"], dtype),
        )  # fmt: skip
        below = layers[0]
        chain.view(below.a, below.outputs)[...] = put(draw(B, below.outputs), dtype)
        if below.saved != below.a:
            saved = draw(B, below.outputs, scale=2.0, seed=1)
            chain.view(below.saved, below.outputs)[...] = put(saved, dtype)
        chain.view(layers[-1].delta, widths[-1])[...] = put(draw(B, widths[-1], seed=2), dtype)
        return chain

    @property
    def chained(self) -> list[NarrowLayer]:
        return self.layers[1:]

    def view(self, place: int, width: int) -> np.ndarray:
        return self.tape[place : place + self.B * width].reshape(self.B, width)

    def on_tape(self, place: int, width: int) -> np.ndarray:
        return get(self.view(place, width))

    def operand(self, values: np.ndarray) -> np.ndarray:
        """As products read it."""
        if self.kind != "tf32":
            return values
        bits = values.astype(np.float32).view(np.uint32)
        kept = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
        return kept.view(np.float32).astype(np.float64)

    def weights_of(self, layer: NarrowLayer) -> np.ndarray:
        size = layer.inputs * layer.outputs
        return get(self.weights[layer.W : layer.W + size]).reshape(layer.inputs, layer.outputs)

    def mask(self, layer: NarrowLayer) -> Any:
        if layer.dropout is None:
            return 1.0
        rate = 1 - 1 / layer.dropout.scale
        shape = self.B, layer.outputs
        return dropout_mask(SEED, STEP, layer.dropout.layer, shape, rate) / (1 - rate)

    def device(self, processors: int = 132) -> Device:
        return Device((9, 0), processors, tf32=self.kind == "tf32", shared=227 * 1024)

    # --- launches -------------------------------------------------------------------------------

    def forward(self, output: Any = None, processors: int = 132, **chosen: Any) -> Launch:
        layers, device = self.chained, self.device(processors)
        plan = ForwardPlan.of(device, self.weights.dtype, layers)
        return narrow_forward(
            device, guarded, self.view(layers[0].x, layers[0].inputs), self.weights,
            self.parameters, layers, self.tape, output, replace(plan, **chosen),
        )  # fmt: skip

    def back(
        self, room: Room, accumulate: bool, below: bool = True, processors: int = 132,
        warps: int = 4,
    ) -> list[Launch]:  # fmt: skip
        """All layers in one launch, however much shared memory that takes."""
        layers, dtype = self.chained, self.weights.dtype
        plans = plan_deltas(
            replace(self.device(), shared=10**7), dtype, layers, below, (accumulate,), (warps,)
        )
        assert [(plan.start, plan.stop) for plan in plans] == [(0, len(layers))]
        last = layers[-1]
        return narrow_delta(
            self.device(processors), room, guarded, self.view(last.delta, last.outputs),
            self.weights, layers, self.layers[0] if below else None, True, self.tape,
            self.gradients, plans[0],
        )  # fmt: skip

    # --- what they have to write ----------------------------------------------------------------

    def assert_forward(self, layers: Any = None, output: Any = None) -> None:
        for layer in layers or self.chained:
            x = self.operand(self.on_tape(layer.x, layer.inputs))
            z = x @ self.operand(self.weights_of(layer)) + get(
                self.parameters[layer.b : layer.b + layer.outputs]
            )
            row = ACTIVATIONS[layer.activation]
            g = row.forward(z)
            close = {"compute": FLOAT32, "terms": layer.inputs}
            if output is not None and layer is self.layers[-1]:
                assert_close(output, g * self.mask(layer), **close)
                continue
            assert_close(self.view(layer.a, layer.outputs), g * self.mask(layer), **close)
            if layer.saved != layer.a:
                kept = z if row.saves == "z" else g
                assert_close(self.view(layer.saved, layer.outputs), kept, **close)

    def assert_back(self, accumulate: bool, below: bool = True) -> None:
        for under, layer in zip(self.layers, self.chained, strict=False):
            delta = self.on_tape(layer.delta, layer.outputs)
            if layer is self.layers[-1]:
                self.assert_gradient(layer.b, delta.sum(axis=0), self.B)
            if accumulate:
                x = self.operand(self.on_tape(layer.x, layer.inputs))
                self.assert_gradient(layer.W, x.T @ self.operand(delta), self.B)
            if under is self.layers[0] and not below:
                continue
            gradient = (
                self.operand(delta) @ self.operand(self.weights_of(layer)).T * self.mask(under)
            )
            saved = self.on_tape(under.saved, under.outputs)
            expected = activation_backward(under.activation, gradient, saved)
            assert_close(
                self.view(under.delta, under.outputs), expected, compute=FLOAT32,
                terms=layer.outputs,
            )  # fmt: skip
            self.assert_gradient(under.b, expected.sum(axis=0), self.B + layer.outputs)

    def assert_gradient(self, place: int, expected: np.ndarray, terms: int) -> None:
        found = self.gradients[place : place + expected.size].reshape(expected.shape)
        assert_close(found, expected, terms=terms)
