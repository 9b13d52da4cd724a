"""PyTorch as it is: preloaded tensors, no DataLoader, the fused Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.cases import Case
from bench.data import Array, Problem
from bench.peers import torch_model

BLOCK_ROWS = 2000  # the fastest of 1000 to 1e6 on 64-128-64-10


class Training:
    """The usual loop. Rows are shuffled once an epoch and split, which beats a gather a step."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.problem, self.device = case, problem, device
        self.model = torch_model.build(case, problem, threads, device)
        self.X, self.y = torch_model.rows(case, problem, device)
        self.timer = torch_model.timer(device)
        self.reset()

    def reset(self) -> None:
        torch_model.set_parameters(self.model, self.problem)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=self.case.learning_rate, fused=True
        )

    def run(self, epochs: int) -> float:
        for _ in range(epochs):
            order = torch.randperm(len(self.X), device=self.device)
            X, y = self.X.index_select(0, order), self.y.index_select(0, order)
            batches = zip(X.split(self.case.batch), y.split(self.case.batch), strict=True)
            losses = [self.step(x, target) for x, target in batches]
        return float(torch.stack(losses).mean())

    def step(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch_model.autocast(self.case, self.device):
            loss = torch_model.mean_loss(self.case, self.model(x), target)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return torch_model.parameters(self.model)


class Prediction:
    """The module in inference mode, with a sigmoid or softmax as its last layer."""

    block_rows = BLOCK_ROWS
    without_gradients: Any = torch.inference_mode

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.device = case, device
        last = torch.nn.Sigmoid() if case.binary else torch.nn.Softmax(dim=-1)
        model = torch_model.build(case, problem, threads, device)
        self.model = torch.nn.Sequential(*model, last).eval()
        X = torch.from_numpy(problem.X).to(device)
        # Blocks are for a processor's cache; a GPU takes all rows of a call at once.
        most = self.block_rows if device == "cpu" else case.batch
        self.calls = torch_model.blocks(case, X, most)

    def run(self) -> None:
        with self.without_gradients(), torch_model.autocast(self.case, self.device):
            for call in self.calls:
                answers = [self.model(block) for block in call]
                answer = answers[0] if len(answers) == 1 else torch.cat(answers)
                # A copy to the host waits for the device.
                self.answer = answer if self.device == "cpu" else answer.cpu()

    def probabilities(self) -> Array:
        answer: Array = self.answer.float().numpy()
        return answer
