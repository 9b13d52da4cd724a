"""PyTorch compiled by Inductor for the processor: a whole step, passes and Adam, as one graph.

Of the ways that were tried this is the fastest: compiling only the loss, or the loss and
`torch.optim.Adam.step` apart, is slower than no compilation on small networks, because each graph
costs a call of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.func import functional_call, grad_and_value

from bench.cases import Case
from bench.data import Array, Problem
from bench.peers import torch_eager, torch_model

# Shapes never change, and a call from C++ costs less than one from Python.
OPTIONS = {"cpp_wrapper": True}
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
BLOCK_ROWS = 8000  # the faster of 1000 and 8000 on 64-128-64-10


class Training:
    """`torch.func` in place of `backward`, so that nothing breaks the graph."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.problem = case, problem
        self.model = torch_model.build(case, problem, threads)
        self.X, self.y = torch_model.rows(case, problem)
        self.values = {name: p.detach() for name, p in self.model.named_parameters()}
        self.m = {name: torch.zeros_like(p) for name, p in self.values.items()}
        self.v = {name: torch.zeros_like(p) for name, p in self.values.items()}
        self.t = torch.zeros(())
        self.step = torch.compile(self._step, dynamic=False, fullgraph=True, options=OPTIONS)

    def reset(self) -> None:
        torch_model.set_parameters(self.model, self.problem)
        for state in (self.t, *self.m.values(), *self.v.values()):
            state.zero_()

    @torch.no_grad()
    def run(self, epochs: int) -> float:
        for _ in range(epochs):
            order = torch.randperm(len(self.X))
            X, y = self.X.index_select(0, order), self.y.index_select(0, order)
            batches = zip(X.split(self.case.batch), y.split(self.case.batch), strict=True)
            losses = [self.step(x, target) for x, target in batches]
        return float(torch.stack(losses).mean())

    def _step(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        gradients, loss = grad_and_value(self._loss)(self.values, x, target)
        self.t.add_(1)
        rate = self.case.learning_rate / (1 - BETA1**self.t)
        correction = (1 - BETA2**self.t).sqrt()
        for name, p in self.values.items():
            g, m, v = gradients[name], self.m[name], self.v[name]
            m.lerp_(g, 1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            p.sub_(rate * m / (v.sqrt() / correction + EPS))
        return loss

    def _loss(
        self, values: dict[str, torch.Tensor], x: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        with torch_model.autocast(self.case):
            return torch_model.mean_loss(
                self.case, functional_call(self.model, values, (x,)), target
            )

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return torch_model.parameters(self.model)


class Prediction(torch_eager.Prediction):
    """The same module, compiled."""

    block_rows = BLOCK_ROWS

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        super().__init__(case, problem, threads)
        self.model = torch.compile(self.model, dynamic=False, options=OPTIONS)
