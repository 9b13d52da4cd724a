"""A small builder of ONNX graphs: every call adds one node or constant and returns its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray


class Graph:
    """Nodes, constants, inputs and outputs, in the order in which they are added.

    Args:
        dtype: of the network: float32 or float64.

    Attributes:
        functions: name -> a function that this graph's nodes call, written into the same file.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, HostArray] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.functions: dict[str, Any] = {}
        self._taken: set[str] = set()

    def _unused(self, name: str) -> str:
        """The name itself or, where a column of a table has it, one like it."""
        while name in self._taken:
            name = f"mlp.{name}"
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: Any, width: int) -> str:
        """An input (N, width); `dtype` is one of NumPy's, or str."""
        self._taken.add(name)
        self.inputs.append(_described(name, dtype, ["N", width]))
        return name

    def output(self, source: str, name: str, dtype: Any, *width: int) -> None:
        """Makes what `source` holds an output (N, *width)."""
        name = self.node("Identity", source, name=name)
        self.outputs.append(_described(name, dtype, ["N", *width]))

    def node(
        self, operation: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """One operation with one output, whose name is returned."""
        from onnx import helper

        name = self._unused(name or f"{operation}_{len(self.nodes)}")
        self.nodes.append(
            helper.make_node(operation, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def constant(self, values: Any, name: str = "", dtype: Any = None) -> str:
        """An array in the graph, by default in the network's dtype."""
        name = self._unused(name or f"constant_{len(self.constants)}")
        self.constants[name] = np.asarray(values, dtype or self.dtype)
        return name

    def cast(self, source: str, dtype: Any) -> str:
        from onnx import helper

        return self.node("Cast", source, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def element_type(dtype: Any) -> int:
    """ONNX's number for a NumPy dtype, or for str."""
    from onnx import TensorProto, helper

    if np.dtype(dtype).kind in "UO":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def tensor(name: str, values: HostArray) -> Any:
    """An array as ONNX stores it; text as UTF-8."""
    from onnx import helper, numpy_helper

    if values.dtype.kind == "U":
        texts = [text.encode() for text in values.ravel().tolist()]
        return helper.make_tensor(name, element_type(str), values.shape, texts)
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def _described(name: str, dtype: Any, shape: list[Any]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, element_type(dtype), shape)
