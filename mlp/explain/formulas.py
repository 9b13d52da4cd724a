"""Activations and losses in symbols and in numbers.

The tables of `mlp.activations` and `mlp.losses` define the functions; what is here is only how a
person would write one evaluation of them. A function without an entry is written by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlp.activations import get_activation
from mlp.explain.notation import bare, factor, joined, number, term_count
from mlp.explain.trace import LayerTrace, Trace

_CALLS = {"identity": "{z}", "relu": "max({z}, 0)", "sigmoid": "σ({z})"}
_SLOPES = {"sigmoid": "{a}·(1 - {a})", "tanh": "(1 - {a}²)"}
_SYMBOLS = {"sigmoid": "σ(z)", "softmax": "softmax(z)"}


def activation_symbols(name: str) -> str:
    """For example "a = σ(z) = 1 / (1 + exp(-z))"."""
    prefix = f"{_SYMBOLS[name]} = " if name in _SYMBOLS else ""
    subscript = "_k" if name == "softmax" else ""
    return f"a{subscript} = {prefix}{get_activation(name).formula}"


def activation_numbers(name: str, z: float, digits: int) -> str:
    """For example "σ(0.23)"; elementwise functions only."""
    return _CALLS.get(name, f"{name}({{z}})").format(z=number(z, digits))


def slope_numbers(layer: LayerTrace, j: int, digits: int) -> str:
    """g'(z_j) in numbers, from what the derivative is computed from."""
    if layer.activation in _SLOPES:
        return _SLOPES[layer.activation].format(a=factor(float(layer.a[j]), digits))
    assert layer.slope is not None
    return factor(float(layer.slope[j]), digits)


@dataclass(frozen=True)
class LossText:
    """How one loss is written. In numbers, a stands where it needs no parentheses, y where it may.

    Attributes:
        slope: dL/da_k in symbols, without the division by O.
        term: one output's part of the loss in numbers, from a, y and the loss's parameter;
            "" for a part that is 0.
        slope_term: dL/da_k in numbers, without the division by O.
        averaged: whether the terms are averaged over the outputs.
    """

    slope: str
    term: Callable[[str, str, str], str]
    slope_term: Callable[[str, str, str], str]
    averaged: bool = True


def _binary(a: str, y: str, _: str) -> str:
    if y == "1":
        return f"(-log({a}))"
    return f"(-log(1 - {a}))" if y == "0" else f"(-{y}·log({a}) - (1 - {y})·log(1 - {a}))"


def _class_term(a: str, t: str, _: str) -> str:
    if t == "0":
        return ""
    return f"(-log({a}))" if t == "1" else f"(-{t}·log({a}))"


LOSS_TEXTS: dict[str, LossText] = {
    "half_squared_error": LossText(
        "(a_k - y_k)", lambda a, y, _: f"({a} - {y})²", lambda a, y, _: f"({a} - {y})"
    ),
    "mse": LossText(
        "2 (a_k - y_k)", lambda a, y, _: f"({a} - {y})²", lambda a, y, _: f"2·({a} - {y})"
    ),
    "mae": LossText(
        "sign(a_k - y_k)", lambda a, y, _: f"|{a} - {y}|", lambda a, y, _: f"sign({a} - {y})"
    ),
    "huber": LossText(
        "clip(a_k - y_k, -bound, bound)",
        lambda a, y, _: f"h({a} - {y})",
        lambda a, y, bound: f"clip({a} - {y}, -{bound}, {bound})",
    ),
    "binary_cross_entropy": LossText(
        "(a_k - y_k) / (a_k (1 - a_k))",
        _binary,
        lambda a, y, _: f"({a} - {y}) / ({a}·(1 - {a}))",
    ),
    "cross_entropy": LossText(
        "-t_k / a_k",
        _class_term,
        lambda a, t, _: "0" if t == "0" else f"-{t} / {a}",
        averaged=False,
    ),
    "poisson": LossText(
        "(exp(a_k) - y_k)",
        lambda a, y, _: f"(exp({a}) - {y}·({a}))",
        lambda a, y, _: f"(exp({a}) - {y})",
    ),
}


def loss_numbers(trace: Trace, digits: int) -> str:
    """The whole loss in numbers; of many outputs the first terms that are not 0."""
    text, a = LOSS_TEXTS[trace.loss.name], trace.layers[-1].a
    parameter = number(trace.loss.parameter, digits)
    terms = [
        text.term(number(float(p), digits), factor(float(y), digits), parameter)
        for p, y in zip(a, trace.target, strict=True)
    ]
    terms = [term for term in terms if term]
    body = joined(terms[: term_count(len(terms))], len(terms))
    if len(terms) == 1:
        body = bare(body)
    halves = 2 if trace.loss.name == "half_squared_error" else 1
    divisor = halves * (len(a) if text.averaged else 1)
    if divisor == 1:
        return body
    return f"1/{divisor} · {body}" if len(terms) == 1 else f"1/{divisor} · [{body}]"


def loss_slope_numbers(trace: Trace, k: int, digits: int) -> str:
    """dL/da_k in numbers."""
    text, a = LOSS_TEXTS[trace.loss.name], trace.layers[-1].a
    body = text.slope_term(
        number(float(a[k]), digits),
        factor(float(trace.target[k]), digits),
        number(trace.loss.parameter, digits),
    )
    return f"{body} / {len(a)}" if text.averaged and len(a) > 1 else bare(body)


def loss_slope_symbols(trace: Trace) -> str:
    text = LOSS_TEXTS[trace.loss.name]
    if len(trace.target) == 1:
        return f"dL/da = {bare(text.slope).replace('_k', '')}"
    return f"dL/da_k = {text.slope} / O" if text.averaged else f"dL/da_k = {text.slope}"
