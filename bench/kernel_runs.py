"""One operation alone: our kernel and the library's way, in turn, by the GPU's own clock.

Each contender's launches, one per set of arrays, are recorded as a CUDA graph, so that the host
does not hold them up, and the graph is replayed between two events. The sets take turns so that
together they are larger than the level-2 cache; of small operations there are so many at most that
their arrays stay in it, as they do in a training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from bench.kernels import SAVES_Z, KernelCase
from bench.machine import cache_bytes
from mlp.backends import get_backend
from mlp.backends.cuda.backend import DeviceRoom
from mlp.backends.cuda.products import MOST_TILES, SIZES, ranked_tiles
from mlp_kernels.cuda import gather, library, losses, optimizers, products
from mlp_kernels.cuda.launch import LibraryProduct
from mlp_kernels.cuda.tiles import Device, Tile, copy_bytes

# The library's product, then our elementwise kernel: between both, numbers of the sums' type; or,
# in bfloat16, rounded ones, which is less to move and rounds twice.
OURS, LIBRARY, ROUNDED = "ours", "cublaslt", "cublaslt-rounded"
TIMES_THE_CACHE = 3
LEAST_SETS, MOST_SETS = 2, 64
MOST_REPLAYS = 100_000

Array = Any
Works = list[Any]  # of mlp_kernels.cuda.launch.Work, in order


class Bench:
    """A GPU in one precision, and what the arrays of a set are made with."""

    def __init__(self, precision: str) -> None:
        backend: Any = get_backend("cuda", precision)
        self.backend = backend
        self.on, self.empty = backend.on, backend.empty
        self.device: Device = backend.products.device
        self.room = DeviceRoom(self.on)
        self.compute = backend.compute_dtype(np.float32)
        self.rounds = self.compute != np.float32
        self.rng = np.random.default_rng(0)

    def numbers(self, *shape: int, dtype: Any = None) -> Array:
        """Normal numbers of moderate size, operands of products unless told otherwise."""
        # A block of them over and over: to draw them all takes longer than to measure.
        block = self.rng.standard_normal(2**16, dtype=np.float32)
        values = np.resize(block, shape) / np.float32(math.sqrt(shape[-1]))
        return self.backend.from_host(values, dtype or self.compute)

    def below(self, end: int, count: int) -> Array:
        """Labels, or row numbers."""
        return self.backend.from_host(self.rng.integers(0, end, count), np.int64)


def measure_kernel(case: KernelCase, repeats: int, seconds: float) -> dict[str, Any]:
    """What a `bench.record.KernelResult` holds but for the case."""
    bench = Bench(case.precision)
    sets = _sets(case, cache_bytes(bench.on.cupy.cuda))
    made = [_BUILDERS[case.operation](bench, case) for _ in range(sets)]
    graphs, absent = {}, {}
    for contender in made[0]:
        reason = _why_not(bench, made[0][contender])
        if reason is None:
            works = [work for each in made for work in each[contender]]
            graphs[contender] = Timed(bench.on, works, sets, seconds)
        else:
            absent[contender] = reason
    graphs = _with_our_best(graphs)
    times: dict[str, list[float]] = {contender: [] for contender in graphs}
    for _ in range(repeats):
        for contender, graph in graphs.items():
            times[contender].append(graph())
    return {"times": times, "absent": absent, "sets": sets}


def _with_our_best(graphs: dict[str, Timed]) -> dict[str, Timed]:
    """Of our tiles the one that was fastest in a first measurement, as the tuner would take it."""
    ours = {name: graph() for name, graph in graphs.items() if name.startswith(OURS)}
    best = min(ours, key=ours.__getitem__)
    return {OURS: graphs[best]} | {name: graphs[name] for name in graphs if name not in ours}


def _sets(case: KernelCase, cache: int) -> int:
    wanted = math.ceil(TIMES_THE_CACHE * cache / case.work.bytes)
    return min(max(wanted, LEAST_SETS), MOST_SETS)


def _why_not(bench: Bench, works: Works) -> str | None:
    """Why the library cannot do its part, or None."""
    products_of_it = (work for work in works if isinstance(work, LibraryProduct))
    reasons = (bench.on.library.why_not(product) for product in products_of_it)
    return next((reason for reason in reasons if reason is not None), None)


class Timed:
    """Seconds of one set's work; a call measures for `seconds` or more, warmed up before."""

    def __init__(self, on: Any, works: Works, sets: int, seconds: float) -> None:
        self.on, self.sets = on, sets
        self.graph = on.graph(works)
        self.first, self.last = on.event(timed=True), on.event(timed=True)
        self.replays = 1
        while self.replays < MOST_REPLAYS and self._run() < seconds:
            self.replays *= 2

    def _run(self) -> float:
        self.on.record(self.first)
        for _ in range(self.replays):
            self.graph()
        self.on.record(self.last)
        return float(self.on.seconds_between(self.first, self.last))

    def __call__(self) -> float:
        return self._run() / (self.replays * self.sets)


# --- one set of each operation ------------------------------------------------------------------


def _forward(bench: Bench, case: KernelCase) -> dict[str, Works]:
    x, W = bench.numbers(case.B, case.I), bench.numbers(case.I, case.O)
    b = bench.numbers(case.O, dtype=np.float32)
    a = bench.empty((case.B, case.O), bench.compute)
    saved = bench.empty(a.shape, a.dtype) if case.activation in SAVES_Z else a
    rest = (x, W, b, case.activation, a, saved)
    return {
        **_by_tiles("linear_forward", bench, x, W, lambda tile: products.linear_forward(
            bench.device, *rest, tile=tile
        )),
        **_library(library.linear_forward, bench, rest),
    }  # fmt: skip


def _delta(bench: Bench, case: KernelCase) -> dict[str, Works]:
    delta, W = bench.numbers(case.B, case.O), bench.numbers(case.I, case.O)
    saved, out = bench.numbers(case.B, case.I), bench.empty((case.B, case.I), bench.compute)
    rest = (delta, W, saved, case.activation, out, bench.empty((case.I,), np.float32))
    return {
        **_by_tiles("linear_delta", bench, delta, W, lambda tile: products.linear_delta(
            bench.device, bench.room, *rest, tile=tile
        )),
        **_library(library.linear_delta, bench, rest),
    }  # fmt: skip


def _by_tiles(
    operation: str, bench: Bench, left: Array, right: Array, build: Callable[[Tile], Any]
) -> dict[str, Works]:
    """The product by each of the tiles that the tuner would try."""
    sizes = SIZES[operation](left, right)
    copy = copy_bytes(left, right)
    tiles = ranked_tiles(bench.device, operation, sizes, bench.compute, copy)
    return {f"{OURS} {name}": [build(tile)] for name, tile in islice(tiles.items(), MOST_TILES)}


def _library(build: Callable[..., Works], bench: Bench, rest: tuple[Any, ...]) -> dict[str, Works]:
    found = {LIBRARY: build(bench.device, bench.room, *rest)}
    if bench.rounds:
        found[ROUNDED] = build(bench.device, bench.room, *rest, rounded=True)
    return found


def _grads(bench: Bench, case: KernelCase) -> dict[str, Works]:
    x, delta = bench.numbers(case.B, case.I), bench.numbers(case.B, case.O)
    rest = (x, delta, bench.empty((case.I, case.O), np.float32))
    return {
        **_by_tiles("linear_grads", bench, x, delta, lambda tile: products.linear_grads(
            bench.device, bench.room, *rest, tile=tile
        )),
        LIBRARY: library.linear_grads(bench.device, bench.room, *rest),
    }  # fmt: skip


def _adam(bench: Bench, case: KernelCase) -> dict[str, Works]:
    parameters, gradients = (bench.numbers(case.B, dtype=np.float32) for _ in range(2))
    m, v = (bench.backend.zeros((case.B,), np.float32) for _ in range(2))
    rule = optimizers.Adam(m, v, None, 0.9, 0.999, 1e-8, 0.0, False)
    scalars = bench.backend.from_host(np.array([1e-3, 1.0, 0.0]), np.float64)
    counters = bench.backend.from_host(np.array([0, 10, 10, 0]), np.int64)
    copies = bench.empty((case.B,), bench.compute) if bench.rounds else None
    return {
        OURS: [optimizers.update(rule, parameters, gradients, scalars, counters, copies=copies)]
    }


def _loss(bench: Bench, case: KernelCase) -> dict[str, Works]:
    output = bench.numbers(case.B, case.O, dtype=np.float32)
    labels, totals = bench.below(case.O, case.B), bench.backend.zeros((2,), np.float64)
    delta, form = bench.empty((case.B, case.O), bench.compute), "softmax_cross_entropy"
    return {OURS: losses.loss(form, output, labels, None, 0.0, delta, totals, bench.room)}


def _gather(bench: Bench, case: KernelCase) -> dict[str, Works]:
    X = bench.numbers(case.B, case.I, dtype=np.float32)
    out = bench.empty((case.B, case.I), bench.compute)
    return {OURS: [gather.gather_rows(X, bench.below(case.B, case.B), out)]}


_BUILDERS: dict[str, Callable[..., dict[str, Works]]] = {
    "linear_forward": _forward,
    "linear_delta": _delta,
    "linear_grads": _grads,
    "adam": _adam,
    "loss": _loss,
    "gather_rows": _gather,
}
