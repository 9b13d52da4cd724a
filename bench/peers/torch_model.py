"""What all ways of using PyTorch share: the module, its loss, its precision, its device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

from bench.cases import Case
from bench.data import Array, Problem

# float32 means exact products, also on tensor cores; "high" allows tf32.
PRODUCTS = {"float32": "highest", "tf32": "high", "bfloat16": "highest"}


def build(case: Case, problem: Problem, threads: int, device: str = "cpu") -> torch.nn.Sequential:
    """Linear layers with ReLU between them, holding the initial weights; it gives logits."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if device != "cpu":
        torch.set_float32_matmul_precision(PRODUCTS[case.precision])
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(case.widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
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
    return [layer.weight.detach().cpu().numpy().T for layer in linear], [
        layer.bias.detach().cpu().numpy() for layer in linear
    ]


def rows(case: Case, problem: Problem, device: str = "cpu") -> tuple[Any, Any]:
    """Rows (N, I), and labels (N,) or, for one output, numbers (N, 1)."""
    X, y = torch.from_numpy(problem.X).to(device), torch.from_numpy(problem.y).to(device)
    return X, y.float()[:, None] if case.binary else y


def mean_loss(case: Case, logits: Any, target: Any) -> Any:
    if case.binary:
        return F.binary_cross_entropy_with_logits(logits, target)
    return F.cross_entropy(logits, target)


def autocast(case: Case, device: str = "cpu") -> Any:
    """Products in bfloat16 where the case asks for it, on float32 weights."""
    return torch.autocast(device, torch.bfloat16, enabled=case.precision == "bfloat16")


def blocks(case: Case, X: Any, most: int) -> list[list[Any]]:
    """The rows of each call, divided into blocks that stay in cache."""
    return [list(call.split(most)) for call in X.split(case.batch)]


def timer(device: str) -> Any | None:
    """Marks in the current stream of a GPU."""
    return Marks() if device != "cpu" else None


class Marks:
    """Two events: see `bench.peers.protocol.Timer`."""

    def __init__(self) -> None:
        self.first, self.last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        self.first.record()

    def stop(self) -> float:
        self.last.record()
        self.last.synchronize()
        milliseconds: float = self.first.elapsed_time(self.last)
        return milliseconds / 1000
