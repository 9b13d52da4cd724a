"""Networks to and from the state_dict of a PyTorch nn.Sequential; PyTorch itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.errors import InvalidInput, InvalidSetting, ModelFileError
from mlp.interop.answers import value_scaler
from mlp.interop.torch_files import KEY, read_state_dict
from mlp.interop.torch_layers import TorchLayers, find_layers
from mlp.interop.torch_modules import Modules
from mlp.losses import LOSSES
from mlp.model_file import write_atomically
from mlp.network import Network
from mlp.network_state import NetworkState
from mlp.spec import Dense, NetworkSpec


def to_torch(network: Network, path: str | Path) -> str:
    """Writes a network as the state_dict of a PyTorch nn.Sequential, in a safetensors file.

    The module takes raw rows (N, I) and, in eval mode, returns what `forward` does: probabilities
    behind a softmax or sigmoid, the logarithm of counts after the Poisson loss, else values, with
    the target scaler undone. Standardisation is a first module, an nn.BatchNorm1d whose running
    mean and variance are the network's; who trains on keeps it so by `model[0].eval()`. A target
    scaler becomes part of the last nn.Linear. A network that takes a table's columns is written
    without its preprocessing: the module then takes what `network.preprocessing.transform` makes.

    Args:
        network: what to write.
        path: a .safetensors file. `from_torch` needs nothing else to read it.

    Returns:
        The nn.Sequential that takes the file, as one Python expression.

    Raises:
        InvalidSetting: a path of another kind, or a target scaler behind an output activation.
        InvalidInput: a scale whose square the network's dtype cannot hold, or a file that cannot be
            written; an older file of that name is then intact.
    """
    path = Path(path)
    content, sequential = torch_bytes(network, path)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
    return sequential


def torch_bytes(network: Network, path: Path) -> tuple[bytes, str]:
    """The content of the file that `to_torch` writes to `path`, and what it returns."""
    from safetensors.numpy import save

    if path.suffix != ".safetensors":
        raise InvalidSetting(f"{path}: the file is of the kind safetensors: name it .safetensors")
    tensors, modules = state_dict(network)
    about = {
        "sequential": str(modules),
        "standardized": modules.standardized,
        "network": network.spec.to_json(),
        "precision": str(network.dtype),
        "classes": None if network.classes is None else np.asarray(network.classes).tolist(),
        "loss": None
        if network.loss is None
        else {"name": network.loss.name} | asdict(network.loss),
    }
    return save(tensors, metadata={KEY: json.dumps(about, sort_keys=True)}), str(modules)


def state_dict(network: Network) -> tuple[dict[str, HostArray], Modules]:
    """The arrays that `to_torch` writes, by PyTorch's names, and the modules that take them."""
    scaler = network.preprocessing
    standardized = isinstance(scaler, Standardizer)
    modules = Modules.of(
        network.spec, standardized=standardized, double=network.dtype == np.float64
    )
    tensors: dict[str, HostArray] = {}
    weights, biases = _with_target_scaler(network)
    if isinstance(scaler, Standardizer):
        tensors = _batch_norm(scaler, network.dtype)
        # What rounding adds to the means, the first layer takes off again.
        shift = (tensors["0.running_mean"] - scaler.mean) / scaler.scale
        biases[0] = (biases[0] + shift @ weights[0]).astype(network.dtype)
    for position, W, b in zip(modules.linear, weights, biases, strict=True):
        tensors[f"{position}.weight"] = np.ascontiguousarray(W.T)
        tensors[f"{position}.bias"] = b
    return tensors, modules


def _batch_norm(scaler: Standardizer, dtype: np.dtype[Any]) -> dict[str, HostArray]:
    with np.errstate(over="ignore", under="ignore"):
        variance = np.square(scaler.scale).astype(dtype)
        mean = scaler.mean.astype(dtype)
    held = np.isfinite(mean) & np.isfinite(variance) & (variance >= np.finfo(dtype).tiny)
    if not held.all():
        feature = int(np.argmin(held))
        raise InvalidInput(
            f"feature {feature} has a mean of {scaler.mean[feature]:.3g} and a scale of "
            f"{scaler.scale[feature]:.3g}, which {dtype} cannot hold as a mean and a variance: "
            "export the model in float64"
        )
    return {
        "0.running_mean": mean,
        "0.running_var": variance,
        "0.num_batches_tracked": np.zeros((), np.int64),
    }


def _with_target_scaler(network: Network) -> tuple[list[HostArray], list[HostArray]]:
    """The parameters; a x + c of the target scaler is in the last W and b."""
    weights, biases = list(network.weights), list(network.biases)
    scaler = value_scaler(network)
    if scaler is not None:
        if network.spec.output_activation != "identity":
            raise InvalidSetting(
                "PyTorch export cannot undo a target scaler behind the output activation "
                f"'{network.spec.output_activation}'; train without a target scaler"
            )
        weights[-1] = (weights[-1] * scaler.scale).astype(network.dtype)
        biases[-1] = (biases[-1] * scaler.scale + scaler.mean).astype(network.dtype)
    return weights, biases


def from_torch(
    source: str | Path | Mapping[str, Any],
    activations: Sequence[str] | None = None,
    *,
    standardized: bool = False,
    device: str = "auto",
    precision: str | None = None,
) -> Network:
    """The network of a PyTorch state_dict that holds dense layers and nothing else.

    Args:
        source: a .safetensors file; a .pt or .pth file, for which PyTorch must be installed (only
            its weights-only loader is used); or the mapping itself, of names to arrays or tensors.
            Names are those of an nn.Sequential ("0.weight" (O, I), "0.bias" (O,), "2.weight", ...)
            or any that are told apart by one number ("fc1.weight", "net.0.weight", ...), in whose
            order the layers follow. A layer without bias gets one of zeros.
        activations: one name for each layer, first to last, as `Dense` takes them: PyTorch keeps
            none. None for a file of `to_torch`, which says them.
        standardized: whether the first module is the nn.BatchNorm1d(I, eps=0.0, affine=False) that
            `to_torch` makes of a Standardizer; a file of `to_torch` says it.
        device: as `Network` takes it.
        precision: None for float64 if a weight is, else float32.

    Raises:
        ModelFileError: a file that is missing or damaged.
        InvalidInput: other layers than dense ones, or names or shapes that do not fit together.
        InvalidSetting: activations that are missing, or not one for each layer.
    """
    tensors, about = read_state_dict(source)
    name = "the state_dict" if isinstance(source, Mapping) else str(source)
    found = find_layers(tensors, name, about["standardized"] if about else standardized)
    if about is not None and activations is None:
        try:
            state = _from_own(found, about, precision)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{name}: the description in the file is damaged ({error})"
            ) from None
    else:
        spec = _spec(found, activations, name)
        state = NetworkState(
            spec, precision or found.precision, 0, found.weights, found.biases, found.standardizer
        )
    return Network.from_state(state, device)


def _spec(found: TorchLayers, activations: Sequence[str] | None, name: str) -> NetworkSpec:
    count = len(found.weights)
    if activations is None or isinstance(activations, str) or len(activations) != count:
        widths = " -> ".join(map(str, found.widths))
        layers = "1 layer" if count == 1 else f"{count} layers"
        example = [*["relu"] * (count - 1), "identity"]
        raise InvalidSetting(
            f"{name} has {layers} ({widths}) and says no activations: pass one for each, "
            f"like activations={example}"
        )
    pairs = zip(found.widths[1:], activations, strict=True)
    return NetworkSpec.of(found.widths[0], [Dense(units, g) for units, g in pairs])


def _from_own(found: TorchLayers, about: Mapping[str, Any], precision: str | None) -> NetworkState:
    """What a file of `to_torch` says beside its tensors."""
    spec = NetworkSpec.from_json(about["network"])
    if spec.widths != found.widths:
        raise InvalidInput("its widths are not those of the tensors")
    loss = None
    if about["loss"] is not None:
        settings = dict(about["loss"])
        loss = LOSSES[settings.pop("name")](**settings)
    classes = None if about["classes"] is None else tuple(about["classes"])
    return NetworkState(
        spec, precision or about["precision"], 0, found.weights, found.biases, found.standardizer,
        classes=classes, loss=loss,
    )  # fmt: skip
