"""A network as the modules of a PyTorch nn.Sequential: as text, and where each parameter lies."""

from __future__ import annotations

from dataclasses import dataclass

from mlp.activations import LEAKY_SLOPE
from mlp.spec import NetworkSpec

# identity is no module. PyTorch's softplus is z itself above its threshold, by default 20, where
# that is wrong by 2e-9: above 100 it is right to the last bit.
MODULES = {
    "relu": "nn.ReLU()",
    "leaky_relu": f"nn.LeakyReLU({LEAKY_SLOPE})",
    "elu": "nn.ELU()",
    "selu": "nn.SELU()",
    "gelu": "nn.GELU()",
    "gelu_tanh": 'nn.GELU(approximate="tanh")',
    "silu": "nn.SiLU()",
    "sigmoid": "nn.Sigmoid()",
    "tanh": "nn.Tanh()",
    "softplus": "nn.Softplus(threshold=100)",
    "softmax": "nn.Softmax(dim=1)",
}


@dataclass(frozen=True)
class Modules:
    """The modules of a network, in order.

    Attributes:
        texts: how each is written in Python.
        linear: the position of each layer's nn.Linear; its parameters are "POSITION.weight" (O, I)
            and "POSITION.bias" (O,).
        standardized: whether position 0 standardises rows: an nn.BatchNorm1d that only divides by
            the root of its running variance, "0.running_mean" and "0.running_var" (I,).
    """

    texts: tuple[str, ...]
    linear: tuple[int, ...]
    standardized: bool

    @classmethod
    def of(cls, spec: NetworkSpec, *, standardized: bool, double: bool) -> Modules:
        """The modules for a spec; `double` for parameters in float64."""
        dtype = ", dtype=torch.float64" if double else ""
        texts, linear = [], []
        if standardized:
            texts.append(f"nn.BatchNorm1d({spec.inputs}, eps=0.0, affine=False{dtype})")
        for inputs, layer in zip(spec.widths, spec.layers, strict=False):
            linear.append(len(texts))
            texts.append(f"nn.Linear({inputs}, {layer.units}{dtype})")
            if layer.activation in MODULES:
                texts.append(MODULES[layer.activation])
            if layer.dropout:
                texts.append(f"nn.Dropout({layer.dropout!r})")
        return cls(tuple(texts), tuple(linear), standardized)

    def __str__(self) -> str:
        """One Python expression, in terms of `torch` and `nn`."""
        return f"nn.Sequential({', '.join(self.texts)})"
