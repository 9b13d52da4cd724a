"""Captured steps against the same operations run one at a time, in the precisions of products.

What comes before the update is the same launches, hence the same bits, but in a chain of narrow
layers, which sums gradients in an order of its own. The update is one pass in place of several,
which may round once where those round twice.
"""

from __future__ import annotations

import numpy as np
import pytest

import mlp
from mlp.backends.protocol import SKIPPED
from mlp.step import Regularization, Step
from tests.backends.captured import (
    EVERYTHING,
    Problem,
    assert_same_bits,
    batch_numbers,
    numbers,
    start_alike,
)
from tests.cuda_host.runs import machine
from tests.tolerances import assert_close

OF_PRODUCTS = ["tf32", "bfloat16", "float16"]
WRITTEN_BY_THE_UPDATE = ("parameters", "m", "v", "v_max", "velocity", "square", "total")
PLAIN = EVERYTHING.with_(terms=Regularization())


def everything_of(step: Step, batch) -> dict[str, np.ndarray]:
    """All that a step writes."""
    found = numbers(step) | batch_numbers(step, batch)
    if step.flat.copies is not None:
        found["copies"] = step.backend.to_host(step.flat.copies)
    if step.scaling is not None:
        found["scaling"] = step.backend.to_host(step.scaling)
    return found


def assert_update_near(ours, theirs, exact_gradients):
    """Takes what the update writes out of both; compares it within the rounding of float32."""
    names = [*WRITTEN_BY_THE_UPDATE, "scalars", *([] if exact_gradients else ["gradients"])]
    for name in names:
        if name in theirs:
            expected = theirs.pop(name)
            largest = float(np.abs(expected).max(initial=0))
            assert_close(ours.pop(name), expected, "float32", scale=largest)
    # Where parameters differ by an ulp, few copies may differ by one of theirs.
    if "copies" in theirs:
        differ = ours.pop("copies") != theirs.pop("copies")
        assert differ.mean() < 0.01


def assert_captured_as_run(problem: Problem, *, exact_gradients: bool, epochs: int = 2) -> Step:
    """All steps of some epochs, each from where the ones run one at a time are."""
    captured, run_singly = (problem.step(problem.network("cuda")) for _ in range(2))
    with captured.backend.capture(captured) as run:
        for epoch in range(epochs):
            for step in (captured, run_singly):
                problem.begin_epoch(step, epoch)
            for number in range(captured.batches):
                run(number, number + 1)
                run_singly.run(number, number + 1)
                last = number == captured.batches - 1
                ours, theirs = (
                    everything_of(step, step.last if last else step.full)
                    for step in (captured, run_singly)
                )
                assert_update_near(ours, theirs, exact_gradients)
                assert_same_bits(ours, theirs)
                start_alike(captured, run_singly)
                captured.network.parameters_changed()
    return captured


@pytest.mark.parametrize(
    ("precision", "capability"),
    [*((name, (9, 0)) for name in OF_PRODUCTS), ("bfloat16", (7, 5)), ("float16", (7, 5))],
)
def test_everything_up_to_the_gradients_is_the_same(precision, capability):
    with machine(capability=capability):
        problem = PLAIN.with_(precision=precision)
        assert_captured_as_run(problem, exact_gradients=True, epochs=1)


@pytest.mark.parametrize("precision", OF_PRODUCTS)
def test_everything_at_once(precision, cupy):
    problem = EVERYTHING.with_(precision=precision)
    assert_captured_as_run(problem, exact_gradients=False, epochs=1)


@pytest.mark.parametrize(
    "optimizer",
    [mlp.SGD(0.1, momentum=0.9, nesterov=True), mlp.Lion(0.01, weight_decay=0.1)],
    ids=["sgd", "lion"],
)
def test_other_optimizers(optimizer, cupy):
    layers = [mlp.Dense(9, "relu"), mlp.Dense(3, "softmax")]
    problem = PLAIN.with_(precision="bfloat16", optimizer=optimizer, layers=layers)
    assert_captured_as_run(problem, exact_gradients=False)


def test_overflows_are_skipped_alike(cupy):
    """A loss scale beyond float16's range, which halves until the gradients are finite."""
    problem = PLAIN.with_(
        precision="float16", layers=[mlp.Dense(9, "relu"), mlp.Dense(3, "softmax")]
    )
    captured, run_singly = (problem.step(problem.network("cuda")) for _ in range(2))
    for step in (captured, run_singly):
        backend = step.backend
        backend.copy(backend.from_host(np.array([2.0**22, 0]), np.float64), step.scaling)
        problem.begin_epoch(step, 0)
    with captured.backend.capture(captured) as run:
        run(0, captured.batches)
    run_singly.run(0, run_singly.batches)
    ours, theirs = (everything_of(step, step.last) for step in (captured, run_singly))
    assert 1 <= theirs["counters"][SKIPPED] < captured.batches
    for name in ("counters", "scaling"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert_close(ours["parameters"], theirs["parameters"], "float32", terms=captured.batches)
