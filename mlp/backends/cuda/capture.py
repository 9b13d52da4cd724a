"""Training steps as CUDA graphs: one launch from the host for a step, or for several."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.cuda.device import Graph
from mlp.backends.cuda.ways import CHAINS, LAYERS, chosen_way
from mlp.random import Doubles
from mlp_kernels.cuda import convert
from mlp_kernels.cuda.launch import Work

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

# Steps in the larger of the two graphs of full batches: small steps are shorter than a launch.
STEPS_OF_A_GRAPH = 16


class CapturedSteps:
    """Does what the steps' own `run` does, recorded: gather, forward, loss, backward, update.

    Whatever changes from step to step is in device memory, so a recording stays valid. There is one
    of a full batch, one of several, and one of a last batch that is not full; or none, where many
    steps in one launch are faster (`mlp.backends.cuda.ways`).

    Args:
        backend: whose device records.
        steps: a `mlp.step.Step`, all of whose arrays it goes on using.
    """

    def __init__(self, backend: CupyBackend, steps: Any) -> None:
        self._backend, self._steps = backend, steps
        self._chains = backend.chains(steps.layers, steps.flat.parameters, training=True)
        self._graphs: dict[tuple[str, int, str], Graph] = {}
        self._launches: dict[tuple[str, str], list[Work]] = {}
        rest = steps.last.index.size
        self._full_batches = steps.batches - (rest < steps.batch_size)
        ways = (CHAINS, LAYERS) if self._chains.any else (LAYERS,)
        graphs = {way: functools.partial(self._run_full, way) for way in ways}
        self._way, self._tiny = chosen_way(backend, steps, graphs)
        if self._tiny is None:
            # Recorded here, so that kernels are compiled and room is made before the first step.
            for which in {"full"} | ({"last"} if self._full_batches < steps.batches else set()):
                self._recorded(which, self._way)

    def __call__(self, start: int, stop: int) -> None:
        if self._steps.stream is not None:
            self._run_streamed(start, stop)
            return
        if self._tiny is not None:
            self._tiny(stop - start)
            return
        self._run_full(self._way, max(min(stop, self._full_batches) - start, 0))
        if stop > start and stop > self._full_batches:
            self._graph("last", 1, self._way)()

    def _run_full(self, way: str, count: int) -> None:
        many, single = divmod(count, STEPS_OF_A_GRAPH)
        for _ in range(many):
            self._graph("full", STEPS_OF_A_GRAPH, way)()
        for _ in range(single):
            self._graph("full", 1, way)()

    def _run_streamed(self, start: int, stop: int) -> None:
        """One step at a time, each when its rows are on their way."""
        for number in range(start, stop):
            self._steps.stream.require(number)
            self._graph("full" if number < self._full_batches else "last", 1, self._way)()

    def epochs(self, first: int, rates: Doubles, sums: Doubles) -> None:
        backend, steps = self._backend, self._steps
        on_device = backend.empty((len(rates), 2), np.float64)
        for i, of_epoch in enumerate(rates):
            steps.begin_epoch(first + i, of_epoch)
            self(0, len(of_epoch))
            # Kept on the device, so that the host need not wait for an epoch to begin the next.
            backend.on.submit(convert.convert(steps.totals, on_device[i]))
        sums[...] = backend.to_host(on_device)

    def _graph(self, which: str, count: int, way: str) -> Graph:
        graph = self._graphs.get((which, count, way))
        if graph is None:
            launches = self._recorded(which, way) * count
            graph = self._graphs[which, count, way] = self._backend.on.graph(launches)
        return graph

    def _recorded(self, which: str, way: str) -> list[Work]:
        """The launches of a full batch or the last one, noted when they are first asked for."""
        if (which, way) not in self._launches:
            self._launches[which, way] = self._record(getattr(self._steps, which), way)
        return self._launches[which, way]

    def _record(self, batch: Any, way: str) -> list[Work]:
        steps, backend = self._steps, self._backend
        with backend.on.recorded() as launches:
            if way == CHAINS:
                steps.gather(batch)
                self._chains.forward(batch.tape)
                steps.compute_output_delta(batch)
                self._chains.backward(batch.tape, steps.flat.gradients)
            else:
                steps.compute_gradients(batch)
        return [*launches, *backend.fused_update(steps)]
