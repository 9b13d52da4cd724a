"""CUDA graphs: how many are recorded and launched, and that an epoch asks for nothing else."""

from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest

import mlp
from mlp.step import Regularization, Step
from tests.cuda_host.runs import classifier, counted, digits, trainer_of

pytestmark = pytest.mark.usefixtures("cupy")
ROWS, BATCH = 403, 10  # 40 full batches and one of 3 rows
FULL, SEVERAL, SINGLE = 40, 2, 8
PER_EPOCH = SEVERAL + SINGLE + 1  # graphs of 16 steps, of one, and of the last batch


@pytest.fixture
def used(cupy):
    """A function: bytes of the device that are in use."""

    def measure():
        gc.collect()
        return sum(cupy.machine.used)

    return measure


def small(precision="float32"):
    return classifier("cuda", precision, hidden=8)


def step_of(net, rows=ROWS, batch_size=BATCH):
    X, y = digits(rows)
    loss = mlp.CrossEntropy()
    terms = Regularization(l2=1e-3, weight_decay=0.01, clip_norm=1.0)
    return Step(
        net, loss, mlp.Adam(1e-3), terms, batch_size,
        net.rows_to_device(X), net.target_to_device(y, rows, loss), None, 1,
    )  # fmt: skip


def epoch(step, run, number, cuts=()):
    step.begin_epoch(number, np.full(step.batches, 1e-3))
    for start, stop in pairwise([0, *cuts, step.batches]):
        run(start, stop)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_graphs_of_an_epoch(precision):
    step = step_of(small(precision))
    with step.backend.capture(step) as run:
        epoch(step, run, 0)
        step.backend.synchronize()
        step.begin_epoch(1, np.full(step.batches, 1e-3))
        with counted() as counts:
            run(0, step.batches)
        assert counts == {"graphs": PER_EPOCH}  # nothing read, written, allocated or waited for
        with counted() as counts:
            epoch(step, run, 2, cuts=(20,))  # 16 + 4 steps, twice, and the last
        assert counts["graphs"] == 2 * (1 + 4) + 1
        assert counts["captures"] == counts["downloads"] == counts["allocations"] == 0


def test_each_graph_is_recorded_once():
    step = step_of(small())
    with counted() as counts, step.backend.capture(step) as run:
        for number in range(3):
            epoch(step, run, number)
        assert counts["captures"] == 3
        assert counts["graphs"] == 3 * PER_EPOCH


@pytest.mark.parametrize(
    ("rows", "batch_size", "captures", "graphs"),
    [
        (160, 10, 1, 1),
        (150, 10, 1, 15),
        (7, 10, 1, 1),
        (21, 10, 2, 3),
        (325, 10, 2, 3),
        (3, 1, 1, 3),
    ],
)
def test_other_numbers_of_batches(rows, batch_size, captures, graphs):
    step = step_of(small(), rows, batch_size)
    with counted() as counts, step.backend.capture(step) as run:
        epoch(step, run, 0)
    assert (counts["captures"], counts["graphs"]) == (captures, graphs)


def test_epochs_at_once_wait_once():
    """The sums of all epochs come in one download."""
    step = step_of(small())
    rates, sums = np.full((4, step.batches), 1e-3), np.zeros((4, 2))
    with step.backend.capture(step) as run:
        run.epochs(0, rates, sums)
        with counted() as counts:
            run.epochs(4, rates, sums)
    assert counts["downloads"] == 1
    assert counts["captures"] == 0
    assert counts["graphs"] == 4 * PER_EPOCH
    assert counts["allocations"] == 1  # of the sums


def test_a_fit_gives_back_what_its_graphs_held(used):
    net = small()
    trainer = trainer_of(net, batch_size=BATCH)
    X, y = digits(603)
    validation = (X[:400], y[:400])
    trainer.fit(X, y, 2, validation)
    kept = used()
    for _ in range(2):
        trainer.fit(X, y, 2, validation)
        assert used() == kept
    batch_of_its_own = trainer_of(net, batch_size=7)
    batch_of_its_own.fit(X, y, 1)
    del batch_of_its_own
    assert used() == kept
    assert kept < X.nbytes  # the network, the optimizer's state, and room for the kernels
    parameters = sum(p.nbytes for p in net.weights + net.biases)
    del net, trainer
    assert used() < kept - 3 * parameters


def test_nothing_is_under_way_when_a_capture_ends():
    """What is queued reads arrays that may be freed by then."""
    step = step_of(small())
    with step.backend.capture(step) as run:
        epoch(step, run, 0)
        assert not step.backend.on.stream.done
    assert step.backend.on.stream.done


def test_two_trainers_take_turns_with_graphs_of_their_own():
    losses = []
    with counted() as counts:
        net = small()
        small_batches, large_batches = (trainer_of(net, batch_size=size) for size in (10, 30))
        for _ in range(2):
            losses += [
                trainer.fit(*digits(60), 1)["loss"][-1]
                for trainer in (small_batches, large_batches)
            ]
    assert counts["captures"] == 4
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_two_captures_at_once():
    """Recordings share the room for what blocks leave to each other, and take turns with it."""
    found = []
    for together in (True, False):
        steps = [step_of(small(), 60, size) for size in (10, 25)]
        one, two = (step.backend.capture(step) for step in steps)
        with one as first, two as second:
            runs = [first, second]
            for step in steps:
                step.begin_epoch(0, np.full(step.batches, 1e-3))
            if together:
                for number in range(6):
                    for step, run in zip(steps, runs, strict=True):
                        if number < step.batches:
                            run(number, number + 1)
            else:
                for step, run in zip(steps, runs, strict=True):
                    run(0, step.batches)
        found.append([step.backend.to_host(step.flat.parameters) for step in steps])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_validation_is_recorded_once():
    X, y = digits(300)
    net = small()
    trainer = trainer_of(net, batch_size=100)
    per_epoch = []

    with counted() as counts:

        def note(trainer):
            per_epoch.append(dict(counts))
            counts.clear()

        trainer.fit(X[:200], y[:200], 4, (X[200:], y[200:]), callbacks=[note])
    first, *later = per_epoch
    assert first["captures"] == 2  # of a step, and of the evaluation
    for counts_of_epoch in later:
        assert "captures" not in counts_of_epoch
        assert counts_of_epoch["graphs"] == 2 + 1
        assert counts_of_epoch["allocations"] <= 4  # of sums and flags
    expected = mlp.Network.from_state(net.state(), "numpy")
    score = (expected.predict(X[200:]) == y[200:]).mean()
    np.testing.assert_allclose(trainer.history["validation_score"][-1], score)
