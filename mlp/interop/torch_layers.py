"""The dense layers of a PyTorch state_dict, found by name and shape, or one sentence why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.errors import InvalidInput

# "0.weight", "net.2.bias", "fc1.weight", "blocks.3.linear.weight": what comes before and after the
# number has to be the same for all.
NAME = re.compile(r"(.*?)(\d+)(\D*)\.(weight|bias)")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class TorchLayers:
    """Dense layers, first to last.

    Attributes:
        weights, biases: (I, O) and (O,) for each layer, as here, not as in PyTorch.
        standardizer: of a first module that standardises, else None.
    """

    weights: tuple[HostArray, ...]
    biases: tuple[HostArray, ...]
    standardizer: Standardizer | None

    @property
    def widths(self) -> tuple[int, ...]:
        return (len(self.weights[0]), *(len(b) for b in self.biases))

    @property
    def precision(self) -> str:
        doubles = any(array.dtype == np.float64 for array in (*self.weights, *self.biases))
        return "float64" if doubles else "float32"


def find_layers(tensors: Mapping[str, HostArray], name: str, standardized: bool) -> TorchLayers:
    """The layers of a state_dict.

    Args:
        tensors: arrays by PyTorch's names, W as (O, I).
        name: what to call them in an error.
        standardized: whether "0.running_mean" and "0.running_var" are a first module that
            standardises, as `to_torch` writes it.

    Raises:
        InvalidInput: something else than dense layers, or layers that do not fit together.
    """
    rest = dict(tensors)
    statistics = {key: rest.pop(f"0.{key}", None) for key in STATISTICS} if standardized else {}
    by_number = _by_number(rest, name)
    weights, biases = [], []
    for entry in by_number:
        key, W, b = entry
        _require_matrix(W, key, name)
        if b is None:
            b = np.zeros(len(W), W.dtype)
        if b.shape != (len(W),):
            raise InvalidInput(
                f"{name}: '{key}.bias' has shape {b.shape}, but '{key}.weight' has {len(W)} outputs"
            )
        weights.append(W.T)
        biases.append(b)
    for (before, W, _), (after, V, _) in pairwise(by_number):
        if V.shape[1] != len(W):
            raise InvalidInput(
                f"{name}: '{after}.weight' takes {V.shape[1]} inputs, but '{before}.weight' before "
                f"it gives {len(W)}: not a chain of dense layers"
            )
    scaler = _standardizer(statistics, len(weights[0]), name) if standardized else None
    return TorchLayers(tuple(weights), tuple(biases), scaler)


def _by_number(
    tensors: Mapping[str, HostArray], name: str
) -> list[tuple[str, HostArray, HostArray | None]]:
    """(module, weight, bias or None) by the number in the module's name."""
    modules: dict[tuple[str, int, str], dict[str, HostArray]] = {}
    for key, array in tensors.items():
        if key.split(".")[-1] in STATISTICS:
            raise InvalidInput(
                f"{name}: {key!r} belongs to batch normalisation, and only dense layers can be "
                "read; if it is the standardisation of to_torch, pass standardized=True"
            )
        match = NAME.fullmatch(key)
        if match is None:
            raise InvalidInput(
                f"{name}: {key!r} is not the weight or bias of a numbered layer (0.weight, 0.bias, "
                "2.weight, ... or fc1.weight, fc2.weight, ...); rename it, or pass a mapping with "
                "such names"
            )
        before, number, after, kind = match.groups()
        modules.setdefault((before, int(number), after), {})[kind] = array
    if not modules:
        raise InvalidInput(f"{name} is empty: it holds no tensors")
    families = sorted({f"{before}N{after}" for before, _, after in modules})
    if len(families) > 1:
        raise InvalidInput(
            f"{name}: the layers are of several families ({', '.join(families[:4])}), so "
            "their order is not known; pass a mapping with the names 0.weight, 0.bias, 1.weight ..."
        )
    found = []
    for place in sorted(modules):
        module = "{}{}{}".format(*place)
        entries = modules[place]
        if "weight" not in entries:
            raise InvalidInput(f"{name}: there is '{module}.bias', but no '{module}.weight'")
        found.append((module, entries["weight"], entries.get("bias")))
    return found


def _require_matrix(W: HostArray, module: str, name: str) -> None:
    if W.ndim == 2 and W.size:
        return
    kinds = {1: "a normalisation or a PReLU", 3: "a convolution", 4: "a convolution"}
    raise InvalidInput(
        f"{name}: '{module}.weight' has shape {W.shape}, as of "
        f"{kinds.get(W.ndim, 'something else')}, not a dense layer's (O, I)"
    )


def _standardizer(
    statistics: Mapping[str, HostArray | None], width: int, name: str
) -> Standardizer:
    mean, variance = statistics["running_mean"], statistics["running_var"]
    if mean is None or variance is None or not mean.shape == variance.shape == (width,):
        raise InvalidInput(f"{name}: the standardisation is missing or of the wrong width")
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise InvalidInput(f"{name}: the standardisation is not finite and positive")
    return Standardizer(mean.astype(np.float64), np.sqrt(variance.astype(np.float64)))
