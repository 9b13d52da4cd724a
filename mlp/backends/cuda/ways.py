"""Which way the steps of a network run on a device: measured on themselves, unless it is named."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlp.backends.cuda.tiny import TinySteps, why_not
from mlp.backends.protocol import BATCH, Array
from mlp.errors import DeviceFault, InvalidSetting
from mlp_kernels.cuda import convert

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

# Graphs of steps whose narrow layers are chains, or whose layers are all ordinary products; and
# many steps in one launch.
CHAINS, LAYERS, PERSISTENT = "chains", "layers", "persistent"
# What `CupyBackend.tiny_steps` calls the first two.
GRAPH = "graph"
# Steps of each kind that are measured.
MEASURED_STEPS = 16


def chosen_way(
    backend: CupyBackend, steps: Any, graphs: Mapping[str, Callable[[int], None]]
) -> tuple[str, TinySteps | None]:
    """The name of a way, and what runs the steps if that is `PERSISTENT`.

    Args:
        backend: whose device runs them.
        steps: a `mlp.step.Step`.
        graphs: functions that run so many full steps, by CHAINS or LAYERS; without a measurement
            the first is taken.

    Raises:
        InvalidSetting: many steps in one launch are asked for, and cannot be had; or what is asked
            for is no way.
    """
    asked, reason = backend.tiny_steps, why_not(steps, backend.on)
    if asked not in (None, GRAPH, PERSISTENT):
        raise InvalidSetting(f"tiny_steps is '{GRAPH}', '{PERSISTENT}' or None, not {asked!r}")
    if asked == PERSISTENT:
        if reason is not None:
            raise InvalidSetting(f"many steps in one launch cannot be had: {reason}")
        return PERSISTENT, TinySteps(backend, steps)
    tiny = functools.cache(lambda: TinySteps(backend, steps))  # compiled only if it is tried
    ways = dict(graphs)
    if asked != GRAPH and reason is None:
        ways[PERSISTENT] = lambda count: tiny()(count)
    if len(ways) == 1 or steps.stream is not None:  # a stream gives its rows once
        return next(iter(ways)), None
    count = min(MEASURED_STEPS, steps.rows // steps.batch_size)
    with Trial(backend, steps) as trial:
        name = backend.choices.fastest(
            f"{_key(steps)}: {', '.join(ways)}",
            {name: functools.partial(trial.run, way, count) for name, way in ways.items()},
            calls=count,
        )
    return name, tiny() if name == PERSISTENT else None


class Trial:
    """Steps that are run to be measured, in a context: what they change is put back at its end.

    Before the first epoch, all of them are of row 0 and at the learning rate 0.

    Args:
        backend: whose device runs them.
        steps: a `mlp.step.Step`.
    """

    def __init__(self, backend: CupyBackend, steps: Any) -> None:
        self._backend, self._steps = backend, steps
        self._kept: list[tuple[Array, Array]] = []

    def run(self, some: Callable[[int], None], count: int) -> None:
        """Queues the first `count` steps of an epoch, by a function of their number."""
        if not self._kept:
            self._keep()
        self._backend.on.submit(convert.convert(self._start, self._steps.counters))
        some(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, DeviceFault):
            return  # nothing can be put back on such a device
        for array, copy in self._kept:
            self._backend.copy(copy, array)

    def _keep(self) -> None:
        backend = self._backend
        start = backend.to_host(self._steps.counters)
        start[BATCH] = -1
        self._start = backend.from_host(start, np.int64)
        kept = [(array, backend.empty(array.shape, array.dtype)) for array in _state(self._steps)]
        for array, copy in kept:
            backend.copy(array, copy)
        self._kept = kept


def _state(steps: Any) -> list[Array]:
    """All that outlives a step and is written by it."""
    flat = steps.flat
    some = [array for array in (flat.copies, steps.scaling) if array is not None]
    return [
        flat.parameters, flat.gradients, *some, *steps.state.values(), steps.counters,
        steps.scalars, steps.totals,
    ]  # fmt: skip


def _key(steps: Any) -> str:
    """What the choice depends on, in words."""
    widths = "-".join(map(str, steps.network.spec.widths))
    clipped = " clipped" if steps.regularization.clip_norm is not None else ""
    optimizer = type(steps.optimizer).__name__
    return f"steps {widths} x {steps.batch_size} {steps.network.precision} {optimizer}{clipped}"
