"""Many steps in one launch: the same bits by any grid and in any order, and what shows if not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mlp
import mlp.backends
from mlp.backends.cuda import tiny as cuda_tiny
from mlp.step import Regularization
from mlp_kernels.cuda import tiny
from mlp_kernels.cuda.compile import FOLDER
from tests.backends.captured import assert_same_bits
from tests.conftest import CUDA, device_name
from tests.cuda_host.run import ORDERS, Order
from tests.cuda_host.runs import classifier, digits, machine, trainer_of
from tests.cuda_host.tiny_runs import (
    SMALL,
    WIDE,
    all_steps,
    assert_agrees,
    persistent,
    visible,
)


@pytest.fixture
def three() -> Iterator[Any]:
    """A machine of three multiprocessors, so that blocks take turns."""
    with machine(processors=3) as cupy:
        yield cupy


SAME = [
    SMALL.with_(planned=True),
    WIDE.with_(precision="float32"),
    WIDE.with_(precision="bfloat16", terms=Regularization(l1=0.01)),
]


@pytest.mark.parametrize("problem", SAME, ids=["small", "wide", "bfloat16"])
def test_the_same_bits_by_any_number_of_blocks_in_any_order(problem):
    found = []
    for processors, order in [(4, order) for order in ORDERS] + [
        (1, Order()), (3, Order()), (40, Order("reverse", "random")),
    ]:  # fmt: skip
        with machine(processors=processors, order=order):
            found.append(all_steps(problem, epochs=1))
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_a_smaller_grid_than_was_asked_for_gives_the_same_bits(monkeypatch):
    """As CuPy makes of one that does not fit the device at once."""
    whole = tiny.tiny_steps
    with machine(processors=12):
        right = all_steps(SMALL)
        monkeypatch.setattr(
            cuda_tiny, "tiny_steps",
            lambda *plan, **named: replace(whole(*plan, **named), grid=(2, 1, 1)),
        )  # fmt: skip
        assert_same_bits(all_steps(SMALL), right)


def test_the_same_bits_in_calls_and_launches_of_fewer_steps(three, monkeypatch):
    whole = all_steps(SMALL, epochs=3)
    assert_same_bits(all_steps(SMALL, epochs=3, cut=1), whole)
    assert_same_bits(all_steps(SMALL, epochs=3, cut=3), whole)
    monkeypatch.setattr(cuda_tiny, "MOST_STEPS", 2)
    assert_same_bits(all_steps(SMALL, epochs=3), whole)


def test_whole_epochs(three):
    one, many = persistent(SMALL), persistent(SMALL)
    rates = np.stack([SMALL.rates(many) * factor for factor in (1.0, 0.7)])
    expected, sums = [], np.full((2, 2), np.nan)
    with one.backend.capture(one) as run:
        for epoch in range(2):
            one.begin_epoch(4 + epoch, rates[epoch])
            run(0, one.batches)
            expected.append(one.backend.to_host(one.totals))
    with many.backend.capture(many) as run:
        run.epochs(4, rates, sums)
    np.testing.assert_array_equal(sums, expected)
    assert_same_bits(visible(many, True), visible(one, True))


def test_training(three):
    """A whole call of fit, on the GPU's own path and as the graph of steps."""
    X, y = digits(200)
    losses = {}
    for how in ("graph", "persistent"):
        net = classifier(hidden=16)
        net.backend.tiny_steps = how
        history = trainer_of(net, batch_size=32, optimizer=mlp.Adam(2e-2)).fit(X, y, epochs=3)
        losses[how] = history["loss"]
    assert losses["persistent"][-1] < 0.8 * losses["persistent"][0]
    np.testing.assert_allclose(losses["persistent"], losses["graph"], rtol=1e-4)


@pytest.mark.parametrize("place", CUDA)
def test_on_every_device(place, monkeypatch):
    """On a device where there is one, too: the reference's numbers, and one result of any grid."""
    problem = WIDE.with_(precision="float32")
    found = []
    with device_name(place) as device:
        try:
            assert_agrees(problem, epochs=1, device=device)
            for count in (1, 5, 16):
                monkeypatch.setattr(tiny.TinyPlan, "blocks", lambda plan, _, count=count: count)
                found.append(all_steps(problem, device=device))
        finally:
            mlp.backends._make.cache_clear()  # a device's backend would keep what it was told
    for other in found[1:]:
        assert_same_bits(other, found[0])


# --- broken on purpose ----------------------------------------------------------------------------

# What stands before each call of grid_barrier.
BEFORE = {
    "first layer": r"first_layer\(plan, now\);\s+",
    "rows": r"pass_rows\(plan, now, each\);\s+",
    "norm": r"if \(clips\) \{\s+",
    "update": r"if \(!now.is_last\) ",
}
# All that grid_barrier does, but for waiting for other blocks.
NO_BARRIER = """
template <class Meanwhile>
__device__ void no_barrier(unsigned*, Meanwhile meanwhile) {
    __syncthreads();
    if (threadIdx.x == 32) meanwhile();
    __syncthreads();
}
__device__ void no_barrier(unsigned* counter) {
    no_barrier(counter, [] {});
}
"""


@pytest.mark.parametrize("place", BEFORE)
def test_a_missing_grid_barrier_shows(place, tmp_path, monkeypatch):
    problem = WIDE.with_(precision="float32")
    with machine(processors=4):
        right = all_steps(problem, epochs=1)
    text = (FOLDER / "tiny.cu").read_text(encoding="utf-8")
    text, count = re.subn(f"({BEFORE[place]})grid_barrier", r"\1no_barrier", text)
    assert count == 1
    path = tmp_path / "broken.cu"
    path.write_text(text.replace('extern "C"', f'{NO_BARRIER}extern "C"'), encoding="utf-8")
    whole = tiny.tiny_steps

    def broken(*arguments: Any, **named: Any) -> Any:
        launch = whole(*arguments, **named)
        return replace(launch, kernel=replace(launch.kernel, file=str(path)))

    monkeypatch.setattr(cuda_tiny, "tiny_steps", broken)

    def differs(order: Order) -> bool:
        with machine(processors=4, order=order):
            found = all_steps(problem, epochs=1)
        return any(not np.array_equal(found[name], right[name]) for name in right)

    assert any(differs(order) for order in ORDERS)
