"""The backward half of a walk: δ and the gradients, layer by layer from the last."""

from __future__ import annotations

import numpy as np

from mlp.activations import get_activation
from mlp.explain.formulas import loss_slope_numbers, loss_slope_symbols, slope_numbers
from mlp.explain.notation import ENTRIES_SHOWN, FEW, dot, entry, factor, largest, number, unit
from mlp.explain.report import Line, Section, Step
from mlp.explain.trace import LayerTrace, Trace

_WHY_MATCHED = {
    "softmax_cross_entropy": (
        "Why so short: dL/da_j = -t_j / a_j, and ∂a_j/∂z_k = a_j ([j = k] - a_k). In their product "
        "a_j cancels, and summed over j it leaves a_k Σ_j t_j - t_k: no logarithm, no division."
    ),
    "sigmoid_cross_entropy": (
        "Why so short: dL/da = (a - y) / (a (1 - a)), and da/dz = a (1 - a), which cancels."
    ),
}


def gradient_section(trace: Trace, layer: LayerTrace, bias: bool, digits: int) -> Section:
    """δ, dW and db of one layer."""
    steps = _output_delta(trace, digits) if layer.is_output else [_hidden_delta(layer, digits)]
    steps.append(_weight_gradient(layer, digits))
    if bias:
        steps.append(
            Step(
                "Gradient of the biases",
                "db = δ, since dz_j/db_j = 1",
                (Line("db", "", tuple(map(float, layer.db))),),
            )
        )
    nearby = f"δ_next and W_next are those of layer {layer.number + 1}."
    text = () if layer.is_output else (nearby,)
    return Section(f"Layer {layer.number}, backwards", text, tuple(steps))


def _output_delta(trace: Trace, digits: int) -> list[Step]:
    if trace.matched is not None:
        return [_matched_delta(trace, digits)]
    layer = trace.layers[-1]
    shown, count = largest(layer.delta), len(layer.delta)
    slope = Step(
        "Slope of the loss",
        loss_slope_symbols(trace),
        tuple(
            Line(
                f"dL/da{unit(k, count)}",
                loss_slope_numbers(trace, k, digits),
                float(layer.upstream[k]),
            )
            for k in shown
        ),
        count - len(shown),
    )
    return [slope, _softmax_delta(layer, digits) if layer.slope is None else _delta(layer, digits)]


def _matched_delta(trace: Trace, digits: int) -> Step:
    """δ where the loss and the output activation have been merged: prediction minus target."""
    assert trace.matched is not None
    layer, t = trace.layers[-1], trace.target
    shown, count = largest(layer.delta), len(layer.delta)
    softmax = trace.matched == "softmax_cross_entropy"
    total = float(t.sum()) if softmax else 1.0
    # Rows of targets need not sum to 1; labels, smoothed or not, do.
    plain = abs(total - 1) < 1e-9
    share = "" if softmax or count == 1 else f" / {count}"
    lines = []
    for k in shown:
        a = factor(float(layer.a[k]), digits) + ("" if plain else f"·{number(total, digits)}")
        body = f"{a} - {number(float(t[k]), digits)}"
        lines.append(
            Line(f"δ{unit(k, count)}", f"({body}){share}" if share else body, float(layer.delta[k]))
        )
    target, subscript = ("t", "_k") if softmax else ("y", "_k" if count > 1 else "")
    sums = "" if plain else " Σ_j t_j"
    body = f"a{subscript}{sums} - {target}{subscript}"
    return Step(
        "Chain rule",
        f"δ{subscript} = dL/dz{subscript} = {f'({body}) / O' if share else body}",
        tuple(lines),
        count - len(shown),
        _WHY_MATCHED[trace.matched] + (" The t_j sum to 1." if softmax and plain else ""),
    )


def _delta(layer: LayerTrace, digits: int) -> Step:
    """δ = dL/da * g'(z) of an output layer."""
    shown, count = largest(layer.delta), len(layer.delta)
    return Step(
        "Chain rule",
        f"δ = dL/dz = dL/da · da/dz = dL/da * g'(z), g'(z) = {_slope_symbols(layer)}",
        tuple(
            Line(
                f"δ{unit(j, count)}",
                f"{number(float(layer.upstream[j]), digits)}·{slope_numbers(layer, j, digits)}",
                float(layer.delta[j]),
            )
            for j in shown
        ),
        count - len(shown),
    )


def _softmax_delta(layer: LayerTrace, digits: int) -> Step:
    """δ through a softmax that is not merged into the loss."""
    shown, count = largest(layer.delta), len(layer.delta)
    mean = float(layer.upstream @ layer.a)
    first = Line("s", "Σ_j dL/da_j · a_j", mean)
    lines = (
        Line(
            f"δ{unit(k, count)}",
            f"{factor(float(layer.a[k]), digits)}·"
            f"({number(float(layer.upstream[k]), digits)} - {factor(mean, digits)})",
            float(layer.delta[k]),
        )
        for k in shown
    )
    return Step(
        "Chain rule",
        "δ_k = Σ_j dL/da_j · ∂a_j/∂z_k = a_k (dL/da_k - s), "
        "since every z_k moves every output: ∂a_j/∂z_k = a_j ([j = k] - a_k)",
        (first, *lines),
        count - len(shown),
    )


def _hidden_delta(layer: LayerTrace, digits: int) -> Step:
    """δ of a hidden layer, from the next layer's."""
    assert layer.next_W is not None
    assert layer.next_delta is not None
    shown, count = largest(layer.delta), len(layer.delta)
    chain = "δ_i = dL/dz_i = Σ_k dL/dz_next,k · dz_next,k/da_i · da_i/dz_i"
    if layer.next_W.size == 1:
        chain = "δ = dL/dz = dL/dz_next · dz_next/da · da/dz"
    return Step(
        "Chain rule",
        f"{chain}, that is δ = (δ_next W_nextᵀ) * g'(z), g'(z) = {_slope_symbols(layer)}",
        tuple(
            Line(
                f"δ{unit(j, count)}",
                f"({dot(layer.next_delta, layer.next_W[j], digits)})"
                f"·{slope_numbers(layer, j, digits)}",
                float(layer.delta[j]),
            )
            for j in shown
        ),
        count - len(shown),
    )


def _slope_symbols(layer: LayerTrace) -> str:
    return get_activation(layer.activation).derivative_formula


def _weight_gradient(layer: LayerTrace, digits: int) -> Step:
    I, O = layer.dW.shape  # noqa: E741
    shown = shown_entries(layer)
    lines = tuple(
        Line(
            f"dW{entry(i, j, layer.dW.shape)}",
            f"{number(float(layer.x[i]), digits)}·{factor(float(layer.delta[j]), digits)}",
            float(layer.dW[i, j]),
        )
        for i, j in shown
    )
    symbols = "dW = xᵀ δ" + ("" if I == O == 1 else ", that is dW_ij = x_i δ_j")
    why = "The entries largest in size are shown." if len(shown) < I * O else ""
    return Step(
        "Gradient of the weights", f"{symbols}, since dz_j/dW_ij = x_i" if I * O > 1 else
        f"{symbols}, since dz/dW = x", lines, I * O - len(shown), why,
    )  # fmt: skip


def shown_entries(layer: LayerTrace) -> tuple[tuple[int, int], ...]:
    """Entries of dW to show: all of a small matrix, else those largest in size."""
    dW = layer.dW
    if dW.size <= ENTRIES_SHOWN:
        return tuple((int(i), int(j)) for i, j in np.ndindex(*dW.shape))
    flat = np.argsort(-np.abs(dW), axis=None, kind="stable")[:FEW]
    return tuple(sorted((int(k // dW.shape[1]), int(k % dW.shape[1])) for k in flat))
