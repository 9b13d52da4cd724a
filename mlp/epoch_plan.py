"""What one epoch does differently from the others: the order, the weights and the penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.errors import InvalidInput, InvalidSetting


@dataclass(frozen=True)
class EpochPlan:
    """Settings of one epoch; None for what it is without a plan.

    Attributes:
        order: (N,) int64, the numbers of the rows in the order of the epoch, in place of the
            shuffle. A row may come more than once.
        weights: (N,) sample weights >= 0 of this epoch, in place of those that the steps were made
            with; only where they were made with some.
        penalty_scale: (batches,) float64 >= 0, by which the gradient of the penalty is multiplied
            in each step.
    """

    order: HostArray | None = None
    weights: HostArray | None = None
    penalty_scale: HostArray | None = None

    def checked(self, rows: int, batches: int, weighted: bool) -> EpochPlan:
        """The plan with arrays as documented, for N rows.

        Raises:
            InvalidSetting: a plan for other steps, or weights for steps that were made without.
            InvalidInput: an order with numbers of no row, or numbers that are negative or not
                finite.
        """
        if self.weights is not None and not weighted:
            raise InvalidSetting("an epoch's plan has weights, but fit was given no sample_weight")
        order = None
        if self.order is not None:
            order = np.asarray(self.order)
            if order.dtype.kind not in "iu":
                raise InvalidInput(f"a plan's order must be whole numbers, not {order.dtype}")
            _check_shape("order", order, rows)
            order = order.astype(np.int64, copy=False)
            if order.min() < 0 or order.max() >= rows:
                raise InvalidInput(f"a plan's order must have row numbers from 0 to {rows - 1}")
        weights = _numbers("weights", self.weights, rows)
        return EpochPlan(order, weights, _numbers("penalty_scale", self.penalty_scale, batches))


def _numbers(name: str, values: Any, size: int) -> HostArray | None:
    """An array of `size` numbers >= 0, as float64."""
    if values is None:
        return None
    array: HostArray = np.asarray(values, np.float64)
    _check_shape(name, array, size)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise InvalidInput(f"a plan's {name} must be finite and >= 0")
    return array


def _check_shape(name: str, array: HostArray, size: int) -> None:
    if array.shape != (size,):
        raise InvalidSetting(f"a plan's {name} must have the shape ({size},), not {array.shape}")
