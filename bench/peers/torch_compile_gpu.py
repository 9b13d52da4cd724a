"""PyTorch compiled by Inductor for a GPU: `torch.compile(mode="max-autotune")`, fused Adam.

The mode measures Triton's kernels against cuBLAS, and records both passes as CUDA graphs. Adam is
one fused kernel, outside them; `torch_graph` has the whole step in one graph.
"""

from __future__ import annotations

from typing import Any

import torch

from bench.cases import Case
from bench.data import Problem
from bench.peers import torch_eager, torch_model

MODE = "max-autotune"


def compiled(function: Any, device: str, mode: str = MODE) -> Any:
    """The function compiled for a GPU; as it is on the processor, where tests run it."""
    return torch.compile(function, mode=mode, dynamic=False) if device != "cpu" else function


class Training(torch_eager.Training):
    """The usual loop around a compiled loss."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        super().__init__(case, problem, threads, device)
        self.loss = compiled(self._loss, device)
        self.total = torch.zeros((), device=device)

    def run(self, epochs: int) -> float:
        steps = len(self.X) // self.case.batch
        for _ in range(epochs):
            order = torch.randperm(len(self.X), device=self.device)
            X, y = self.X.index_select(0, order), self.y.index_select(0, order)
            self.total.zero_()
            for x, target in zip(X.split(self.case.batch), y.split(self.case.batch), strict=True):
                self.total += self.step(x, target)
        return float(self.total) / steps

    def step(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # What the last step's graphs returned may be overwritten from here on.
        torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        loss: torch.Tensor = self.loss(x, target)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _loss(self, x: torch.Tensor, target: torch.Tensor) -> Any:
        with torch_model.autocast(self.case, self.device):
            return torch_model.mean_loss(self.case, self.model(x), target)


class Prediction(torch_eager.Prediction):
    """The same module, compiled."""

    without_gradients = torch.no_grad  # in inference mode, recording graphs fails in some versions

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        super().__init__(case, problem, threads, device)
        self.model = compiled(self.model, device)
