"""The activation table: each function g, its derivative, and what the backward pass has to keep.

The NumPy callables here are the definition that every backend is tested against. They keep the
dtype of their argument and neither overflow nor return NaN for |z| up to 1e4.

`derivative` takes what the forward pass saved: the output `a` where g' can be written from it,
else the input `z`. Softmax mixes the outputs of a row, so it has no elementwise derivative and
`activation_backward` treats it apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from mlp.errors import lookup

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
GELU_TANH_CUBIC = 0.044715


@dataclass(frozen=True)
class Activation:
    """One row of the table.

    Attributes:
        formula: g(z) as text.
        derivative_formula: g' as text, in terms of what is saved.
        saves: "a" if g' is computed from the output, "z" if from the input.
        forward: z (B, O) -> a (B, O).
        derivative: saved (B, O) -> g' (B, O); None for softmax.
        kinks: values of z at which g' jumps, or its slope does.
        initializer: the weight initialiser that suits g.
        source: where g comes from.
    """

    name: str
    formula: str
    derivative_formula: str
    saves: Literal["a", "z"]
    forward: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats] | None
    kinks: tuple[float, ...] = ()
    initializer: str = "glorot_uniform"
    source: str = ""


def sigmoid(z: Floats) -> Floats:
    # exp of a non-positive number only, so that nothing overflows on either side.
    e = np.exp(-np.abs(z))
    result: Floats = np.where(z >= 0, np.ones_like(e), e) / (1 + e)
    return result


def softplus(z: Floats) -> Floats:
    result: Floats = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
    return result


def softmax(z: Floats) -> Floats:
    """Rows of z (B, O) to probabilities; shifting a row by its largest entry changes nothing."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Floats = e / e.sum(axis=-1, keepdims=True)
    return result


def _elu(z: Floats) -> Floats:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def _normal_cdf(z: Floats) -> Floats:
    from scipy.special import erfc  # deferred: `import mlp` must not load scipy

    # erfc keeps the relative precision of the left tail, which 1 + erf cancels away.
    result: Floats = 0.5 * erfc(z * -math.sqrt(0.5))
    return result


def _gelu_derivative(z: Floats) -> Floats:
    density = np.exp(-0.5 * np.square(z)) * (1 / math.sqrt(2 * math.pi))
    result: Floats = _normal_cdf(z) + z * density
    return result


def _gelu_tanh_inner(z: Floats) -> Floats:
    result: Floats = np.tanh(math.sqrt(2 / math.pi) * (z + GELU_TANH_CUBIC * z * z * z))
    return result


def _gelu_tanh_derivative(z: Floats) -> Floats:
    t = _gelu_tanh_inner(z)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * GELU_TANH_CUBIC * z * z)
    # 1 - t^2 is 0 to the last bit long before z * slope grows large.
    result: Floats = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * slope
    return result


def _silu_derivative(z: Floats) -> Floats:
    s = sigmoid(z)
    result: Floats = s * (1 + z * (1 - s))
    return result


def _step(a: Floats, below: float) -> Floats:
    return np.where(a > 0, np.ones_like(a), np.full_like(a, below))


_ROWS = (
    Activation("identity", "z", "1", "a", lambda z: z, np.ones_like),
    Activation(
        "relu", "max(z, 0)", "1 if a > 0 else 0", "a",
        lambda z: np.maximum(z, 0), lambda a: _step(a, 0.0), (0.0,), "he_normal",
        source="Nair, Hinton, ICML 2010",
    ),
    Activation(
        "leaky_relu", "z if z > 0 else 0.01 z", "1 if a > 0 else 0.01", "a",
        lambda z: np.where(z > 0, z, LEAKY_SLOPE * z), lambda a: _step(a, LEAKY_SLOPE),
        (0.0,), "he_normal",
        source="Maas, Hannun, Ng, ICML 2013",
    ),
    Activation(
        "elu", "z if z > 0 else exp(z) - 1", "1 if a > 0 else a + 1", "a",
        _elu, lambda a: np.where(a > 0, np.ones_like(a), a + 1), (0.0,), "he_normal",
        source="Clevert, Unterthiner, Hochreiter, ICLR 2016",
    ),
    Activation(
        "selu", "λ (z if z > 0 else α (exp(z) - 1)), λ = 1.0507, α = 1.6733",
        "λ if a > 0 else a + λ α", "a",
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda a: np.where(a > 0, np.full_like(a, SELU_SCALE), a + SELU_SCALE * SELU_ALPHA),
        (0.0,), "lecun_normal",
        source="Klambauer et al., NeurIPS 2017",
    ),
    Activation(
        "gelu", "z Φ(z)", "Φ(z) + z φ(z)", "z",
        lambda z: z * _normal_cdf(z), _gelu_derivative, (), "he_normal",
        source="Hendrycks, Gimpel, arXiv 1606.08415",
    ),
    Activation(
        "gelu_tanh", "z (1 + t) / 2, t = tanh(√(2/π) (z + 0.044715 z³))",
        "(1 + t) / 2 + z (1 - t²) √(2/π) (1 + 0.134145 z²) / 2", "z",
        lambda z: 0.5 * z * (1 + _gelu_tanh_inner(z)), _gelu_tanh_derivative, (), "he_normal",
        source="Hendrycks, Gimpel, arXiv 1606.08415",
    ),
    Activation(
        "silu", "z σ(z)", "σ(z) (1 + z (1 - σ(z)))", "z",
        lambda z: z * sigmoid(z), _silu_derivative, (), "he_normal",
        source="Elfwing, Uchibe, Doya, Neural Networks 107 (2018)",
    ),
    Activation(
        "sigmoid", "1 / (1 + exp(-z))", "a (1 - a)", "a",
        sigmoid, lambda a: a * (1 - a),
        source="Rumelhart, Hinton, Williams, Nature 323 (1986)",
    ),
    Activation("tanh", "tanh(z)", "1 - a²", "a", np.tanh, lambda a: 1 - a * a,
        source="LeCun et al., Efficient BackProp (1998)",
    ),
    Activation(
        "softplus", "log(1 + exp(z))", "1 - exp(-a)", "a",
        softplus, lambda a: -np.expm1(-a), (), "he_normal",
        source="Dugas et al., NeurIPS 2000",
    ),
    Activation(
        "softmax", "exp(z_k) / Σ_j exp(z_j)", "∂a_j/∂z_k = a_j ([j = k] - a_k)", "a",
        softmax, None,
        source="Bridle, NeurIPS 1989",
    ),
)  # fmt: skip

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}


def get_activation(name: str) -> Activation:
    """The table's row for `name`; raises InvalidSetting, suggesting the nearest name."""
    return lookup("activation", name, ACTIVATIONS)


def activation_backward(name: str, gradient: Floats, saved: Floats) -> Floats:
    """dLoss/dz (B, O) from dLoss/da (B, O) and what the forward pass saved (B, O).

    Elementwise: dLoss/da * g'. Softmax: a * (dLoss/da - Σ_j dLoss/da_j a_j), its Jacobian applied.
    """
    row = get_activation(name)
    if row.derivative is not None:
        result: Floats = gradient * row.derivative(saved)
        return result
    inner = (gradient * saved).sum(axis=-1, keepdims=True)
    softmax_gradient: Floats = saved * (gradient - inner)
    return softmax_gradient
