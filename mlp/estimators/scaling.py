"""One place for what a mean over outputs changes against scikit-learn's sum over outputs.

The engine's losses are means over the O outputs, all but cross-entropy; scikit-learn's gradient is
that of the sum (its first delta is `prediction - target`). So the engine's gradient is 1/O of
scikit-learn's, and the same training needs:

- penalties, the bound of `clip_norm` and a weight decay that is added to the gradient: times 1/O;
- SGD: its rate times O, which also multiplies a decay of the weights by the rate;
- Adam, AdamW, RMSprop and Adagrad divide the gradient by its own size: eps times 1/O, Adagrad's
  first accumulator times 1/O²;
- Lion goes by the gradient's sign: nothing.

An optimizer class of the user's own is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mlp.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop


@dataclass(frozen=True)
class OutputScaling:
    """The factors for a loss that is a mean over `outputs` outputs; 1 for one that is not."""

    outputs: int

    def of_gradient(self, value: float) -> float:
        """A number that is added to, or compared with, a gradient."""
        return value / self.outputs

    def rate(self, optimizer: Optimizer) -> float:
        """What rates are multiplied by."""
        return float(self.outputs) if isinstance(optimizer, SGD) else 1.0

    def weight_decay(self, value: float, optimizer: Optimizer) -> float:
        """Of a decay that is multiplied by the rate."""
        return value / self.rate(optimizer)

    def optimizer(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer that does the same with the smaller gradient, its rate apart."""
        if self.outputs == 1 or type(optimizer).__module__ != Optimizer.__module__:
            return optimizer
        changes: dict[str, Any] = {}
        if isinstance(optimizer, Adam | RMSprop | Adagrad):
            changes["eps"] = optimizer.eps / self.outputs
        if isinstance(optimizer, SGD | Adam | RMSprop | Adagrad) and not isinstance(
            optimizer, AdamW
        ):
            changes["weight_decay"] = optimizer.weight_decay / self.outputs
        if isinstance(optimizer, Adagrad):
            first = optimizer.initial_accumulator_value
            changes["initial_accumulator_value"] = first / self.outputs**2
        return replace(optimizer, **changes) if changes else optimizer  # type: ignore[type-var]
