"""What a network is, as plain data: frozen, validated, and the same after a trip through JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mlp.activations import get_activation
from mlp.errors import InvalidSetting, require_in, require_positive_int
from mlp.initializers import check_initializer

MOST_PARAMETERS = 2**48  # far beyond any memory, and far below where sizes in bytes overflow


@dataclass(frozen=True)
class Dense:
    """One dense layer: a = g(x @ W + b), then dropout while training.

    Args:
        units: number of outputs O.
        activation: a name from `mlp.activations.ACTIVATIONS`.
        dropout: probability in [0, 1) that an output is set to 0 in a training step; those kept
            are divided by 1 - dropout.
        initializer: a name from `mlp.initializers.INITIALIZERS`, or "auto" for the one that suits
            the activation.

    Raises:
        InvalidSetting: a size that is not positive, or an unknown name.
    """

    units: int
    activation: str = "identity"
    dropout: float = 0.0
    initializer: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", require_positive_int("units", self.units))
        get_activation(self.activation)
        rate = require_in("dropout", self.dropout, 0, 1, open_high=True)
        object.__setattr__(self, "dropout", rate)
        check_initializer(self.initializer)


@dataclass(frozen=True)
class NetworkSpec:
    """The sizes and functions of a network; no numbers that training changes.

    Args:
        inputs: number of features of a row.
        layers: at least one Dense layer; softmax and no dropout only in the last.
    """

    inputs: int
    layers: tuple[Dense, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", require_positive_int("inputs", self.inputs))
        if self.parameter_count > MOST_PARAMETERS:
            raise InvalidSetting(f"a network of {self.parameter_count:,} parameters is too large")
        if not self.layers:
            raise InvalidSetting("a network needs at least one layer")
        for i, layer in enumerate(self.layers[:-1]):
            if layer.activation == "softmax":
                raise InvalidSetting(f"layer {i}: softmax can only be the last layer's activation")
        if self.layers[-1].dropout:
            raise InvalidSetting(
                "the last layer cannot have dropout: its outputs are the prediction"
            )

    @classmethod
    def of(cls, inputs: int, layers: Iterable[Dense]) -> NetworkSpec:
        """A spec from any iterable of Dense layers, or an error that names the odd one out."""
        if isinstance(layers, Dense) or not isinstance(layers, Iterable):
            raise InvalidSetting("layers must be a list of mlp.Dense layers, first to last")
        stack = tuple(layers)
        for i, layer in enumerate(stack):
            if not isinstance(layer, Dense):
                raise InvalidSetting(f"layer {i} must be an mlp.Dense, not {type(layer).__name__}")
        return cls(inputs, stack)

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, then each layer's outputs: L + 1 numbers."""
        return (self.inputs, *(layer.units for layer in self.layers))

    @property
    def outputs(self) -> int:
        return self.layers[-1].units

    @property
    def output_activation(self) -> str:
        return self.layers[-1].activation

    @property
    def parameter_count(self) -> int:
        """P, weights and biases together."""
        return sum((i + 1) * o for i, o in zip(self.widths, self.widths[1:], strict=False))

    def to_json(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NetworkSpec:
        """The inverse of `to_json`; raises KeyError, TypeError or InvalidSetting on other data."""
        return cls(data["inputs"], tuple(Dense(**layer) for layer in data["layers"]))
