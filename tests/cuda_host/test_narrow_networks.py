"""Networks whose narrow layers are one kernel forward and one back: steps, and predictions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import mlp
from mlp.backends.cuda.backend import CupyBackend
from mlp.backends.cuda.capture import CapturedSteps
from mlp.backends.cuda.ways import Trial
from mlp.step import Step
from tests.backends.captured import (
    CLASSES,
    Problem,
    assert_all_near,
    batch_numbers,
    numbers,
    start_alike,
)
from tests.cuda_host.runs import counted, machine
from tests.problems import rows
from tests.tolerances import assert_close

pytestmark = pytest.mark.usefixtures("cupy")

NARROW = [mlp.Dense(9, "gelu", dropout=0.25), mlp.Dense(64, "relu"), mlp.Dense(3, "softmax")]
# Two chains, with layers between them and after them that are none.
MIXED = [
    mlp.Dense(40, "relu"), mlp.Dense(20, "gelu"), mlp.Dense(150, "relu", dropout=0.5),
    mlp.Dense(30, "relu"), mlp.Dense(17, "gelu", dropout=0.25), mlp.Dense(5, "relu"),
    mlp.Dense(3, "softmax"),
]  # fmt: skip
DEEP = [*(mlp.Dense(33, "relu") for _ in range(24)), mlp.Dense(3, "softmax")]
PRECISIONS = ["float32", "tf32", "bfloat16", "float16"]


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    """Not the mode of tiny networks."""
    monkeypatch.setattr(CupyBackend, "tiny_steps", "graph")


def problem(layers, **changes) -> Problem:
    """Two batches of 80 and 70 rows."""
    chosen = {"inputs": 12, "rows": 150, "batch_size": 80, "precision": "float32", **changes}
    return CLASSES.with_(layers=layers, **chosen)


def captured(step: Step, fused: bool) -> CapturedSteps:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CupyBackend, "fused_chain", fused)
        return CapturedSteps(step.backend, step)


def kernels_of(run: CapturedSteps) -> Counter[str]:
    return Counter(launch.kernel.name for launch in run._launches["full", run._way])


def assert_same_steps(problem: Problem) -> tuple[Counter[str], Counter[str]]:
    """Steps with chains are those without; returns the kernels of both."""
    steps = [problem.step(problem.network("cuda")) for _ in range(2)]
    chained, apart = (
        captured(step, fused) for step, fused in zip(steps, (True, False), strict=True)
    )
    for step in steps:
        step.begin_epoch(0, problem.rates(step))
    for number in range(steps[0].batches):
        chained(number, number + 1)
        apart(number, number + 1)
        batches = [step.full if number < step.batches - 1 else step.last for step in steps]
        ours, theirs = map(dict.__or__, map(numbers, steps), map(batch_numbers, steps, batches))
        precision = "bfloat16" if problem.precision == "bfloat16" else "float32"
        assert_all_near(ours, theirs, precision, terms=200)
        start_alike(*steps)
    return kernels_of(chained), kernels_of(apart)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_narrow_network(precision):
    ours, theirs = assert_same_steps(problem(NARROW, precision=precision))
    assert ours["narrow_forward"] == ours["narrow_delta"] == ours["narrow_grads"] == 1
    assert not [name for name in ours if name.startswith(("linear", "column"))]
    assert theirs["linear_forward"] == 3
    assert not [name for name in theirs if name.startswith("narrow")]


def test_steps_that_are_measured_leave_the_loss_scale():
    """As each good step counts for it, it would else depend on what was measured."""
    given = problem(NARROW, precision="float16")
    step = given.step(given.network("cuda"))
    run, before = captured(step, fused=True), step.backend.to_host(step.scaling)
    with Trial(step.backend, step) as trial:
        trial.run(lambda count: run(0, count), 1)
        assert (step.backend.to_host(step.scaling) != before).any()
    np.testing.assert_array_equal(step.backend.to_host(step.scaling), before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_chains_between_wide_layers(precision):
    ours, _ = assert_same_steps(problem(MIXED, precision=precision))
    assert ours["narrow_forward"] == ours["narrow_delta"] == 2
    assert ours["linear_forward"] == ours["linear_delta"] == 2  # into the wide layer, and out of it


def test_a_chain_whose_way_back_is_several_launches():
    ours, _ = assert_same_steps(problem(DEEP, inputs=33))
    assert ours["narrow_forward"] == 1
    assert ours["narrow_delta"] > 2
    assert not ours["linear_grads"]


def test_wider_chains_write_their_deltas():
    """As where the sums of the gradients do not fit: products of their own make them."""
    layers = [mlp.Dense(128, "relu") for _ in range(3)] + [mlp.Dense(3, "softmax")]
    ours, _ = assert_same_steps(problem(layers, inputs=128))
    assert ours["narrow_delta"] == 2
    assert ours["linear_grads"] >= 2


def test_little_shared_memory():
    with machine(shared=64 * 1024):
        layers = [mlp.Dense(64, "relu") for _ in range(3)] + [mlp.Dense(3, "softmax")]
        ours, _ = assert_same_steps(problem(layers, inputs=64, precision="bfloat16"))
        assert ours["narrow_forward"] == 1
    with machine(shared=99 * 1024):  # enough for the way forward alone
        layers = [mlp.Dense(128, "relu"), mlp.Dense(10, "softmax")]
        ours, _ = assert_same_steps(problem(layers, inputs=64))
        assert ours["narrow_forward"] == ours["linear_delta"] == 1
        assert not ours["narrow_delta"]


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [mlp.Dense(9, "relu"), mlp.Dense(3)], "loss": "mse", "targets": "values"},
        # An output that saves z, in float32 beside the tape: that layer is by itself.
        {"layers": [mlp.Dense(9, "relu"), mlp.Dense(8, "relu"), mlp.Dense(3, "gelu")],
         "loss": "mse", "targets": "values", "precision": "bfloat16"},
        {"layers": [mlp.Dense(9, "relu"), mlp.Dense(3, "softmax")], "loss": "mse",
         "targets": "soft"},
        {"layers": [mlp.Dense(1, "relu"), mlp.Dense(1)], "loss": "mse", "targets": "values"},
    ],
    ids=["values", "output saves z", "softmax by itself", "one unit"],
)  # fmt: skip
def test_other_outputs(changes):
    ours, _ = assert_same_steps(problem(**changes))
    assert ours["narrow_forward"] == ours["narrow_delta"] == 1


@pytest.mark.parametrize(
    ("precision", "capability", "layers"),
    [
        ("float64", (9, 0), NARROW),
        ("bfloat16", (7, 5), NARROW),
        ("float32", (9, 0), [mlp.Dense(129, "relu"), mlp.Dense(3, "softmax")]),
        ("float32", (9, 0), [mlp.Dense(3, "softmax")]),
    ],
)
def test_networks_without_chains(precision, capability, layers):
    with machine(capability=capability):
        given = problem(layers, precision=precision)
        run = captured(given.step(given.network("cuda")), fused=True)
        assert not [name for name in kernels_of(run) if name.startswith("narrow")]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layers", [NARROW, MIXED], ids=["narrow", "mixed"])
def test_predictions(precision, layers):
    net = problem(layers, precision=precision).network("cuda")
    backend, X = net.backend, rows(300, 12).astype(np.float32)
    found = []
    for fused in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CupyBackend, "fused_chain", fused)
            predict = backend.predictor(net.layers(), net.parameters.flat)
        out = backend.from_host(np.full((300, 3), np.nan), np.float32)
        given = backend.from_host(X, np.float32)
        predict(given, out)
        with counted() as costs:
            predict(given, out)
        found.append((backend.to_host(out), costs))
    (ours, costs), (theirs, _) = found
    assert_close(ours, theirs, "float32", terms=150)
    if layers is NARROW:
        assert costs == {"launches": 2}  # the chain, and the softmax after it
