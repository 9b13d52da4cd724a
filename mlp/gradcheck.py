"""Backpropagation checked against finite differences of the loss, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from mlp import random
from mlp.activations import get_activation
from mlp.backends.protocol import HostArray
from mlp.data.placing import encode_table
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.gradients import Gradients
from mlp.losses import Loss, get_loss
from mlp.network import Network
from mlp.random import Doubles

TensorKind: TypeAlias = Literal["weight", "bias"]

# Up to this many entries a tensor is checked entry by entry, else along random directions.
ENTRIES_CHECKED = 32
DIRECTIONS = 8
# With the five-point rule the truncation error is of order STEP^4 and rounding of eps / STEP.
STEP = 3e-4
SHRINKS = 4


def check_gradients(
    network: Network,
    X: Any,
    y: Any,
    loss: str | Loss,
    sample_weight: Any = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Compares backpropagation with finite differences, for each parameter tensor.

    Both are computed in float64 on the network's device, on a copy of the network. A tensor of up
    to 32 entries is checked entry by entry, a larger one along 8 random directions of unit length.

    Args:
        network: the network; left as it is.
        X, y, loss, sample_weight: a batch, as `Network.gradients` takes it.
        seed: of the random directions.

    Returns:
        "layers.0.weight", "layers.0.bias", ... -> the largest difference over the largest of the
        derivatives compared. Up to about 1e-7 is rounding, a wrong formula gives 1e-3 or more.
        NaN: no derivative exists there, since every step crossed a kink of an activation or of
        the loss.

    Raises:
        InvalidInput, InvalidSetting: as `Network.gradients`.
    """
    copy, X = on_features(float64_copy(network), X)
    found = copy.gradients(X, y, loss, sample_weight)
    errors = {}
    for layer in range(len(copy.spec.layers)):
        kinds: tuple[TensorKind, TensorKind] = ("weight", "bias")
        for kind, tensors in zip(kinds, (found.weights, found.biases), strict=True):
            gradient = tensors[layer].astype(np.float64)
            numeric, exact = [], []
            for direction in _directions(gradient.shape, seed, layer):
                slope = slope_along(copy, X, y, loss, kind, layer, direction, sample_weight)
                if slope is not None:
                    numeric.append(slope)
                    exact.append(float((gradient * direction).sum()))
            errors[f"layers.{layer}.{kind}"] = _relative_error(exact, numeric, found.loss)
    return errors


def slope_along(
    network: Network,
    X: Any,
    y: Any,
    loss: str | Loss,
    kind: TensorKind,
    layer: int,
    direction: HostArray,
    sample_weight: Any = None,
) -> float | None:
    """The derivative of the loss along a direction in one parameter tensor, by finite differences.

    The five-point rule: f' = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h. Where the four points do
    not lie on one side of every kink, h is divided by 10, at most four times; then it is None.

    Args:
        network: any network; differences are taken in float64 on a copy of it.
        kind, layer: which tensor.
        direction: of the tensor's shape.
    """
    copy = float64_copy(network)
    weights, biases = [*copy.weights], [*copy.biases]
    tensors = weights if kind == "weight" else biases
    start, step = tensors[layer], first_step(tensors[layer])

    def at(distance: float) -> Gradients:
        tensors[layer] = start + distance * direction
        copy.set_parameters(weights, biases)
        return copy.gradients(X, y, loss, sample_weight)

    for _ in range(SHRINKS + 1):
        points = [at(k * step) for k in (-2, -1, 1, 2)]
        sides = [_sides_of_kinks(copy, point, y, loss) for point in points]
        if all(np.array_equal(side, sides[0]) for side in sides[1:]):
            far_low, low, high, far_high = (point.loss for point in points)
            return (8 * (high - low) - (far_high - far_low)) / (12 * step)
        step /= 10
    return None


def first_step(tensor: HostArray) -> float:
    """The step for a tensor of parameters: small beside 1, or its largest entry if that is more."""
    return STEP * max(1.0, float(np.abs(tensor).max()))


def float64_copy(network: Network) -> Network:
    """The same network with the same weights, in float64 on the same device."""
    return Network.from_state(replace(network.state(), precision="float64"), network.device)


def on_features(network: Network, X: Any) -> tuple[Network, Any]:
    """The network and X as they are; of a network that takes tables, one that takes their features.

    Returns:
        A copy without the preprocessing, and the features of X (N, I) float64, so that repeated
        calls do not encode the table again; what does not need that is returned as it came.
    """
    columns = network.preprocessing
    if not isinstance(columns, TablePreprocessor):
        return network, X
    features = encode_table(X, network.spec.inputs, columns, np.dtype(np.float64), "X")
    bare = replace(network.state(), preprocessing=None)
    return Network.from_state(bare, network.device), features


def _directions(shape: tuple[int, ...], seed: int, layer: int) -> Iterator[Doubles]:
    size = int(np.prod(shape))
    if size <= ENTRIES_CHECKED:
        yield from np.eye(size).reshape(size, *shape)
        return
    drawn = random.normal(seed, random.PURPOSE_CHECK, layer, DIRECTIONS * size)
    for direction in drawn.reshape(DIRECTIONS, *shape):
        yield direction / np.linalg.norm(direction)


def _sides_of_kinks(network: Network, point: Gradients, y: Any, loss: str | Loss) -> HostArray:
    """On which side of every kink each unit is; those of activations are all at z = 0 = a."""
    sides = [
        (a > 0).ravel()
        for a, layer in zip(point.activations, network.spec.layers, strict=True)
        if get_activation(layer.activation).kinks
    ]
    chosen, output = get_loss(loss), point.activations[-1]
    if chosen.kinks:
        error = output - network.check_target(y, len(output), chosen)
        sides += [(error > kink).ravel() for kink in chosen.kinks]
    return np.concatenate(sides) if sides else np.empty(0, bool)


def _relative_error(exact: list[float], numeric: list[float], loss: float) -> float:
    if not exact:
        return float("nan")
    e, n = np.array(exact), np.array(numeric)
    if not (np.isfinite(e).all() and np.isfinite(n).all()):
        return float("inf")
    # Below a millionth of the loss, a difference of losses holds rounding and no derivative.
    scale = max(np.abs(e).max(), np.abs(n).max(), 1e-6 * max(1.0, abs(loss)))
    return float(np.abs(e - n).max() / scale)
