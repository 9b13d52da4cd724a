"""Every operation of the contract once, on the compiled backend, in float32; captured steps, too.

Run as a program, it prints how many kernels were compiled and how many came from the cache.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

import mlp
import mlp_kernels.cpu
from mlp.backends.numba import NumbaBackend
from mlp.backends.protocol import Dropout, PenaltySteps
from mlp.losses import get_loss
from mlp.step import Regularization, Step
from mlp_kernels.cpu import compiler

B, I, O, P = 128, 96, 64, 128 * 96  # noqa: E741


def kernel_modules() -> list[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(mlp_kernels.cpu.__path__)]
    return [importlib.import_module(f"mlp_kernels.cpu.{name}") for name in names]


def dispatchers() -> Iterator[tuple[ModuleType, str, Callable]]:
    """(module, name, kernel) of all kernels, each where it is defined."""
    for module in kernel_modules():
        for name, value in vars(module).items():
            if hasattr(value, "py_func") and value.py_func.__module__ == module.__name__:
                yield module, name, value


def operations() -> list[Callable[[], None]]:
    """Calls that can be repeated; all arrays are made here, once."""
    cpu = NumbaBackend()
    rng = np.random.default_rng(0)

    def array(*shape):
        return cpu.from_host(rng.uniform(0.1, 0.9, shape), np.float32)

    X, x, W, b, a, saved = (
        array(500, I), array(B, I), array(I, O), array(O), array(B, O), array(B, O),
    )  # fmt: skip
    delta, delta_prev, dW, db, db_prev = array(B, O), array(B, I), array(I, O), array(O), array(I)
    rows, weight, totals = array(B, O), array(B), np.zeros(2)
    labels = cpu.from_host(rng.integers(0, O, 500), np.int64)
    y, index = cpu.zeros((B,), np.int64), cpu.from_host(rng.integers(0, 500, B), np.int64)
    p, g, s1, s2, s3 = (array(P) for _ in range(5))
    counters, rates = np.array([1, 1, -1, 0]), np.full(100, 1e-3)
    scalars, scaling = np.array([1e-3, 1.0, 0.0]), np.array([1.0, 0.0])
    order = cpu.from_host(rng.permutation(100 * B) % 500, np.int64)
    dropout = Dropout(0.5, 0, counters)
    epoch_order, epoch_rates = cpu.zeros((5 * B,), np.int64), np.zeros(5)
    penalty_steps = PenaltySteps(np.ones(100), np.zeros(100), np.array([1, 1, 0, 0]))
    return [
        lambda: cpu.begin_epoch(counters, totals, epoch_order, epoch_rates, 3, np.ones(5)),
        lambda: cpu.begin_step(counters, rates, scalars, order, index, B),
        lambda: cpu.gather_rows(X, index, x),
        lambda: cpu.gather_rows(labels, index, y),
        lambda: cpu.copy(a, saved),
        lambda: cpu.linear_forward(x, W, b, "relu", a, a),
        lambda: cpu.linear_forward(x, W, b, "gelu", a, saved, dropout),
        lambda: cpu.linear_forward(x, W, b, "softmax", a, None),
        lambda: cpu.loss("softmax_cross_entropy", a, y, None, 0.1, delta, totals),
        lambda: cpu.loss("cross_entropy", a, rows, weight, 0.1, delta, totals),
        lambda: cpu.loss("mse", a, rows, None, 0.0, delta, totals),
        lambda: cpu.loss("mse", a, rows, None, 0.0, delta, totals, scaling),
        lambda: cpu.activation_delta(delta, saved, "silu", delta),
        lambda: cpu.linear_grads(x, delta, dW, db),
        lambda: cpu.linear_grads(x, delta, dW, None),
        lambda: cpu.linear_delta(delta, W, x, "tanh", delta_prev, db_prev),
        lambda: cpu.linear_delta(delta, W, x, "relu", delta_prev, db_prev, dropout),
        lambda: cpu.penalty(p, g, 1e-3, 1e-3),
        lambda: cpu.penalty(p, g, 1e-3, 1e-3, penalty_steps),
        lambda: cpu.decay(p, scalars, 1e-3),
        lambda: cpu.clip_norm(g, 1.0, scalars),
        lambda: cpu.sgd(p, g, s1, scalars, counters, 0.9, 0.0, 0.0, True),
        lambda: cpu.rmsprop(p, g, s1, None, None, scalars, 0.9, 1e-8, 0.0, 0.0),
        lambda: cpu.adagrad(p, g, s1, scalars, counters, 0.0, 0.0, 1e-10),
        lambda: cpu.adam(p, g, s1, s2, s3, scalars, counters, 0.9, 0.999, 1e-8, 0.0, True),
        lambda: cpu.lion(p, g, s1, scalars, 0.9, 0.99, 0.0),
        lambda: cpu.synchronize(),
    ]


def training_step() -> Step:
    """A step with all that one can have, on 300 rows, the last batch smaller than the others."""
    layers = [mlp.Dense(96, "gelu", dropout=0.2), mlp.Dense(64, "relu"), mlp.Dense(8, "softmax")]
    network = mlp.Network(50, layers, device="cpu", threads=2)
    X = network.rows_to_device(np.random.default_rng(0).normal(size=(300, 50)))
    y = network.backend.from_host(np.arange(300) % 8, np.int64)
    weight = network.weight_to_device(np.linspace(0.5, 1.5, 300), 300)
    terms = Regularization(l1=1e-4, l2=1e-4, weight_decay=0.01, clip_norm=1.0)
    loss = get_loss("cross_entropy")
    return Step(network, loss, mlp.Adam(), terms, B // 2, X, y, weight, seed=0)


def whole_runs() -> list[Callable[[], None]]:
    """A captured epoch, and a prediction."""
    step = training_step()
    rates = np.full(step.batches, 1e-3)
    network = step.network
    out = network.backend.empty((300, 8), np.float32)
    predict = network.backend.predictor(network.layers(), network.parameters.flat)
    captured = step.backend.capture(step).__enter__()

    def epoch() -> None:
        step.begin_epoch(1, rates)
        captured(0, step.batches)

    return [epoch, lambda: predict(step.X, out)]


def main() -> None:
    for operation in [*operations(), *whole_runs()]:
        operation()
    stats = [kernel.stats for _, _, kernel in dispatchers()]
    from_cache = [unit.cache_hits for unit in compiler._LIVING]
    compiled = sum(sum(s.cache_misses.values()) for s in stats) + from_cache.count(0)
    loaded = sum(sum(s.cache_hits.values()) for s in stats) + sum(from_cache)
    print(json.dumps({"compiled": compiled, "loaded": loaded}))


if __name__ == "__main__":
    main()
