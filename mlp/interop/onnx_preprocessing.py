"""What a network does to raw rows before its first layer, as ONNX operations.

Standardisation is computed in float64, as the network does it: float32 would lose the digits of
columns whose mean is large beside their spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlp.data.columns import Column
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput
from mlp.interop.onnx_graph import Graph
from mlp.network import Network

ONE_HOT_DOMAIN = "ai.onnx.ml"


def add_inputs(graph: Graph, network: Network) -> str:
    """Adds the inputs and the preprocessing; returns the name of rows (N, I) for the first layer.

    Raises:
        InvalidInput: a table's column that cannot be an input.
    """
    found = network.preprocessing
    if isinstance(found, TablePreprocessor):
        return _add_columns(graph, found.columns)
    rows = graph.input("X", graph.dtype, network.spec.inputs)
    if found is None:
        return rows
    x = graph.node("Sub", graph.cast(rows, np.float64), _float64(graph, found.mean, "mean"))
    x = graph.node("Div", x, _float64(graph, found.scale, "scale"))
    return graph.cast(x, graph.dtype)


def _add_columns(graph: Graph, columns: Sequence[Column]) -> str:
    """The features (N, I) of a table's columns, each an input of its own."""
    inputs = [_add_column(graph, column) for column in columns]
    numbers = [i for i, column in enumerate(columns) if column.kind != "category"]
    blocks, place, start = [], {}, 0
    if numbers:
        blocks = _add_numbers(graph, [columns[i] for i in numbers], [inputs[i] for i in numbers])
        # The filled numbers are the first block, whether they were missing is the second.
        place = {i: [k] + [len(numbers) + k] * columns[i].missing for k, i in enumerate(numbers)}
        start = 2 * len(numbers)
    for i, column in enumerate(columns):
        if column.kind == "category":
            blocks.append(_add_category(graph, column, inputs[i]))
            place[i] = [*range(start, start + column.width)]
            start += column.width
    order = [k for i in range(len(columns)) for k in place[i]]
    features = graph.node("Concat", *blocks, axis=1)
    return graph.node("Gather", features, graph.constant(order, dtype=np.int64), axis=1)


def _add_column(graph: Graph, column: Column) -> str:
    if not column.name:
        raise InvalidInput("ONNX export needs a name for every column, and one has none")
    return graph.input(column.name, str if column.kind == "category" else graph.dtype, 1)


def _add_numbers(graph: Graph, columns: Sequence[Column], inputs: Sequence[str]) -> list[str]:
    """Numbers and booleans: standardised with the missing ones filled, and which were missing."""
    x = graph.cast(graph.node("Concat", *inputs, axis=1), np.float64)
    absent = graph.node("IsNaN", x)
    fill, mean, scale = (
        _float64(graph, [getattr(column, name) for column in columns], name)
        for name in ("fill", "mean", "scale")
    )
    filled = graph.node("Where", absent, fill, x)
    standard = graph.node("Div", graph.node("Sub", filled, mean), scale)
    return [graph.cast(standard, graph.dtype), graph.cast(absent, graph.dtype)]


def _add_category(graph: Graph, column: Column, text: str) -> str:
    """One feature per category, and one for a missing value if there were any in training."""
    categories = [*column.categories, *([""] * column.missing)]
    if len(set(categories)) < len(categories):
        raise InvalidInput(
            f"ONNX export writes a missing value as '', which in column '{column.name}' is a "
            "category of its own; rename that category before training"
        )
    hot = graph.node("OneHotEncoder", text, domain=ONE_HOT_DOMAIN, cats_strings=categories, zeros=1)
    flat = graph.node("Reshape", hot, graph.constant([-1, len(categories)], dtype=np.int64))
    return graph.cast(flat, graph.dtype)


def _float64(graph: Graph, values: object, name: str) -> str:
    return graph.constant(values, f"preprocessing.{name}", np.float64)
