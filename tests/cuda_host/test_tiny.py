"""Many steps of a small network in one launch: the same numbers as the steps one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mlp
import mlp.backends
from mlp.backends.cuda import tiny as cuda_tiny
from mlp.losses import FORMS, get_loss
from mlp.step import Regularization
from mlp_kernels.cuda import tiny
from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.compile import FOLDER
from tests.backends.captured import EVERYTHING, Problem, layers, uneven
from tests.cuda_host.runs import machine
from tests.cuda_host.tiny_runs import (
    CLASSES,
    SMALL,
    WIDE,
    assert_agrees,
    assert_follows,
    persistent,
)
from tests.tolerances import assert_close, assert_close_in_norm


@pytest.fixture
def three() -> Iterator[Any]:
    """A machine of three multiprocessors, so that blocks take turns."""
    with machine(processors=3) as cupy:
        yield cupy


# --- against the reference ------------------------------------------------------------------------

# Every form of a loss with some optimizer, and every optimizer with some form.
PAIRS = [
    (mlp.SGD(0.1), "cross_entropy", "softmax", "labels"),
    (
        mlp.SGD(0.1, momentum=0.8, dampening=0.3, weight_decay=0.1),
        "cross_entropy", "sigmoid", "soft",
    ),
    (mlp.RMSprop(0.01), mlp.CrossEntropy(0.2), "sigmoid", "labels"),
    (mlp.RMSprop(0.01, weight_decay=0.1, momentum=0.5), "mse", "softplus", "values"),
    (mlp.RMSprop(0.01, centered=True), "mae", "tanh", "values"),
    (mlp.RMSprop(0.01, alpha=0.9, centered=True, momentum=0.7), "poisson", "identity", "counts"),
    (mlp.Adagrad(0.1, lr_decay=0.2, weight_decay=0.1), "half_squared_error", "identity", "values"),
    (mlp.Adam(0.01, (0.7, 0.8), weight_decay=0.1), mlp.CrossEntropy(0.2), "softmax", "soft"),
    (mlp.AdamW(0.01, (0.5, 0.6), amsgrad=True), "binary_cross_entropy", "sigmoid", "unit"),
    (mlp.Lion(0.01, (0.6, 0.7), weight_decay=0.2), mlp.Huber(0.4), "identity", "values"),
    (mlp.SGD(0.1, momentum=0.8, nesterov=True), "binary_cross_entropy", "softmax", "unit"),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "loss", "output", "targets"), PAIRS, ids=repr)
def test_every_optimizer_and_loss(optimizer, loss, output, targets, three):
    problem = Problem(
        layers=layers(9, 4, output=output), loss=loss, targets=targets, optimizer=optimizer,
        weights=uneven,
    )  # fmt: skip
    assert_agrees(problem)


def test_no_loss_form_is_forgotten():
    assert {get_loss(loss).form(output)[0] for _, loss, output, _ in PAIRS} == set(FORMS)


@pytest.mark.parametrize("names", [ELEMENTWISE[:6], ELEMENTWISE[6:]], ids=["first", "second"])
def test_every_hidden_activation(names, three):
    hidden = [mlp.Dense(5 + i, name) for i, name in enumerate(names)]
    assert_agrees(CLASSES.with_(layers=[*hidden, mlp.Dense(3, "softmax")]))


@pytest.mark.parametrize("output", [*ELEMENTWISE, "softmax"])
def test_every_output_activation(output, three):
    problem = Problem(layers=layers(9, 4, output=output), optimizer=mlp.Adam(0.01))
    assert_agrees(problem, epochs=1)


def test_the_kernels_numbers_of_activations():
    text = (FOLDER / "tiny.cuh").read_text(encoding="utf-8")
    found = re.findall(r"CASE\((\d+), (\w+)\)", text)
    names = ["".join(word.capitalize() for word in name.split("_")) for name in ELEMENTWISE]
    assert found == [(str(i), name) for i, name in enumerate(names)]
    assert f"SOFTMAX = {tiny.SOFTMAX};" in text


def none_in_the_second_batch(order):
    weights = uneven(order)
    weights[order[5:10]] = 0
    return weights


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": layers(9, 7, 3, output="softmax", dropout=0.5)},
        {"layers": layers(9, 7, 3, hidden="gelu", output="softmax", dropout=0.1)},
        {"weights": uneven},
        {"weights": none_in_the_second_batch},
        {"terms": Regularization(l1=0.01)},
        {"terms": Regularization(l1=0.01, l2=0.1, weight_decay=0.2)},
        {"terms": Regularization(clip_norm=0.1)},
        {"terms": Regularization(0.01, 0.1, 0.2, 0.1)},
        {"terms": Regularization(0.01, 0.1), "planned": True},
        {"terms": Regularization(l2=0.1, clip_norm=0.1), "planned": True, "weights": uneven},
        {"terms": Regularization(clip_norm=100.0)},
    ],
    ids=[
        "dropout",
        "gelu dropout",
        "weights",
        "none in a batch",
        "l1",
        "l1 l2 decay",
        "clipped",
        "all terms",
        "planned",
        "planned clipped",
        "not clipped",
    ],
)
def test_dropout_weights_and_terms(changes, three):
    assert_agrees(CLASSES.with_(**changes))


@pytest.mark.parametrize(
    ("inputs", "widths", "rows", "batch_size"),
    [
        (1, (2,), 3, 1),
        (5, (1, 1, 2), 7, 2),
        (3, (4, 3), 23, 23),
        (33, (127, 31, 3), 70, 32),
        (32, (64, 32, 3), 75, 70),  # parts of gradients end where layers do
        (127, (33, 1, 32, 3), 100, 33),
        (300, (41, 300, 3), 10, 7),  # more outputs than threads
        (6, (8, 8, 8, 8, 8, 8, 8, 3), 40, 16),
    ],
)
@pytest.mark.parametrize("processors", [2, 20])
def test_every_size(inputs, widths, rows, batch_size, processors):
    with machine(processors=processors):
        stack = layers(*widths, hidden="relu", output="softmax")
        problem = CLASSES.with_(
            inputs=inputs, layers=stack, rows=rows, batch_size=batch_size,
            terms=Regularization(l2=0.01, clip_norm=0.2),
        )  # fmt: skip
        assert_agrees(problem, epochs=1)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_everything_at_once(precision, three):
    assert_agrees(EVERYTHING.with_(precision=precision), epochs=1)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("processors", [2, 9])
def test_a_first_layer_that_is_a_phase_of_its_own(precision, processors):
    with machine(processors=processors):
        problem = WIDE.with_(precision=precision)
        plan = cuda_tiny._plan_of(problem.step(problem.network("cuda")))
        assert plan.split
        assert_agrees(problem, epochs=1)


# --- against the steps one by one, where products round -------------------------------------------


def assert_near_where_products_round(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        if array.dtype == np.int64:
            np.testing.assert_array_equal(ours[name], array, err_msg=name)
        elif name == "copies":
            assert (ours[name] != array).mean() < 0.01
        else:
            assert_close_in_norm(ours[name], array)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("problem", [EVERYTHING, WIDE], ids=["everything", "wide"])
def test_precisions_of_products(precision, problem, three):
    problem = problem.with_(precision=precision)
    theirs = problem.step(problem.network("cuda"))  # with numbers of 16 bits in the same places
    assert_follows(persistent(problem), theirs, problem, assert_near_where_products_round, 1)


def test_biases_gradients_are_sums_of_what_is_not_rounded(three):
    """In tf32, too, whose products round."""
    problem = SMALL.with_(precision="tf32", terms=Regularization())
    step = persistent(problem)
    with step.backend.capture(step) as run:
        step.begin_epoch(0, problem.rates(step))
        run(0, 1)
    for delta, db in zip(step.full.tape.delta, step.gradients.biases, strict=True):
        expected = step.backend.to_host(delta).astype(np.float64).sum(axis=0)
        assert_close(step.backend.to_host(db), expected, "float32", terms=len(delta))
