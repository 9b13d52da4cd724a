"""Compiled steps against the reference, step by step: every number that a step writes.

Each step begins with what the reference has, so that a mistake shows in the step that makes it, and
rounding does not add up. The bounds are those of single operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS
from mlp.losses import FORMS, get_loss
from mlp.step import Regularization, Step
from tests.backends.captured import (
    CLASSES,
    EVERYTHING,
    Problem,
    assert_all_near,
    assert_same_bits,
    batch_numbers,
    layers,
    numbers,
    start_alike,
    uneven,
)
from tests.conftest import CUDA, device_name, needs_bfloat16

EPOCHS = 2
PRECISIONS = ["float64", "float32", pytest.param("bfloat16", marks=needs_bfloat16)]


pytestmark = pytest.mark.usefixtures("as_many_threads_as_allowed")


@dataclass(frozen=True)
class Engine:
    """What captures: a device as `mlp.Network` takes it, and its threads."""

    device: str
    threads: int | None = None

    def step(self, problem: Problem) -> Step:
        return problem.step(problem.network(self.device, self.threads))


@pytest.fixture
def engine(request) -> Iterator[Engine]:
    """cpu-threads-2 is the processor with two threads; the others are `tests.conftest.CUDA`."""
    place, _, threads = request.param.partition("-threads-")
    with device_name(place) as name:
        yield Engine(name, int(threads) if threads else None)


def engines(*threads: int):
    """A test with each engine, the processor with each of these numbers of threads."""
    of_cpu = [f"cpu-threads-{count}" for count in threads]
    return pytest.mark.parametrize("engine", [*of_cpu, *CUDA], indirect=True)


def assert_steps_agree(problem: Problem, engine: Engine, epochs: int = EPOCHS) -> None:
    """All steps of the epochs."""
    reference = problem.step(problem.network("numpy"))
    compiled = engine.step(problem)
    widths = reference.network.spec.widths
    terms = max(*widths, problem.batch_size)
    with (
        compiled.backend.capture(compiled) as run,
        reference.backend.capture(reference) as run_reference,
    ):
        for epoch in range(epochs):
            for step in (reference, compiled):
                problem.begin_epoch(step, epoch)
            for number in range(reference.batches):
                run_reference(number, number + 1)
                run(number, number + 1)
                last = number == reference.batches - 1
                ours, theirs = (
                    numbers(step) | batch_numbers(step, step.last if last else step.full)
                    for step in (compiled, reference)
                )
                assert_all_near(ours, theirs, problem.precision, terms)
                start_alike(compiled, reference)


def none_in_the_second_batch(order):
    weights = uneven(order)
    weights[order[5:10]] = 0
    return weights


def one_in_the_last_batch(order):
    return np.where(np.arange(len(order)) == order[-1], 2.0, 0.0)


@engines(1)
@pytest.mark.parametrize("output", [False, True], ids=["hidden", "output"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, output, engine):
    if output:
        assert_steps_agree(Problem(layers=layers(9, 4, output=activation)), engine)
    elif activation != "softmax":  # which only an output layer may have
        assert_steps_agree(Problem(layers=layers(9, 7, 4, hidden=activation)), engine)


LOSSES = [
    ("cross_entropy", "softmax", "labels"),
    ("cross_entropy", "softmax", "soft"),
    ("cross_entropy", "sigmoid", "labels"),
    ("cross_entropy", "sigmoid", "soft"),
    (mlp.CrossEntropy(0.2), "softmax", "labels"),
    (mlp.CrossEntropy(0.2), "softmax", "soft"),
    (mlp.CrossEntropy(0.2), "sigmoid", "labels"),
    ("binary_cross_entropy", "sigmoid", "unit"),
    ("binary_cross_entropy", "softmax", "unit"),
    ("half_squared_error", "identity", "values"),
    ("mse", "softplus", "values"),
    ("mse", "softmax", "values"),
    ("mae", "tanh", "values"),
    (mlp.Huber(0.4), "identity", "values"),
    ("poisson", "identity", "counts"),
]


@engines(1)
@pytest.mark.parametrize("weights", [None, uneven], ids=["even", "weighted"])
@pytest.mark.parametrize(("loss", "output", "targets"), LOSSES)
def test_every_loss(loss, output, targets, weights, engine):
    problem = Problem(
        layers=layers(9, 4, output=output), loss=loss, targets=targets, weights=weights
    )
    assert_steps_agree(problem, engine)
    if targets != "soft":  # rows of probabilities have two at least
        assert_steps_agree(problem.with_(layers=layers(9, 1, output=output)), engine, epochs=1)


def test_no_loss_form_is_forgotten():
    forms = {get_loss(loss).form(output)[0] for loss, output, _ in LOSSES}
    assert forms == set(FORMS)


@engines(1)
@pytest.mark.parametrize(
    "optimizer",
    [
        mlp.SGD(0.1),
        mlp.SGD(0.1, weight_decay=0.1),
        mlp.SGD(0.1, momentum=0.9),
        mlp.SGD(0.1, momentum=0.8, dampening=0.3, weight_decay=0.1),
        mlp.SGD(0.1, momentum=1.0, nesterov=True),
        mlp.RMSprop(0.01),
        mlp.RMSprop(0.01, weight_decay=0.1, momentum=0.5),
        mlp.RMSprop(0.01, centered=True),
        mlp.RMSprop(0.01, alpha=0.9, centered=True, momentum=0.7),
        mlp.Adagrad(0.1),
        mlp.Adagrad(0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.1),
        mlp.Adam(0.01),
        mlp.Adam(0.01, (0.7, 0.8), weight_decay=0.1),
        mlp.Adam(0.01, (0.5, 0.6), amsgrad=True),
        mlp.Adam(0.01, (0.0, 0.6), eps=1e-2, eps_hat=True),
        mlp.AdamW(0.01, weight_decay=0.3),
        mlp.AdamW(0.01, (0.5, 0.6), amsgrad=True),
        mlp.Lion(0.01),
        mlp.Lion(0.01, (0.6, 0.7), weight_decay=0.2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("clip", [None, 0.05], ids=["whole", "clipped"])
def test_every_optimizer(optimizer, clip, engine):
    # With weights, as in the other tests of classes: steps are compiled once for both.
    clipped = CLASSES.with_(
        optimizer=optimizer, terms=Regularization(clip_norm=clip), weights=uneven
    )
    assert_steps_agree(clipped, engine)


@pytest.mark.parametrize(
    "terms",
    [
        Regularization(l1=0.01),
        Regularization(l2=0.1),
        Regularization(l1=0.01, l2=0.1, weight_decay=0.2),
        Regularization(weight_decay=0.3),
        Regularization(clip_norm=0.1),
        Regularization(clip_norm=100.0),
        Regularization(0.01, 0.1, 0.2, 0.1),
    ],
    ids=repr,
)
@engines(1, 3)
def test_regularization(terms, engine):
    assert_steps_agree(CLASSES.with_(terms=terms), engine)


PLANNED = Problem(
    33, layers(127, 31, 3, output="softmax"), 70, 32, "cross_entropy", "labels", planned=True,
    optimizer=mlp.Adam(0.01, eps=1e-2, eps_hat=True), terms=Regularization(0.01, 0.1, 0.2, 0.1),
    weights=uneven,
)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "float32", "terms": Regularization(l1=0.01)},
        {"terms": Regularization(l2=0.1), "batch_size": 31},
        {"terms": Regularization(), "layers": layers(4, 3, output="softmax")},
    ],
    ids=repr,
)
@engines(1, 3)
def test_plans(changes, engine):
    """Weights in several blocks of the sum that is the penalty."""
    assert_steps_agree(PLANNED.with_(**changes), engine)


@pytest.mark.parametrize("dropout", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("hidden", ["relu", "gelu", "identity"])
@engines(1, 2)
def test_dropout(dropout, hidden, engine):
    dropped = layers(9, 7, 3, hidden=hidden, output="softmax", dropout=dropout)
    assert_steps_agree(CLASSES.with_(layers=dropped), engine)


@engines(1, 2)
@pytest.mark.parametrize("weights", [uneven, none_in_the_second_batch, one_in_the_last_batch])
def test_sample_weights(weights, engine):
    weighted = CLASSES.with_(weights=weights)
    assert_steps_agree(weighted, engine)
    assert_steps_agree(weighted.with_(terms=Regularization(l2=0.1, clip_norm=0.1)), engine)


@pytest.mark.parametrize(
    ("inputs", "widths", "rows", "batch_size"),
    [
        (1, (1,), 3, 1),
        (5, (1, 1, 1), 7, 2),
        (3, (4,), 23, 1),
        (3, (4, 3), 23, 23),
        (3, (4, 3), 23, 1000),
        (4, (9, 3), 23, 22),
        (33, (127, 31, 3), 70, 32),
        (127, (33, 1, 32, 3), 100, 33),
        (7, (300, 17, 5), 300, 270),  # rows beyond a chunk, widths beyond a block
        (2100, (3, 2100, 3), 10, 7),
        (6, (8, 8, 8, 8, 8, 8, 8, 8), 40, 16),
    ],
)
@engines(1, 2, 3, 4)
def test_every_size(inputs, widths, rows, batch_size, engine):
    problem = Problem(
        inputs, layers(*widths, hidden="relu"), rows, batch_size,
        terms=Regularization(l2=0.01, clip_norm=0.2),
    )  # fmt: skip
    assert_steps_agree(problem, engine, epochs=1)


@engines(1, 2, 3, 4)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_everything_at_once(precision, engine):
    assert_steps_agree(EVERYTHING.with_(precision=precision), engine)


@needs_bfloat16
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_everything_at_once_in_bfloat16(threads):
    assert_steps_agree(EVERYTHING.with_(precision="bfloat16"), Engine("cpu", threads))


@engines(1, 2, 4)
def test_slices(engine):
    problem = EVERYTHING.with_(precision="float32")
    whole, sliced = engine.step(problem), engine.step(problem)
    for epoch in range(EPOCHS):
        for step, cuts in ((whole, [(0, 5)]), (sliced, [(0, 2), (2, 2), (2, 3), (3, 5)])):
            assert step.batches == 5
            problem.begin_epoch(step, epoch)
            with step.backend.capture(step) as run:
                for start, stop in cuts:
                    run(start, stop)
        ours, theirs = (numbers(step) | batch_numbers(step, step.last) for step in (sliced, whole))
        assert_same_bits(ours, theirs)


@engines(1, 3)
def test_whole_epochs(engine):
    """Several in one call are what they are one by one: the same shuffles, rates and sums."""
    problem = EVERYTHING.with_(precision="float32")
    one_by_one, together = engine.step(problem), engine.step(problem)
    rates = np.stack([problem.rates(together) * factor for factor in (1.0, 0.7, 0.4)])
    expected = []
    with one_by_one.backend.capture(one_by_one) as run:
        for epoch in range(3):
            one_by_one.begin_epoch(4 + epoch, rates[epoch])
            run(0, one_by_one.batches)
            expected.append(one_by_one.backend.to_host(one_by_one.totals))
    sums = np.full((3, 2), np.nan)
    with together.backend.capture(together) as run:
        run.epochs(4, rates[:2], sums[:2])
        run.epochs(6, rates[2:], sums[2:])
    np.testing.assert_array_equal(sums, expected)
    ours, theirs = (
        numbers(step) | batch_numbers(step, step.last) for step in (together, one_by_one)
    )
    assert_same_bits(ours, theirs)


def test_whole_epochs_of_the_reference():
    """What `epochs` means: the same as epoch after epoch, on the backend that defines it."""
    found = []
    for device in ("numpy", "cpu"):
        step = CLASSES.step(CLASSES.network(device))
        rates, sums = np.stack([CLASSES.rates(step)] * 2), np.full((2, 2), np.nan)
        with step.backend.capture(step) as run:
            run.epochs(1, rates, sums)
        found.append(numbers(step) | {"sums": sums})
    assert_all_near(found[1], found[0], "float64", terms=9)


@pytest.mark.parametrize("precision", [*PRECISIONS, "planned"])
def test_the_same_bits_for_every_number_of_threads(precision):
    found = []
    problem = PLANNED if precision == "planned" else EVERYTHING.with_(precision=precision)
    for count in (1, 2, 3, 4):
        step = problem.step(problem.network("cpu", count))
        with step.backend.capture(step) as run:
            for epoch in range(EPOCHS):
                problem.begin_epoch(step, epoch)
                run(0, step.batches)
        found.append(numbers(step) | batch_numbers(step, step.last))
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_two_captures_of_one_network():
    """Each has its own batch, optimizer state and counters; the parameters are the network's."""
    steps = {}
    for device in ("numpy", "cpu"):
        network = CLASSES.network(device)
        first = CLASSES.step(network)
        second = CLASSES.with_(batch_size=4, optimizer=mlp.SGD(0.1)).step(network)
        for step in (first, second):
            CLASSES.begin_epoch(step, 0)
        with first.backend.capture(first) as one, second.backend.capture(second) as two:
            for number in range(5):
                one(number, number + 1)
                two(number, number + 1)
        steps[device] = (first, second)
    for ours, theirs in zip(steps["cpu"], steps["numpy"], strict=True):
        assert_all_near(numbers(ours), numbers(theirs), "float64", terms=9)
