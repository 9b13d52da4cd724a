"""What a network answers with, by name: the outputs that an exported model has to have."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.network import Network

Kind: TypeAlias = Literal["classes", "two_classes", "labels", "values"]


def kind_of(network: Network) -> Kind:
    """How `Network.predict` reads the outputs.

    "classes": a softmax, one label per row. "two_classes": a single sigmoid, likewise. "labels":
    several sigmoids, each 0 or 1. "values": numbers.
    """
    activation = network.spec.output_activation
    if activation == "softmax":
        return "classes"
    regression = network.loss is not None and network.loss.targets in ("values", "counts")
    if activation != "sigmoid" or regression:
        return "values"
    return "two_classes" if network.spec.outputs == 1 else "labels"


def counts(network: Network) -> bool:
    """Whether outputs are logarithms of counts, of which `Network.predict` takes the exp."""
    return network.loss is not None and network.loss.targets == "counts"


def value_scaler(network: Network) -> Standardizer | None:
    """The target scaler, where `Network.predict` undoes one."""
    undone = kind_of(network) == "values" and not counts(network)
    return network.target_scaler if undone else None


def answers(network: Network, X: Any) -> dict[str, HostArray]:
    """The outputs of rows X (N, I) by name, as an exported model gives them.

    Returns:
        Of a classifier: "label", what `predict` says, (N,) or (N, O); and "probabilities" (N, K),
        a column for each class (two for a single sigmoid), or for each of several labels. Of any
        other: "values" (N, O), what `predict` says.
    """
    kind = kind_of(network)
    if kind == "values":
        return {"values": network.predict(X).reshape(-1, network.spec.outputs)}
    a = network.forward(X)
    if kind == "two_classes":
        a = np.hstack([1 - a, a])
    return {"label": network.predict(X), "probabilities": a}
