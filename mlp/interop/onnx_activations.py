"""The activations as ONNX operations.

In float32 the operation of the same name is taken where there is one. Runtimes have several of them
(onnxruntime: Elu, Selu, Softplus, LeakyRelu, Erf) in float32 alone, and ONNX keeps their parameters
in float32: so in float64 they are composed of operations that exist there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mlp.activations import GELU_TANH_CUBIC, LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE
from mlp.interop.onnx_graph import Graph

FUNCTIONS = "fused_mlp"  # the domain of the functions that a file brings along
CDF = "NormalCdf"
# For x >= 0, (1 + 2x) exp(x²) erfc(x) is smooth in t = (x - K) / (x + K), -1 <= t < 1: a polynomial
# of this degree in t comes within 4e-15 of it, relatively. Source: M. M. Shepherd and J. G.
# Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²) erfc x", Math. Comp. 36 (1981).
CDF_K, CDF_DEGREE = 3.75, 20


def add_activation(graph: Graph, name: str, z: str) -> str:
    """Adds a = g(z) to the graph; returns the name of a."""
    double = graph.dtype == np.float64
    if name in _COMPOSED and (double or name not in _NAMED):
        return _COMPOSED[name](graph, z)
    operation, attributes = _NAMED[name]
    return graph.node(operation, z, **attributes)


_NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": LEAKY_SLOPE}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "softmax": ("Softmax", {"axis": 1}),
}


def _leaky_relu(graph: Graph, z: str) -> str:
    return graph.node("Max", z, graph.node("Mul", z, graph.constant(LEAKY_SLOPE)))


def _elu(graph: Graph, z: str) -> str:
    return graph.node("Add", graph.node("Relu", z), _exp_of_negative_part(graph, z))


def _selu(graph: Graph, z: str) -> str:
    below = graph.node("Mul", _exp_of_negative_part(graph, z), graph.constant(SELU_ALPHA))
    both = graph.node("Add", graph.node("Relu", z), below)
    return graph.node("Mul", both, graph.constant(SELU_SCALE))


def _exp_of_negative_part(graph: Graph, z: str) -> str:
    """exp(min(z, 0)) - 1."""
    grown = graph.node("Exp", graph.node("Min", z, graph.constant(0)))
    return graph.node("Sub", grown, graph.constant(1))


def _softplus(graph: Graph, z: str) -> str:
    shrunk = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    tail = graph.node("Log", graph.node("Add", shrunk, graph.constant(1)))
    return graph.node("Add", graph.node("Relu", z), tail)


def _silu(graph: Graph, z: str) -> str:
    if graph.dtype == np.float32:
        return graph.node("Mul", z, graph.node("Sigmoid", z))
    # onnxruntime 1.20 fuses z σ(z) to an operation that it then lacks in float64.
    grown = graph.node("Exp", graph.node("Neg", z))  # infinity is right here: z / inf = 0
    return graph.node("Div", z, graph.node("Add", grown, graph.constant(1)))


def _gelu_tanh(graph: Graph, z: str) -> str:
    cube = graph.node("Mul", graph.node("Mul", z, z), z)
    inner = graph.node("Add", z, graph.node("Mul", cube, graph.constant(GELU_TANH_CUBIC)))
    scaled = graph.node("Mul", inner, graph.constant(math.sqrt(2 / math.pi)))
    grown = graph.node("Add", graph.node("Tanh", scaled), graph.constant(1))
    return graph.node("Mul", graph.node("Mul", z, graph.constant(0.5)), grown)


def _gelu(graph: Graph, z: str) -> str:
    if graph.dtype == np.float64:
        graph.functions.setdefault(CDF, _normal_cdf())
        return graph.node("Mul", z, graph.node(CDF, z, domain=FUNCTIONS))
    erf = graph.node("Erf", graph.node("Mul", z, graph.constant(math.sqrt(0.5))))
    grown = graph.node("Add", erf, graph.constant(1))
    return graph.node("Mul", graph.node("Mul", z, graph.constant(0.5)), grown)


_COMPOSED: dict[str, Callable[[Graph, str], str]] = {
    "identity": lambda graph, z: z,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "softplus": _softplus,
}


def _cdf_coefficients() -> list[float]:
    """Of the polynomial in t, highest power first."""
    from numpy.polynomial import chebyshev
    from scipy.special import erfcx

    def scaled(t: Any) -> Any:
        x = CDF_K * (1 + t) / (1 - t)
        return (1 + 2 * x) * erfcx(x)

    series = chebyshev.chebinterpolate(scaled, CDF_DEGREE)
    powers: list[float] = chebyshev.cheb2poly(series)[::-1].tolist()
    return powers


def _normal_cdf() -> Any:
    """Φ(z) in float64, as a function of the file: with x = |z|/√2, erfc(x)/2 or 1 - erfc(x)/2."""
    from onnx import helper

    graph = Graph(np.dtype(np.float64))

    def number(value: float) -> str:
        name = f"c{len(graph.nodes)}"
        values = helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(graph.dtype), [], [value])
        graph.nodes.append(helper.make_node("Constant", [], [name], value=values))
        return name

    x = graph.node("Mul", graph.node("Abs", "z"), number(math.sqrt(0.5)))
    k = number(CDF_K)
    t = graph.node("Div", graph.node("Sub", x, k), graph.node("Add", x, k))
    first, *rest = _cdf_coefficients()
    polynomial = number(first)
    for coefficient in rest:
        polynomial = graph.node("Add", graph.node("Mul", polynomial, t), number(coefficient))
    one = number(1.0)
    erfcx = graph.node("Div", polynomial, graph.node("Add", graph.node("Mul", x, number(2.0)), one))
    decay = graph.node("Exp", graph.node("Neg", graph.node("Mul", x, x)))
    tail = graph.node("Mul", graph.node("Mul", erfcx, decay), number(0.5))
    # z > 0 as a number, with which (1 - tail) or tail is taken.
    positive = graph.node(
        "Cast",
        graph.node("Greater", "z", number(0.0)),
        to=helper.np_dtype_to_tensor_dtype(graph.dtype),
    )
    signed = graph.node("Sub", one, graph.node("Mul", positive, number(2.0)))
    graph.node("Add", graph.node("Mul", signed, tail), positive, name="cdf")
    return helper.make_function(
        FUNCTIONS, CDF, ["z"], ["cdf"], graph.nodes, [helper.make_opsetid("", 17)]
    )
