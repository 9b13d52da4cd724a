"""PyTorch on a GPU with a whole step - gather, both passes, Adam - in one CUDA graph.

Inductor makes the kernels (`max-autotune-no-cudagraphs`), `torch.cuda.CUDAGraph` records the step
as PyTorch's notes on CUDA graphs describe it. The place in the epoch is counted on the device, so
that the host does nothing but replay: what PyTorch's experts give a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from bench.cases import Case
from bench.data import Array, Problem
from bench.peers import torch_eager, torch_model
from bench.peers.torch_compile_gpu import compiled

MODE = "max-autotune-no-cudagraphs"
WARM_UP_STEPS = 3  # on a side stream before a capture, as the notes ask for


def recorded(step: Callable[[], None], device: str) -> Callable[[], None]:
    """A function that replays the step; the step itself on the processor, where tests run it."""
    if device == "cpu":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


class Training:
    """Everything that a step reads or writes stays where it is."""

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        self.case, self.problem, self.device = case, problem, device
        self.model = torch_model.build(case, problem, threads, device)
        self.X, self.y = torch_model.rows(case, problem, device)
        self.timer = torch_model.timer(device)
        # `capturable` keeps Adam's step count on the device; on the processor there is no graph.
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=case.learning_rate, fused=True, capturable=device != "cpu"
        )
        self.order = torch.arange(len(self.X), device=device).view(-1, case.batch)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.total = torch.zeros((), device=device)
        self.loss = compiled(self._loss, device, MODE)
        self.step = recorded(self._step, device)
        self.reset()

    def reset(self) -> None:
        torch_model.set_parameters(self.model, self.problem)
        for state in self.optimizer.state.values():
            for values in state.values():
                values.zero_()
        self.place.zero_()

    def run(self, epochs: int) -> float:
        for _ in range(epochs):
            order = torch.randperm(len(self.X), device=self.device)
            self.order.copy_(order.view(-1, self.case.batch))
            self.place.zero_()
            self.total.zero_()
            for _ in range(len(self.order)):
                self.step()
        return float(self.total) / len(self.order)

    def _step(self) -> None:
        index = self.order.index_select(0, self.place).view(-1)
        x, target = self.X.index_select(0, index), self.y.index_select(0, index)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, target)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()
        # Warm-up steps and the capture are more than an epoch of one batch has.
        self.place.add_(1).remainder_(len(self.order))

    def _loss(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch_model.autocast(self.case, self.device):
            loss: torch.Tensor = torch_model.mean_loss(self.case, self.model(x), target)
        return loss

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        return torch_model.parameters(self.model)


class Prediction(torch_eager.Prediction):
    """A call copies its rows to where the graph reads them, unless there is but one call."""

    without_gradients = torch.no_grad

    def __init__(self, case: Case, problem: Problem, threads: int, device: str = "cpu") -> None:
        super().__init__(case, problem, threads, device)
        self.model = compiled(self.model, device, MODE)
        self.rows = [torch.cat(call) for call in self.calls]
        self.x = self.rows[0] if len(self.rows) == 1 else self.rows[0].clone()
        with self.without_gradients():
            self.replay = recorded(self._predict, device)

    def run(self) -> None:
        with self.without_gradients():
            for rows in self.rows:
                if rows is not self.x:
                    self.x.copy_(rows)
                self.replay()
                self.answer = self.out.cpu()  # waits for the device

    def _predict(self) -> None:
        with torch_model.autocast(self.case, self.device):
            self.out = self.model(self.x)
