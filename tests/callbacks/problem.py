"""A small trainer on the reference, its rows, and two hooks that act on what others see."""

from __future__ import annotations

import mlp
from mlp.backends import get_backend
from tests.problems import network, rows, target

X, Y = rows(23, 4), target("labels", 23, 3)
VALIDATION = (rows(19, 4, seed=5), target("labels", 19, 3, seed=6))


def small_trainer(optimizer: mlp.Optimizer | None = None, **settings) -> mlp.Trainer:
    net = network(4, [(8, "tanh"), (3, "softmax")], get_backend("numpy"))
    return mlp.Trainer(net, "cross_entropy", optimizer or mlp.Adam(0.1), batch_size=5, **settings)


class Explode(mlp.Callback):
    """Makes the weights not finite in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_progress(self, trainer, batches_done):
        if trainer.epoch + 1 == self.epoch:
            trainer.network.parameters.flat[:] = float("nan")


class Score(mlp.Callback):
    """Writes given scores over those of the epochs."""

    def __init__(self, *scores: float) -> None:
        self.scores = iter(scores)

    def on_epoch_end(self, trainer):
        trainer.history["validation_score"][-1] = next(self.scores)
