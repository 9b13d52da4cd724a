"""The initialiser table: name -> how a layer's weights (I, O) are drawn. Biases start at zero.

Every draw is float64 from the counter-based generator, keyed by (seed, layer), and then rounded
to the network's precision: the same seed starts the same network on every backend.

Uniform draws are from [-limit, limit] with limit = sqrt(3) * std; normal draws are not truncated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mlp import random
from mlp.activations import get_activation
from mlp.errors import unknown_name
from mlp.random import Doubles


def _normal(seed: int, layer: int, fan_in: int, fan_out: int) -> Doubles:
    drawn = random.normal(seed, random.PURPOSE_INITIALIZE, layer, fan_in * fan_out)
    return drawn.reshape(fan_in, fan_out)


def _uniform(seed: int, layer: int, fan_in: int, fan_out: int) -> Doubles:
    """Unit variance: uniform on [-sqrt(3), sqrt(3)]."""
    drawn = random.uniform(seed, random.PURPOSE_INITIALIZE, layer, fan_in * fan_out)
    scaled: Doubles = (2 * drawn - 1) * math.sqrt(3)
    return scaled.reshape(fan_in, fan_out)


def _glorot_std(fan_in: int, fan_out: int) -> float:
    return math.sqrt(2 / (fan_in + fan_out))


def _he_std(fan_in: int, fan_out: int) -> float:
    return math.sqrt(2 / fan_in)


def _lecun_std(fan_in: int, fan_out: int) -> float:
    return math.sqrt(1 / fan_in)


def _scaled(
    draw: Callable[[int, int, int, int], Doubles], std: Callable[[int, int], float]
) -> Callable[[int, int, int, int], Doubles]:
    return lambda seed, layer, fan_in, fan_out: (
        draw(seed, layer, fan_in, fan_out) * std(fan_in, fan_out)
    )


def _orthogonal(seed: int, layer: int, fan_in: int, fan_out: int) -> Doubles:
    """Orthonormal rows or columns, whichever are fewer, from the QR factors of a normal draw.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014. Fixing the signs of R's diagonal makes it uniform.
    """
    tall = max(fan_in, fan_out), min(fan_in, fan_out)
    q, r = np.linalg.qr(_normal(seed, layer, *tall))
    q *= np.sign(np.diagonal(r))
    return q if fan_in >= fan_out else np.ascontiguousarray(q.T)


def _zeros(seed: int, layer: int, fan_in: int, fan_out: int) -> Doubles:
    return np.zeros((fan_in, fan_out))


# Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks",
# AISTATS 2010: std = sqrt(2 / (I + O)).
# He, Zhang, Ren, Sun, "Delving deep into rectifiers", ICCV 2015: std = sqrt(2 / I).
# LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998: std = sqrt(1 / I).
INITIALIZERS: dict[str, Callable[[int, int, int, int], Doubles]] = {
    "glorot_uniform": _scaled(_uniform, _glorot_std),
    "glorot_normal": _scaled(_normal, _glorot_std),
    "he_uniform": _scaled(_uniform, _he_std),
    "he_normal": _scaled(_normal, _he_std),
    "lecun_uniform": _scaled(_uniform, _lecun_std),
    "lecun_normal": _scaled(_normal, _lecun_std),
    "orthogonal": _orthogonal,
    "zeros": _zeros,
}


def check_initializer(name: str) -> None:
    """Raises InvalidSetting unless `name` is "auto" or in the table."""
    if name != "auto" and name not in INITIALIZERS:
        raise unknown_name("initializer", name, ["auto", *INITIALIZERS])


def initial_weights(
    name: str, activation: str, seed: int, layer: int, fan_in: int, fan_out: int
) -> Doubles:
    """Weights (I, O), float64, of layer `layer` (from 0).

    "auto" takes the initialiser that the activation table names: He for the ReLU family, LeCun
    for SELU, Glorot for the rest.
    """
    check_initializer(name)
    if name == "auto":
        name = get_activation(activation).initializer
    return INITIALIZERS[name](seed, layer, fan_in, fan_out)
