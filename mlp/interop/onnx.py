"""A network as an ONNX file that takes raw rows and gives answers: preprocessing and all inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import mlp
from mlp.errors import InvalidInput
from mlp.interop.answers import counts, kind_of, value_scaler
from mlp.interop.onnx_activations import FUNCTIONS, add_activation
from mlp.interop.onnx_graph import Graph, tensor
from mlp.interop.onnx_preprocessing import add_inputs
from mlp.interop.optional import require
from mlp.model_file import write_atomically
from mlp.network import Network

# Read by onnxruntime 1.12 (2022) and newer, and by most other tools.
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
MOST_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB


def export_onnx(network: Network, path: str | Path) -> None:
    """Writes a network to an ONNX file that computes what `predict` does, from raw rows.

    Inputs: "X" (N, I) in the network's dtype; with preprocessing of a table's columns, one input
    (N, 1) for each column, by its name: numbers in the network's dtype with NaN for a missing one,
    booleans likewise, categories as text with "" for a missing one.

    Outputs of a classifier: "label", what `predict` says, in the type of the classes; and
    "probabilities" (N, K), a column for each class or, of several sigmoids, for each label. Of any
    other network: "values" (N, O). Target scalers are undone, counts are exp(a). Where a column has
    the name of an output, that output is called "mlp.label" and so on.

    Sums, standardisation apart, are in float32 or float64 as the network's; a 16-bit precision
    gives its float32 weights.

    Raises:
        InvalidSetting: onnx is not installed.
        InvalidInput: class labels that ONNX has no type for, a network above 2 GiB, or a file that
            cannot be written; an older file of that name is then intact.
    """
    path = Path(path)
    try:
        write_atomically(path, onnx_bytes(network))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error


def onnx_bytes(network: Network) -> bytes:
    """The content of the file that `export_onnx` writes; the same network gives the same bytes."""
    content: bytes = to_onnx(network).SerializeToString(deterministic=True)
    return content


def to_onnx(network: Network) -> Any:
    """The `onnx.ModelProto` that `export_onnx` writes, checked by onnx."""
    onnx = require("onnx", "ONNX export")
    helper = onnx.helper
    size = network.spec.parameter_count * network.dtype.itemsize
    if size > MOST_BYTES:
        raise InvalidInput(f"an ONNX file holds up to 2 GiB, and the network has {size:,} bytes")
    graph = Graph(network.dtype)
    _add_answers(graph, network, _add_layers(graph, network, add_inputs(graph, network)))
    domains = {"": OPSET, "ai.onnx.ml": ML_OPSET, FUNCTIONS: 1}
    used = {"", *(node.domain for node in graph.nodes)}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mlp",
            graph.inputs,
            graph.outputs,
            [tensor(name, values) for name, values in graph.constants.items()],
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(name, domains[name]) for name in sorted(used)],
        functions=list(graph.functions.values()),
        producer_name="fused-mlp",
        producer_version=mlp.__version__,
    )
    helper.set_model_props(model, {"network": json.dumps(network.spec.to_json())})
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_layers(graph: Graph, network: Network, x: str) -> str:
    """The dense layers, from rows (N, I) to the outputs (N, O)."""
    layers = zip(network.weights, network.biases, network.spec.layers, strict=True)
    for i, (W, b, layer) in enumerate(layers):
        weight = graph.constant(W, f"layers.{i}.weight")
        bias = graph.constant(b, f"layers.{i}.bias")
        x = add_activation(graph, layer.activation, graph.node("Gemm", x, weight, bias))
    return x


def _add_answers(graph: Graph, network: Network, a: str) -> None:
    """The outputs by name, see `mlp.interop.answers`."""
    kind, outputs = kind_of(network), network.spec.outputs
    if kind == "values":
        graph.output(_add_values(graph, network, a), "values", graph.dtype, outputs)
        return
    if kind == "classes":
        _add_labels(graph, network, graph.node("ArgMax", a, axis=1, keepdims=0))
        graph.output(a, "probabilities", graph.dtype, outputs)
        return
    on = graph.cast(graph.node("GreaterOrEqual", a, graph.constant(0.5)), np.int64)
    if kind == "labels":
        graph.output(on, "label", np.int64, outputs)
        graph.output(a, "probabilities", graph.dtype, outputs)
        return
    _add_labels(graph, network, graph.node("Squeeze", on, graph.constant([1], dtype=np.int64)))
    off = graph.node("Sub", graph.constant(1), a)
    graph.output(graph.node("Concat", off, a, axis=1), "probabilities", graph.dtype, 2)


def _add_values(graph: Graph, network: Network, a: str) -> str:
    if counts(network):
        return graph.node("Exp", a)
    scaler = value_scaler(network)
    if scaler is None:
        return a
    scale = graph.constant(scaler.scale, "target.scale", np.float64)
    mean = graph.constant(scaler.mean, "target.mean", np.float64)
    values = graph.node("Add", graph.node("Mul", graph.cast(a, np.float64), scale), mean)
    return graph.cast(values, graph.dtype)


def _add_labels(graph: Graph, network: Network, codes: str) -> None:
    """The output "label" (N,): the classes that codes (N,) stand for, or the codes themselves."""
    if network.classes is None:
        graph.output(codes, "label", np.int64)
        return
    classes = np.asarray(network.classes)
    if classes.dtype.kind not in "biufU":
        raise InvalidInput(
            "ONNX export takes class labels that are all numbers, all text or all booleans"
        )
    dtype = str if classes.dtype.kind == "U" else classes.dtype
    labels = graph.constant(classes, "classes", dtype)
    graph.output(graph.node("Gather", labels, codes), "label", dtype)
