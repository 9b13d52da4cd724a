"""The order, the weights and the penalty of each epoch, as scikit-learn has them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.epoch_plan import EpochPlan


class EpochOrder:
    """A Trainer's `plan`: rows shuffled by a NumPy generator, batches averaged by their rows.

    scikit-learn averages the mean losses of batches by their number of rows, whatever their rows
    weigh, and divides the penalty's gradient by the weight sw of each batch. The engine averages by
    weight. With weights w * rows / sw every batch has a weight of its number of rows: its gradient
    is the same, and the engine's mean loss is scikit-learn's. A batch whose rows all weigh 0, for
    which scikit-learn's loss is not defined, has no gradient, no penalty and no part in the loss.

    Args:
        rows: N.
        batch_size: rows of a full batch.
        weight: (N,) or None.
        random_state: shuffles before every epoch; None for the rows as they are.

    Attributes:
        sizes: (batches,) rows of each batch.
        penalty_scale: (batches,) 1 / sw, or 0 where sw is 0, in the current epoch.
        weights: (N,) weights of the current epoch, or None.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        weight: HostArray | None,
        random_state: np.random.RandomState | None,
    ) -> None:
        self._order = np.arange(rows)
        self._starts = np.arange(0, rows, batch_size)
        self._given, self._random_state = weight, random_state
        self.sizes = np.diff(self._starts, append=rows).astype(np.float64)
        self.penalty_scale = 1 / self.sizes
        self.weights: HostArray | None = None

    def __call__(self, epoch: int) -> EpochPlan:
        order = self._order
        if self._random_state is not None:
            # Step by step what sklearn.utils.shuffle does with the order of the epoch before.
            shuffled = np.arange(len(order))
            self._random_state.shuffle(shuffled)
            order = self._order = order[shuffled]
        if self._given is not None:
            self._weigh(self._given[order].astype(np.float64), order)
        return EpochPlan(order, self.weights, self.penalty_scale)

    def _weigh(self, in_order: HostArray, order: HostArray) -> None:
        sums = np.add.reduceat(in_order, self._starts)
        self.penalty_scale = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
        weights = np.empty_like(in_order)
        factors = self.sizes * self.penalty_scale
        weights[order] = in_order * np.repeat(factors, self.sizes.astype(int))
        self.weights = weights

    def mean_penalty(self, penalties: HostArray) -> float:
        """The part of penalties (batches,), one before each step, in the epoch's mean loss."""
        counted = self.sizes[self.penalty_scale > 0].sum()
        return float((self.sizes * penalties * self.penalty_scale).sum() / counted)

    def mean_of(self, values: HostArray) -> float:
        """The mean of numbers (N,), one for each row, as the epoch's loss is a mean."""
        return float(np.average(values, weights=self.weights))


def batch_size_of(given: Any, rows: int) -> int:
    """`batch_size` for N rows; warns as scikit-learn does where it is larger than N."""
    if given == "auto":
        return min(200, rows)
    if given > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=2,
        )
    return int(np.clip(given, 1, rows))
