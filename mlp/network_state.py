"""All that a network is, as host data: what a copy, a pickle and a model file hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.placing import Preprocessing
from mlp.data.preprocessing import Standardizer
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput, ModelFileError
from mlp.losses import LOSSES, Loss
from mlp.model_file import read_model, write_model
from mlp.random import check_seed
from mlp.spec import NetworkSpec


@dataclass(frozen=True)
class NetworkState:
    """The attributes of a `Network` without its device; W (I, O) and b (O,) for each layer."""

    spec: NetworkSpec
    precision: str
    seed: int
    weights: tuple[HostArray, ...]
    biases: tuple[HostArray, ...]
    preprocessing: Preprocessing | None = None
    target_scaler: Standardizer | None = None
    classes: tuple[Any, ...] | None = None
    loss: Loss | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def write_state(path: Path, state: NetworkState) -> None:
    """Writes a model file.

    Raises:
        ModelFileError: a weight is not finite, or the file cannot be written; an older file of that
            name is then intact.
    """
    tensors = {}
    for i, (W, b) in enumerate(zip(state.weights, state.biases, strict=True)):
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ModelFileError(f"{path}: not written, since the weights are not finite")
        tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"] = W, b
    for name, scaler in (("preprocessing", state.preprocessing), ("target", state.target_scaler)):
        if isinstance(scaler, Standardizer):
            tensors[f"{name}.mean"], tensors[f"{name}.scale"] = scaler.mean, scaler.scale
    document = {
        "network": state.spec.to_json(),
        "precision": state.precision,
        "seed": state.seed,
        "classes": None if state.classes is None else [_plain(label) for label in state.classes],
        "loss": None if state.loss is None else {"name": state.loss.name, **asdict(state.loss)},
        "metadata": state.metadata,
    }
    if isinstance(state.preprocessing, TablePreprocessor):
        document["columns"] = state.preprocessing.to_json()
    write_model(path, tensors, document)


def _plain(label: Any) -> Any:
    """NumPy's scalars as Python's, which JSON can hold."""
    return label.item() if isinstance(label, np.generic) else label


def read_state(path: Path) -> NetworkState:
    """The network of a model file, checked before anything of the size it states is allocated.

    Raises:
        ModelFileError: missing, damaged, or not such a file.
    """
    tensors, document = read_model(path)
    try:
        return _parse(tensors, document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the model file is incomplete or damaged ({error})") from None


def _parse(tensors: Mapping[str, HostArray], document: Mapping[str, Any]) -> NetworkState:
    spec = NetworkSpec.from_json(document["network"])
    depth = range(len(spec.layers))
    weights = tuple(tensors[f"layers.{i}.weight"] for i in depth)
    biases = tuple(tensors[f"layers.{i}.bias"] for i in depth)
    if [W.shape for W in weights] != [*pairwise(spec.widths)]:
        raise InvalidInput("the weights do not fit the network")
    for array in (*weights, *biases):
        if array.dtype not in (np.float32, np.float64):
            raise InvalidInput(f"weights of {array.dtype}")
    precision, metadata = document["precision"], document["metadata"]
    if not isinstance(precision, str) or not isinstance(metadata, dict):
        raise InvalidInput("an entry of the wrong kind")
    return NetworkState(
        spec, precision, check_seed(document["seed"]), weights, biases,
        _preprocessing(tensors, document, spec.inputs), _scaler(tensors, "target", spec.outputs),
        _classes(document["classes"]), _loss(document["loss"]), metadata,
    )  # fmt: skip


def _preprocessing(
    tensors: Mapping[str, HostArray], document: Mapping[str, Any], inputs: int
) -> Preprocessing | None:
    if "columns" not in document:
        return _scaler(tensors, "preprocessing", inputs)
    columns = TablePreprocessor.from_json(document["columns"])
    if columns.inputs != inputs:
        raise InvalidInput("the columns do not fit the network")
    return columns


def _scaler(tensors: Mapping[str, HostArray], name: str, width: int) -> Standardizer | None:
    if f"{name}.mean" not in tensors:
        return None
    mean, scale = tensors[f"{name}.mean"], tensors[f"{name}.scale"]
    if not mean.shape == scale.shape == (width,):
        raise InvalidInput(f"the standardisation ({name}) is of the wrong width")
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise InvalidInput(f"the standardisation ({name}) is not finite")
    return Standardizer(mean, scale)


def _classes(labels: Any) -> tuple[Any, ...] | None:
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(x, str | int | float) for x in labels):
        raise InvalidInput("the class labels are of the wrong kind")
    return tuple(labels)


def _loss(stored: Any) -> Loss | None:
    if stored is None:
        return None
    settings = dict(stored)
    loss: Loss = LOSSES[settings.pop("name")](**settings)
    return loss
