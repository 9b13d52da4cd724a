"""Training steps of a small network, many in one launch, as the alternative to a graph of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.protocol import Array
from mlp.random import dropout_threshold
from mlp_kernels.cuda.tiny import Layer, TinyArrays, TinyPlan, tiny_steps

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend
    from mlp.backends.cuda.device import CudaDevice

# What a launch may hold up others on the device for: they wait until it ends.
MOST_STEPS = 1024


def why_not(steps: Any, device: CudaDevice) -> str | None:
    """Why the steps of a `mlp.step.Step` cannot be many in one launch, or None if they can."""
    if not device.cooperative:
        return "the device has no cooperative launches"
    if steps.stream is not None:
        return "the rows are streamed to the device"
    if steps.scaling is not None:
        return "the precision float16 scales the loss"
    return _plan_of(steps).why_too_large(device.shared_bytes)


class TinySteps:
    """Runs the next steps of an epoch, the last one that is not full included.

    Args:
        backend: whose device runs them.
        steps: a `mlp.step.Step` for which `why_not` has no answer; its arrays are used on.
        blocks: how many run at once; changes no number, only speed.
    """

    def __init__(self, backend: CupyBackend, steps: Any, blocks: int | None = None) -> None:
        self._backend, self._steps = backend, steps
        self._plan = _plan_of(steps)
        self._blocks = blocks or self._plan.blocks(backend.on.processors)
        self._rule = backend.rule_of(steps)
        flat, tape, terms = steps.flat, steps.full.tape, steps.regularization
        penalty = steps.penalty_steps
        settings = self._plan.settings(
            self._rule, steps.joined.parameter, terms.l1, terms.l2, terms.weight_decay,
            terms.clip_norm,
        )  # fmt: skip
        self._arrays = TinyArrays(
            table=backend.from_host(self._plan.table(), np.int64),
            settings=backend.from_host(settings, np.float64),
            parameters=flat.parameters, gradients=flat.gradients, copies=flat.copies,
            tape=tape.flat, output=tape.a[-1], output_saved=tape.saved[-1],
            X=steps.X, target=steps.y, weight=steps.weight, order=steps.order,
            counters=steps.counters, rates=steps.rates, scalars=steps.scalars, totals=steps.totals,
            values=backend.empty((steps.batch_size,), np.float64),
            squares=backend.empty((self._plan.parts,), np.float64),
            arrived=backend.zeros((1,), np.uint32),
            penalty_scales=None if penalty is None else penalty.scales,
            penalty_values=None if penalty is None else penalty.values,
            penalties=None if penalty is None else backend.empty((self._plan.parts,), np.float64),
        )  # fmt: skip
        with backend.on.recorded():
            self(1)  # compiles the kernel before the first step

    def __call__(self, count: int) -> None:
        """Queues the next `count` steps."""
        while count > 0:
            now = min(count, MOST_STEPS)
            self._backend.on.submit(
                tiny_steps(
                    self._plan, self._arrays, self._rule, self._steps.joined.form,
                    self._steps.network.layout.weights_end, now, blocks=self._blocks,
                    tf32=self._steps.network.precision == "tf32",
                )
            )  # fmt: skip
            count -= now


def _plan_of(steps: Any) -> TinyPlan:
    tape, layout = steps.full.tape, steps.network.layout

    def place(array: Array) -> int:
        return int(array.data.ptr - tape.flat.data.ptr) // int(tape.flat.dtype.itemsize)

    layers = []
    for i, layer in enumerate(steps.layers):
        inputs, outputs = layer.W.shape
        is_output, drop = i == len(steps.layers) - 1, layer.dropout
        a, saved = (0, 0) if is_output else (place(tape.a[i]), place(tape.saved[i]))
        layers.append(
            Layer(
                inputs, outputs, layout.weight_offsets[i], layout.bias_offsets[i],
                place(tape.x if i == 0 else tape.a[i - 1]), a, saved, place(tape.delta[i]),
                layer.activation,
                threshold=0 if drop is None else dropout_threshold(drop.rate),
                scale=1.0 if drop is None else 1 / (1 - drop.rate),
            )
        )  # fmt: skip
    return TinyPlan(tuple(layers), steps.batch_size, np.dtype(tape.flat.dtype))
