"""Which way a small network's steps go: measured without a trace, asked for, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlp.backends.cuda import tiny as cuda_tiny
from mlp.backends.cuda import ways
from mlp.backends.cuda.ways import CHAINS, LAYERS, PERSISTENT, chosen_way
from mlp.backends.protocol import STEP
from mlp.errors import DeviceFault, InvalidSetting
from mlp.step import Step
from mlp_kernels.cuda import tiny
from mlp_kernels.cuda.losses import form_struct
from tests.backends.captured import assert_same_bits, layers, numbers
from tests.cuda_host.runs import machine
from tests.cuda_host.tiny_runs import (
    CLASSES,
    WIDE,
    persistent,
)


@pytest.fixture
def three() -> Iterator[Any]:
    """A machine of three multiprocessors, so that blocks take turns."""
    with machine(processors=3) as cupy:
        yield cupy


class Fastest:
    """In the place of `choices.Choices`: runs the candidates, and says what it is told to."""

    def __init__(self, name: str, *expected: str, runs: int = 3) -> None:
        self.name, self.expected, self.runs = name, expected, runs
        self.keys: list[str] = []

    def fastest(
        self, key: str, candidates: Mapping[str, Callable[[], None]], calls: int = 1
    ) -> str:
        assert (*candidates,) == self.expected
        assert calls > 0
        self.keys.append(key)
        for _ in range(self.runs):
            for run in candidates.values():
                run()
        return self.name


@pytest.mark.parametrize(
    ("name", "problem"), [(LAYERS, WIDE), (PERSISTENT, WIDE), (CHAINS, CLASSES)],
    ids=[LAYERS, PERSISTENT, CHAINS],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measuring_leaves_no_trace(name, problem, precision, three, monkeypatch):
    problem = problem.with_(precision=precision)
    step = problem.step(problem.network("cuda"))
    choices = Fastest(name, CHAINS, LAYERS, PERSISTENT)
    monkeypatch.setattr(step.backend, "choices", choices, raising=False)
    launches: list[Any] = []
    monkeypatch.setattr(
        cuda_tiny.TinySteps, "__call__", counting(cuda_tiny.TinySteps.__call__, launches)
    )
    with step.backend.capture(step) as run:
        step.begin_epoch(0, problem.rates(step))
        run(0, step.batches)
    middle = state(step)
    with step.backend.capture(step) as run:  # measures again
        assert_same_bits(state(step), middle)
        launches.clear()
        step.begin_epoch(1, problem.rates(step))
        run(0, step.batches)
        assert launches == ([step.batches] if name == PERSISTENT else [])
    assert len(choices.keys) == 2
    unmeasured = problem.step(problem.network("cuda"))
    unmeasured.backend.tiny_steps = PERSISTENT if name == PERSISTENT else ways.GRAPH
    unmeasured.backend.choices = Fastest(name, CHAINS, LAYERS, runs=0)
    with unmeasured.backend.capture(unmeasured) as run:
        for epoch in range(2):
            unmeasured.begin_epoch(epoch, problem.rates(unmeasured))
            run(0, unmeasured.batches)
    assert_same_bits(state(step), state(unmeasured))


def counting(call: Callable, counts: list[int]) -> Callable:
    def counted(self: Any, count: int) -> None:
        counts.append(count)
        call(self, count)

    return counted


def state(step: Step) -> dict[str, np.ndarray]:
    found = numbers(step)
    if step.flat.copies is not None:
        found["copies"] = step.backend.to_host(step.flat.copies)
    return found


def test_nothing_is_compiled_for_what_is_not_tried(three, monkeypatch):
    step = CLASSES.step(CLASSES.network("cuda"))
    monkeypatch.setattr(
        step.backend, "choices", Fastest(LAYERS, LAYERS, PERSISTENT, runs=0), raising=False
    )
    monkeypatch.setattr(ways, "TinySteps", None)
    with step.backend.capture(step) as run:
        step.begin_epoch(0, CLASSES.rates(step))
        run(0, 2)
    assert step.backend.to_host(step.counters)[STEP] == 2


def test_after_a_fault_nothing_is_put_back(three, monkeypatch):
    """It would fail as well, and hide the first error."""
    step = CLASSES.step(CLASSES.network("cuda"))
    copied: list[Any] = []

    def fails(key: str, candidates: Mapping[str, Callable[[], None]], calls: int) -> str:
        candidates[LAYERS]()
        monkeypatch.setattr(step.backend, "copy", lambda *arrays: copied.append(arrays))
        raise DeviceFault("the kernel k failed")

    choices = Fastest(LAYERS)
    choices.fastest = fails
    monkeypatch.setattr(step.backend, "choices", choices)
    with pytest.raises(DeviceFault, match="the kernel k failed"), step.backend.capture(step):
        pass
    assert not copied


REFUSED = [
    (CLASSES.with_(precision="float16"), "the precision float16 scales the loss"),
    (CLASSES.with_(layers=layers(*[4] * 8, 3, output="softmax")), "9 layers are more than 8"),
    (CLASSES.with_(layers=layers(600, 600, 3, output="softmax")), "parameters are more than 2"),
    (CLASSES.with_(rows=1100, batch_size=1050), "1,050 rows in a batch are more than 1,024"),
    (CLASSES.with_(inputs=9000, rows=6), "bytes of shared memory are more than"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_is_not_small(problem, reason, cupy):
    step = persistent(problem)
    refused = pytest.raises(InvalidSetting, match=f"one launch cannot be had: .*{reason}")
    with refused, step.backend.capture(step):
        pass
    step.backend.tiny_steps = None
    step.backend.choices = None  # is not asked
    assert chosen_way(step.backend, step, {LAYERS: print}) == (LAYERS, None)


def test_no_way(three):
    step = CLASSES.step(CLASSES.network("cuda"))
    step.backend.tiny_steps = "persistant"
    refused = pytest.raises(InvalidSetting, match="tiny_steps is 'graph', 'persistent' or None")
    with refused, step.backend.capture(step):
        pass


def test_a_device_without_cooperative_launches():
    with machine(cooperative=False):
        step = persistent(CLASSES)
        refused = pytest.raises(InvalidSetting, match="the device has no cooperative launches")
        with refused, step.backend.capture(step):
            pass


def test_a_launch_says_what_it_lacks(three):
    step = persistent(CLASSES)
    runner = cuda_tiny.TinySteps(step.backend, step)
    arguments = (runner._plan, runner._arrays, runner._rule, "softmax_cross_entropy", 10)
    launch = tiny.tiny_steps(*arguments, 4, blocks=2)
    assert (launch.grid, launch.cooperative) == ((2, 1, 1), True)
    assert dict(launch.kernel.macros)["FORM"] == form_struct("softmax_cross_entropy")
    smaller = replace(runner._arrays, target=runner._arrays.target[:5])
    with pytest.raises(ValueError, match="target must be of shape"):
        tiny.tiny_steps(runner._plan, smaller, *arguments[2:], 4, blocks=2)
    with pytest.raises(ValueError, match="0 steps by 2 blocks"):
        tiny.tiny_steps(*arguments, 0, blocks=2)
    short = replace(runner._arrays, squares=runner._arrays.squares[:1])
    with pytest.raises(ValueError, match="squares must be of shape"):
        tiny.tiny_steps(runner._plan, short, *arguments[2:], 4, blocks=2)
