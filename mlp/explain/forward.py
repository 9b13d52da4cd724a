"""The forward half of a walk: the row, each layer's z and a, the loss."""

from __future__ import annotations

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.explain.formulas import activation_numbers, activation_symbols, loss_numbers
from mlp.explain.notation import ALL_SHOWN, dot, entry, factor, largest, number, unit, vector
from mlp.explain.report import Line, Section, Step
from mlp.explain.trace import LayerTrace, Trace


def input_section(trace: Trace, scaler: Standardizer | None, digits: int) -> Section:
    """The row as given and, if the network standardises, as the first layer sees it."""
    raw, x = trace.raw, trace.layers[0].x
    lines = [Line("x" if scaler is None else "row", "", tuple(map(float, raw)))]
    target = f"The target is y = {_target_text(trace, digits)}."
    parts = [Step("Features", str(len(raw)), tuple(lines))]
    if scaler is not None:
        shown = range(min(len(raw), ALL_SHOWN))
        parts.append(
            Step(
                "Standardised",
                "x = (row - mean) / scale, as learned from the training rows",
                tuple(
                    Line(
                        f"x{unit(i, len(x))}",
                        f"({number(float(raw[i]), digits)} - "
                        f"{factor(float(scaler.mean[i]), digits)}) / "
                        f"{number(float(scaler.scale[i]), digits)}",
                        float(x[i]),
                    )
                    for i in shown
                ),
                more=len(raw) - len(shown),
            )
        )
    return Section("The row", (target,), tuple(parts))


def _target_text(trace: Trace, digits: int) -> str:
    values = tuple(map(float, trace.target))
    row = number(values[0], digits) if len(values) == 1 else vector(values, digits)
    if trace.label is None:
        return row
    return f"{row}: class {trace.label}"


def layer_section(layer: LayerTrace, trace: Trace, bias: bool, digits: int) -> Section:
    """Z = x W + b and a = g(z) of one layer."""
    O = len(layer.z)  # noqa: E741  the size's name everywhere
    place = "output" if layer.is_output else "hidden"
    text = []
    if layer.number > 1:
        text.append(f"Here x is layer {layer.number - 1}'s output a.")
    shown = largest(layer.delta)
    if len(shown) < O:
        text.append(f"Of {O} units, the {len(shown)} with the largest |δ| (see below) are shown.")
    sums = tuple(
        Line(
            f"z{unit(j, O)}",
            dot(layer.x, layer.W[:, j], digits)
            + (f" + {factor(float(layer.b[j]), digits)}" if bias else ""),
            float(layer.z[j]),
        )
        for j in shown
    )
    weighted = Step("Weighted sum", _sum_symbols(layer, bias), sums, O - len(shown))
    outputs = _softmax(layer, trace, shown, digits)
    if outputs is None:
        outputs = _elementwise(layer, trace, shown, digits)
    return Section(
        f"Layer {layer.number} ({place}, {layer.activation})", tuple(text), (weighted, outputs)
    )


def _sum_symbols(layer: LayerTrace, bias: bool) -> str:
    """The matrix form, and the first unit's sum spelt out."""
    I, O = layer.W.shape  # noqa: E741
    matrix = "z = x W + b" if bias else "z = x W"
    if I == 1 and O == 1:
        return matrix
    if I > ALL_SHOWN:
        return f"{matrix}, that is z_j = Σ_i x_i W_ij" + (" + b_j" if bias else "")
    terms = " + ".join(f"x{unit(i, I)} W{entry(i, 0, layer.W.shape)}" for i in range(I))
    return f"{matrix}, that is z{unit(0, O)} = {terms}" + (f" + b{unit(0, O)}" if bias else "")


def _elementwise(layer: LayerTrace, trace: Trace, shown: tuple[int, ...], digits: int) -> Step:
    count = len(layer.a)
    lines = tuple(
        Line(
            f"a{unit(j, count)}",
            activation_numbers(layer.activation, float(layer.z[j]), digits)
            if layer.activation != "identity"
            else "",
            float(layer.a[j]),
            _output_name(layer, trace, j),
        )
        for j in shown
    )
    return Step("Activation", activation_symbols(layer.activation), lines, count - len(shown))


def _softmax(layer: LayerTrace, trace: Trace, shown: tuple[int, ...], digits: int) -> Step | None:
    if layer.activation != "softmax":
        return None
    count = len(layer.a)
    top = float(layer.z.max())
    total = float(np.exp(layer.z - top).sum())
    first = [
        Line(
            "m", "", top, "the largest z: taking it off every z changes no a, and no exp overflows"
        ),
        Line("S", "Σ_j exp(z_j - m)", total),
    ]
    lines = [
        Line(
            f"a{unit(j, count)}",
            f"exp({number(float(layer.z[j]), digits)} - {factor(top, digits)})"
            f" / {number(total, digits)}",
            float(layer.a[j]),
            _output_name(layer, trace, j),
        )
        for j in shown
    ]
    symbols = activation_symbols("softmax") + " = exp(z_k - m) / S"
    return Step("Activation", symbols, (*first, *lines), count - len(shown))


def _output_name(layer: LayerTrace, trace: Trace, j: int) -> str:
    if not layer.is_output or trace.names is None:
        return ""
    if len(layer.a) < len(trace.names):
        return f"how likely class {trace.names[1]} is"
    return f"class {trace.names[j]}"


def loss_section(trace: Trace, digits: int) -> Section:
    """What the network says, and the loss."""
    text = []
    output: HostArray = trace.layers[-1].a
    if trace.label is not None and trace.names is not None:
        yes_no = len(output) < len(trace.names)
        best = int(output[0] >= 0.5) if yes_no else int(output.argmax())
        says = trace.names[best]
        verdict = "that is right" if says == trace.label else f"the row's class is {trace.label}"
        text.append(f"The network says class {says}; {verdict}.")
    why = ""
    if trace.loss.name == "huber":
        bound = number(trace.loss.parameter, digits)
        why = f"Here δ is Huber's bound, {bound}; from now on δ is dL/dz."
    elif trace.loss.name == "cross_entropy" and not trace.target.all():
        why = "Only the classes with a target above 0 count."
    if trace.matched is not None:
        why = f"{why} It is computed from z, so no logarithm sees a rounded a.".strip()
    line = Line("L", loss_numbers(trace, digits), trace.value)
    return Section(
        "The loss", tuple(text), (Step(trace.loss.name, trace.loss.formula, (line,), why=why),)
    )
