"""Activations that work element by element: activations.cuh, and launches of activations.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.types import BLOCK, blocks_for, check_shape, number_type

# Those with a derivative per element; softmax, which mixes the outputs of a row, is in softmax.cu.
ELEMENTWISE = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "sigmoid",
    "tanh", "softplus",
)  # fmt: skip


def activation_struct(name: str) -> str:
    """The value of -DACTIVATION for a name of `mlp.activations`: GeluTanh for gelu_tanh."""
    if name not in ELEMENTWISE:
        raise ValueError(f"'{name}' is no activation that is computed element by element")
    return "".join(word.capitalize() for word in name.split("_"))


def activation_delta(gradient: Any, saved: Any, activation: str, out: Any) -> Launch:
    """Out = gradient * g'(saved), of one shape and each of its own number type.

    out may be gradient. For softmax see `softmax.softmax_delta`.
    """
    check_shape("saved", saved, *gradient.shape)
    check_shape("out", out, *gradient.shape)
    kernel = Kernel.of(
        "activations.cu", "activation_delta", ACTIVATION=activation_struct(activation),
        GRADIENT=number_type(gradient.dtype), SAVED=number_type(saved.dtype),
        OUT=number_type(out.dtype),
    )  # fmt: skip
    return Launch(
        kernel, (blocks_for(out.size, 4 * BLOCK), 1, 1), (BLOCK, 1, 1),
        (gradient, saved, out, np.int64(out.size)),
    )  # fmt: skip
