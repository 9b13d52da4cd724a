"""Small networks whose steps are many to a launch, for the tests of that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import mlp
from mlp.step import Regularization, Step
from tests.backends.captured import (
    CLASSES,
    Problem,
    assert_all_near,
    batch_numbers,
    layers,
    numbers,
    start_alike,
    uneven,
)

# Its kernel is one for most tests here: what differs from case to case is no macro.
CLASSES = CLASSES.with_(optimizer=mlp.Adam(0.01))
# Larger than SPLIT_FROM, so that the first layer is a phase of its own; of two rows' parts.
WIDE = CLASSES.with_(
    inputs=173, layers=layers(97, 5, 3, hidden="silu", output="softmax", dropout=0.2), rows=31,
    batch_size=11, weights=uneven, terms=Regularization(l2=0.1, clip_norm=0.1),
)  # fmt: skip
SMALL = CLASSES.with_(
    layers=layers(9, 7, 3, output="softmax", dropout=0.3), weights=uneven, precision="float32",
    terms=Regularization(0.01, 0.1, 0.2, 0.1),
)  # fmt: skip
NOT_GATHERED = ("index", "target", "weight")


def persistent(problem: Problem, device: str = "cuda") -> Step:
    network = problem.network(device)
    network.backend.tiny_steps = "persistent"
    return problem.step(network)


def visible(step: Step, last: bool) -> dict[str, np.ndarray]:
    """All that many steps in one launch leave as the others do."""
    found = numbers(step) | batch_numbers(step, step.last if last else step.full)
    if step.flat.copies is not None:
        found["copies"] = step.backend.to_host(step.flat.copies)
    return {name: array for name, array in found.items() if name not in NOT_GATHERED}


Near = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], None]


def assert_follows(ours: Step, theirs: Step, problem: Problem, near: Near, epochs: int) -> None:
    """Each step from where the other is, which runs its operations one by one."""
    with ours.backend.capture(ours) as run:
        for epoch in range(epochs):
            for step in (ours, theirs):
                problem.begin_epoch(step, epoch)
            for number in range(theirs.batches):
                run(number, number + 1)
                theirs.run(number, number + 1)
                last = number == theirs.batches - 1
                near(visible(ours, last), visible(theirs, last))
                start_alike(ours, theirs)
                ours.network.parameters_changed()


def assert_agrees(problem: Problem, epochs: int = 2, device: str = "cuda") -> None:
    """With the NumPy backend."""
    theirs = problem.step(problem.network("numpy"))
    terms = max(*theirs.network.spec.widths, problem.batch_size)

    def near(ours, expected):
        assert_all_near(ours, expected, problem.precision, terms)

    assert_follows(persistent(problem, device), theirs, problem, near, epochs)


def all_steps(
    problem: Problem, epochs: int = 2, cut: int | None = None, device: str = "cuda"
) -> dict[str, np.ndarray]:
    """What is left after some epochs, each in one call or in calls of `cut` steps."""
    step = persistent(problem, device)
    with step.backend.capture(step) as run:
        for epoch in range(epochs):
            problem.begin_epoch(step, epoch)
            every = cut or step.batches
            for start in range(0, step.batches, every):
                run(start, min(start + every, step.batches))
    return visible(step, last=True)
