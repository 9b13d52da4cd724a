"""Exported files, run by the libraries that they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlp.activations import LEAKY_SLOPE
from mlp.backends.protocol import HostArray
from mlp.errors import InvalidInput, InvalidSetting, ModelFileError
from mlp.interop.optional import is_installed, require
from mlp.interop.torch import state_dict
from mlp.network import Network

FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}


class OnnxFile:
    """An ONNX file, run by onnxruntime or, without that, by onnx's own reference evaluator.

    Attributes:
        engine: which, with its version.
        dtype: of the numbers that it takes, and presumably computes in.

    Raises:
        ModelFileError: the file is missing or damaged, or has operations that are not known.
        InvalidSetting: neither onnxruntime nor onnx is installed.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "there is no such file"
            raise ModelFileError(f"{path}: {what}; an ONNX file was expected")
        self.path = path
        open_file = _onnxruntime if is_installed("onnxruntime") else _reference_evaluator
        try:
            self.engine, self.inputs, self.outputs, self._run = open_file(path)
        except InvalidSetting:
            raise
        # Both raise whatever a damaged file brings about, in classes that are not public.
        except Exception as error:
            raise ModelFileError(f"{path}: not a readable ONNX file ({_line(error)})") from None
        double = "tensor(double)" in self.inputs.values()
        self.dtype = FLOATS["tensor(double)" if double else "tensor(float)"]

    def __call__(self, feeds: Mapping[str, HostArray]) -> list[HostArray]:
        """The outputs, in the file's order, of numbers and texts by input.

        Raises:
            InvalidInput: the file takes other inputs.
        """
        if set(feeds) != set(self.inputs):
            raise InvalidInput(
                f"{self.path}: takes {_names(self.inputs)}, but the model {_names(feeds)}"
            )
        given = {name: _as(self.inputs[name], values) for name, values in feeds.items()}
        try:
            return [np.asarray(values) for values in self._run(given)]
        except Exception as error:
            raise InvalidInput(f"{self.path}: does not take the rows ({_line(error)})") from None


Opened = tuple[str, dict[str, str], list[str], Callable[[dict[str, HostArray]], Any]]


def _onnxruntime(path: Path) -> Opened:
    onnxruntime = require("onnxruntime", f"{path}: running an ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {entry.name: entry.type for entry in session.get_inputs()}
    outputs = [entry.name for entry in session.get_outputs()]
    engine = f"onnxruntime {onnxruntime.__version__}"
    return engine, inputs, outputs, lambda given: session.run(None, given)


def _reference_evaluator(path: Path) -> Opened:
    onnx = require("onnx", f"{path}: reading an ONNX file")
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    kinds = {onnx.TensorProto.FLOAT: "tensor(float)", onnx.TensorProto.DOUBLE: "tensor(double)"}
    inputs = {
        entry.name: kinds.get(entry.type.tensor_type.elem_type, "") for entry in model.graph.input
    }
    outputs = [entry.name for entry in model.graph.output]
    evaluator = ReferenceEvaluator(model)
    engine = f"onnx {onnx.__version__}, reference evaluator"
    return engine, inputs, outputs, lambda given: evaluator.run(None, given)


def _as(kind: str, values: HostArray) -> HostArray:
    return values.astype(FLOATS[kind]) if kind in FLOATS else values


def _names(names: Any) -> str:
    listed = [f"'{name}'" for name in names]
    shown = ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")
    return f"the input{'s' if len(listed) > 1 else ''} {shown}"


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def torch_forward(network: Network) -> tuple[Callable[[HostArray], HostArray], str]:
    """The forward pass of `torch_sequential`, rows (N, I) to outputs (N, O), and PyTorch's name."""
    torch = require("torch", "PyTorch's forward pass")
    sequential = torch_sequential(network)

    def forward(X: HostArray) -> HostArray:
        with torch.no_grad():
            outputs: HostArray = sequential(torch.tensor(X.astype(network.dtype))).numpy()
        return outputs

    return forward, f"PyTorch {torch.__version__}"


def torch_sequential(network: Network) -> Any:
    """The nn.Sequential of `to_torch` with the network's parameters, in eval mode."""
    torch = require("torch", "PyTorch's forward pass")
    nn = torch.nn
    activations = {
        "relu": nn.ReLU,
        "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
        "elu": nn.ELU,
        "selu": nn.SELU,
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "silu": nn.SiLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "softplus": lambda: nn.Softplus(threshold=100),
        "softmax": lambda: nn.Softmax(dim=1),
    }
    tensors, modules = state_dict(network)
    made = [nn.BatchNorm1d(network.spec.inputs, eps=0.0, affine=False)] * modules.standardized
    for inputs, layer in zip(network.spec.widths, network.spec.layers, strict=False):
        made.append(nn.Linear(inputs, layer.units))
        if layer.activation in activations:
            made.append(activations[layer.activation]())
        if layer.dropout:
            made.append(nn.Dropout(layer.dropout))
    sequential = nn.Sequential(*made).to(getattr(torch, str(network.dtype)))
    sequential.load_state_dict({name: torch.tensor(values) for name, values in tensors.items()})
    return sequential.eval()
