"""What both ways of using PyTorch share: the module, its loss, its precision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

from bench.cases import Case
from bench.data import Array, Problem


def build(case: Case, problem: Problem, threads: int) -> torch.nn.Sequential:
    """Linear layers with ReLU between them, holding the initial weights; it gives logits."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(case.widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    set_parameters(model, problem)
    return model


def set_parameters(model: torch.nn.Sequential, problem: Problem) -> None:
    """Copies the initial weights in place; PyTorch keeps W as (O, I)."""
    with torch.no_grad():
        for layer, W, b in zip(model[::2], problem.weights, problem.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))


def parameters(model: torch.nn.Sequential) -> tuple[Sequence[Array], Sequence[Array]]:
    linear = model[::2]
    return [layer.weight.detach().numpy().T for layer in linear], [
        layer.bias.detach().numpy() for layer in linear
    ]


def rows(case: Case, problem: Problem) -> tuple[Any, Any]:
    """Rows (N, I), and labels (N,) or, for one output, numbers (N, 1)."""
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    return X, y.float()[:, None] if case.binary else y


def mean_loss(case: Case, logits: Any, target: Any) -> Any:
    if case.binary:
        return F.binary_cross_entropy_with_logits(logits, target)
    return F.cross_entropy(logits, target)


def autocast(case: Case) -> Any:
    """Products in bfloat16 where the case asks for it, on float32 weights."""
    return torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16")


def blocks(case: Case, X: Any, most: int) -> list[list[Any]]:
    """The rows of each call, divided into blocks that stay in cache."""
    return [list(call.split(most)) for call in X.split(case.batch)]
