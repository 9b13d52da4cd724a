"""The end of a walk: the gradient-descent update, and the finite-difference check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.explain.backward import shown_entries
from mlp.explain.notation import entry, factor, largest, number, unit
from mlp.explain.report import Line, Section, Step
from mlp.explain.trace import LayerTrace, Trace
from mlp.gradcheck import TensorKind, first_step, slope_along
from mlp.network import Network


def update_section(trace: Trace, rate: float, bias: bool, digits: int) -> Section:
    """W := W - η dW and b := b - η db of every layer."""
    steps = [step for layer in trace.layers for step in _layer_update(layer, rate, bias, digits)]
    text = (
        f"η = {number(rate, digits)}. All gradients above belong to the old weights, so nothing "
        "is changed before the last of them is known.",
    )
    return Section("Gradient descent", text, tuple(steps))


def _layer_update(layer: LayerTrace, rate: float, bias: bool, digits: int) -> list[Step]:
    def line(name: str, old: float, gradient: float) -> Line:
        numbers = f"{number(old, digits)} - {number(rate, digits)}·{factor(gradient, digits)}"
        return Line(name, numbers, old - rate * gradient, sign=":=")

    entries, units = shown_entries(layer), largest(layer.db)
    steps = [
        Step(
            f"Layer {layer.number}",
            "W := W - η dW",
            tuple(
                line(f"W{entry(i, j, layer.W.shape)}", float(layer.W[i, j]), float(layer.dW[i, j]))
                for i, j in entries
            ),
            layer.W.size - len(entries),
        )
    ]
    if bias:
        lines = tuple(
            line(f"b{unit(j, len(layer.b))}", float(layer.b[j]), float(layer.db[j])) for j in units
        )
        steps.append(
            Step(f"Layer {layer.number}", "b := b - η db", lines, len(layer.b) - len(units))
        )
    return steps


def updated(trace: Trace, rate: float, bias: bool) -> list[dict[str, Any]]:
    """W and b of every layer after the update, in full."""
    return [
        {
            "W": (layer.W - rate * layer.dW).tolist(),
            "b": (layer.b - rate * layer.db if bias else layer.b).tolist(),
        }
        for layer in trace.layers
    ]


@dataclass(frozen=True)
class Largest:
    """The largest gradient of a walk: which parameter, and how large."""

    layer: int
    kind: TensorKind
    direction: HostArray
    name: str
    value: float

    @classmethod
    def of(cls, trace: Trace, bias: bool) -> Largest:
        kinds: tuple[TensorKind, ...] = ("weight", "bias") if bias else ("weight",)
        found = [
            (float(np.abs(g).max()), layer, kind, g)
            for layer in trace.layers
            for kind in kinds
            for g in (layer.dW if kind == "weight" else layer.db,)
        ]
        _, layer, kind, g = max(found, key=lambda one: one[0])
        place = np.unravel_index(int(np.abs(g).argmax()), g.shape)
        direction = np.zeros(g.shape)
        direction[place] = 1
        name = (
            f"W{entry(int(place[0]), int(place[1]), g.shape)}"
            if kind == "weight"
            else f"b{unit(int(place[0]), len(g))}"
        )
        return cls(
            layer.number, kind, direction, f"{name} of layer {layer.number}", float(g[place])
        )


def _size(difference: float) -> str:
    """Below a billionth the digits are rounding, and differ from machine to machine."""
    return "below 1e-9" if difference < 1e-9 else f"{difference:.0e}"


def check_section(
    net: Network, X: HostArray, y: Any, trace: Trace, bias: bool, digits: int
) -> tuple[Section, dict[str, Any]]:
    """The largest gradient against a central difference of the loss, and the numbers of both."""
    top = Largest.of(trace, bias)
    numeric = slope_along(net, X, y, trace.loss, top.kind, top.layer - 1, top.direction)
    values: dict[str, Any] = {"parameter": top.name, "analytic": top.value, "numeric": numeric}
    title = "The check"
    if numeric is None:
        values["relative_difference"] = None
        text = (
            f"The largest gradient, {number(top.value, digits)} for {top.name}, cannot be checked "
            "here: the loss has a kink there, so it has no slope to compare with.",
        )
        return Section(title, text), values
    scale = max(abs(numeric), abs(top.value))
    difference = abs(numeric - top.value) / scale if scale else 0.0
    values["relative_difference"] = difference
    lines = (
        Line("backpropagation", "", top.value),
        Line("finite difference", "", numeric, f"relative difference {_size(difference)}"),
    )
    parameters = (net.weights if top.kind == "weight" else net.biases)[top.layer - 1]
    step_size = first_step(parameters)
    step = Step(
        "Central difference",
        "dL/dw ≈ (8 [L(w + h) - L(w - h)] - [L(w + 2h) - L(w - 2h)]) / 12h",
        lines,
    )
    text = (
        f"Nudge the parameter w with the largest gradient, {top.name}, by h = {step_size:.1g} "
        "either way, and measure the slope of the loss without any calculus.",
    )
    return Section(title, text, (step,)), values
