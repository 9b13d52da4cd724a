"""The peers of a GPU, run on a processor: all of their code but for graphs and their compiler."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mlp
from bench.cases import Case
from bench.compare import void_reasons
from bench.data import Problem, make_problem
from bench.peers import GPU_PEERS, cupy_loop, load_peer
from bench.reference import probabilities, training_loss
from tests.conftest import NO_HOST_BUILD
from tests.cuda_host.runs import machine

NEEDS = {"torch-eager": "torch", "torch-compile": "torch", "torch-graph": "torch", "jax": "optax"}
# JAX's code for a GPU does not ask whether there is one, and so runs as it is.
PLACE = {"jax": "cuda"}
OTHERS = [name for name in GPU_PEERS if name != "ours"]

TWO = Case("two", "train", (20, 16, 1), rows=256, batch=32, epochs=5)
TEN = Case("ten", "train", (20, 16, 16, 10), rows=256, batch=32, epochs=5)
named = pytest.mark.parametrize("case", [TWO, TEN], ids=lambda case: case.name)
# PyTorch's own code uses what it has deprecated.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def products_as_they_were() -> Iterator[None]:
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_default_matmul_precision", None)


def load(name: str) -> tuple[Any, str]:
    """Module of a peer, and the device to name to it."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    return load_peer(GPU_PEERS[name].module), PLACE.get(name, "cpu")


@pytest.fixture(params=OTHERS)
def peer(request, products_as_they_were) -> tuple[Any, str]:
    """Every peer but ours."""
    return load(request.param)


def reference(case: Case, problem: Problem) -> mlp.Network:
    """The case's network on the NumPy backend, with the initial weights."""
    last = mlp.Dense(case.widths[-1], "sigmoid" if case.binary else "softmax")
    layers = [*(mlp.Dense(units, "relu") for units in case.widths[1:-1]), last]
    network = mlp.Network(case.widths[0], layers, device="numpy")
    network.set_parameters(problem.weights, problem.biases)
    return network


def assert_trains(subject: Any, case: Case) -> None:
    """From the initial weights, twice, to the loss that ours has on the processor."""
    problem = make_problem(case)
    ours = load_peer(GPU_PEERS["ours"].module).Training(
        replace(case, precision="float32"), problem, 1, "cpu"
    )
    ours.run(case.epochs)
    losses = {"ours": training_loss(problem, *ours.parameters())}
    for again in ("once", "again"):
        subject.reset()
        for found, wanted in zip(subject.parameters()[0], problem.weights, strict=True):
            np.testing.assert_array_equal(found, wanted)
        last = subject.run(case.epochs)
        losses[again] = training_loss(problem, *subject.parameters())
        assert last == pytest.approx(losses[again], rel=0.1)
    assert max(losses.values()) < 0.95 * training_loss(problem, problem.weights, problem.biases)
    assert void_reasons(losses) == {}


@named
def test_training(peer, case) -> None:
    module, device = peer
    assert_trains(module.Training(case, make_problem(case), 1, device), case)


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "cupy-loop"])
@pytest.mark.usefixtures("products_as_they_were")
def test_training_in_bfloat16(name) -> None:
    module, device = load(name)
    case = replace(TEN, precision="bfloat16")
    assert_trains(module.Training(case, make_problem(case), 1, device), case)


@named
def test_steps_are_those_of_the_reference(peer, case) -> None:
    """Five steps on all rows at once, where no order of rows matters: the same weights."""
    case = replace(case, batch=case.rows)
    module, device = peer
    problem = make_problem(case)
    subject = module.Training(case, problem, 1, device)
    subject.run(3)
    subject.reset()  # of the weights, and of all that Adam keeps
    subject.run(5)
    network = reference(case, problem)
    trainer = mlp.Trainer(network, case.loss, mlp.Adam(lr=case.learning_rate), case.batch)
    trainer.fit(problem.X, problem.y, 5)
    weights, biases = subject.parameters()
    expected = zip([*weights, *biases], [*network.weights, *network.biases], strict=True)
    for found, wanted in expected:
        # Of 5 steps of up to 1e-3 each.
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@named
def test_an_epoch_has_every_row_once(peer, case) -> None:
    """At a learning rate of 0 the mean of the batches' losses is that of all rows."""
    module, device = peer
    problem = make_problem(case)
    subject = module.Training(replace(case, learning_rate=0.0), problem, 1, device)
    expected = training_loss(problem, problem.weights, problem.biases)
    for _ in range(2):
        assert subject.run(2) == pytest.approx(expected, rel=1e-5)


@named
def test_gradients_of_the_baseline(case) -> None:
    """Adam divides by their size: its steps are the same for gradients twice as large."""
    case = replace(case, batch=case.rows)
    problem = make_problem(case)
    subject = cupy_loop.Training(case, problem, 1)
    subject.run(1)
    network = reference(case, problem)
    gradients = network.gradients(problem.X, problem.y, case.loss)
    expected = [*gradients.weights, *gradients.biases]
    for m, gradient in zip(subject.m, expected, strict=True):
        np.testing.assert_allclose(m, 0.1 * np.asarray(gradient), rtol=1e-3, atol=1e-7)


def test_the_first_batch_alone(peer) -> None:
    """What `bench.worker` times as the start: fewer rows than the case has."""
    module, device = peer
    subject = module.Training(TEN, make_problem(TEN).head(TEN.batch), 1, device)
    assert 0 < subject.run(1) < 5


@named
@pytest.mark.parametrize("batch", [1, 16, 64])
def test_prediction(peer, case, batch) -> None:
    module, device = peer
    case = Case("rows", "predict", case.widths, rows=64, batch=batch)
    problem = make_problem(case)
    subject = module.Prediction(case, problem, 1, device)
    for _ in range(2):
        subject.run()
        p = subject.probabilities()
        assert isinstance(p, np.ndarray)
        expected = probabilities(problem.X[-batch:], problem.weights, problem.biases)
        np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("products_as_they_were")
def test_jax_is_told_how_to_multiply() -> None:
    module, device = load("jax")
    for precision, setting in (("tf32", "tensorfloat32"), ("float32", "highest")):
        case = replace(TWO, precision=precision)
        module.Training(case, make_problem(case), 1, device)
        assert sys.modules["jax"].config.jax_default_matmul_precision == setting


def test_cupy_is_told_how_to_multiply(monkeypatch) -> None:
    monkeypatch.setenv("CUPY_TF32", "unset")
    with machine() as cupy:
        for precision, setting in (("tf32", "1"), ("float32", "0")):
            assert cupy_loop.array_module(replace(TWO, precision=precision), "cuda") is cupy
            assert os.environ["CUPY_TF32"] == setting


# --- ours, on the stand-in for a GPU --------------------------------------------------------------

on_host = pytest.mark.skipif(NO_HOST_BUILD is not None, reason=str(NO_HOST_BUILD))


@on_host
@pytest.mark.parametrize("precision", GPU_PEERS["ours"].precisions)
def test_ours_on_a_gpu(precision) -> None:
    case = replace(TWO, precision=precision)
    with machine() as cupy:
        cupy.cuda.get_elapsed_time = lambda first, last: 1500.0
        subject = load_peer(GPU_PEERS["ours"].module).Training(case, make_problem(case), 1, "cuda")
        assert isinstance(subject.X, cupy.ndarray)
        assert subject.network.device == "cuda"
        assert_trains(subject, case)
        subject.timer.start()
        assert subject.timer.stop() == 1.5


@on_host
def test_ours_predicts_on_a_gpu() -> None:
    case = Case("rows", "predict", TEN.widths, rows=64, batch=16)
    problem = make_problem(case)
    with machine():
        subject = load_peer(GPU_PEERS["ours"].module).Prediction(case, problem, 1, "cuda")
        subject.run()
        expected = probabilities(problem.X[-16:], problem.weights, problem.biases)
        np.testing.assert_allclose(subject.probabilities(), expected, rtol=1e-4, atol=1e-6)


# --- what PyTorch does on a GPU alone, on stand-ins for it ----------------------------------------


def test_a_step_is_warmed_up_then_captured_then_replayed(monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module, _ = load("torch-graph")
    done: list[str] = []

    class FakeStream:
        def wait_stream(self, stream: Any) -> None:
            done.append("wait")

    class FakeGraph:
        def replay(self) -> None:
            done.append("replay")

    @contextmanager
    def during(what: str) -> Iterator[None]:
        done.append(what)
        yield
        done.append(f"end of {what}")

    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: during("side stream"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: during("capture"))
    replay = module.recorded(lambda: done.append("step"), "cuda")
    replay()
    assert done == [
        "wait", "side stream", *["step"] * 3, "end of side stream", "wait",
        "capture", "step", "end of capture", "replay",
    ]  # fmt: skip


def test_torch_knows_the_modes_and_precisions(monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    compiled, _ = load("torch-compile")
    graph, _ = load("torch-graph")
    assert {compiled.MODE, graph.MODE} <= set(torch._inductor.list_mode_options())
    seen = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", seen.append)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)
    model = load_peer("bench.peers.torch_model")
    for precision in ("float32", "tf32", "bfloat16"):
        case = replace(TWO, precision=precision)
        model.build(case, make_problem(case), 1, "cuda")
    assert seen == ["highest", "high", "highest"]


def test_marks_of_torch(monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class FakeEvent:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.recorded = True

        def synchronize(self) -> None:
            assert self.recorded

        def elapsed_time(self, last: Any) -> float:
            assert self.recorded
            assert last.recorded
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    model = load_peer("bench.peers.torch_model")
    assert model.timer("cpu") is None
    marks = model.timer("cuda")
    marks.start()
    assert marks.stop() == 1.5
