"""Measurements on a GPU, as far as they go without one: who asks what, and how long is measured."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bench.gpu
import bench.kernel_runs
import bench.machine
import bench.peak
import bench.worker
from bench.cases import Case
from bench.data import make_problem
from bench.entrant import Entrant, Settings
from bench.floors import OPERAND_BYTES
from bench.gpu import measure_kernels
from bench.kernel_runs import OURS, measure_kernel
from bench.kernels import KERNELS, KernelCase
from bench.machine import describe_gpu
from bench.peers import GPU_PEERS, PEERS
from bench.process import PeerFailed, environment
from bench.progress import Silent
from bench.record import KernelResult
from bench.worker import Session
from tests.bench.records import gpu_record
from tests.conftest import NO_HOST_BUILD
from tests.cuda_host.runs import machine

SETTINGS = Settings(threads=1, repeats=3, seconds=1.0)
CASE = Case("small", "train", (4, 3, 2), rows=16, batch=8, epochs=2)


# --- processes --------------------------------------------------------------------------------


def test_environment_of_a_gpu(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    hidden, seen = environment(1), environment(1, "cuda")
    assert (hidden["CUDA_VISIBLE_DEVICES"], hidden["JAX_PLATFORMS"]) == ("", "cpu")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["JAX_PLATFORMS"]) == ("3", "cuda")
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in hidden


def test_peers_know_where_they_run(tmp_path) -> None:
    assert {peer.device for peer in PEERS.values()} == {"cpu"}
    assert {peer.device for peer in GPU_PEERS.values()} == {"cuda"}
    entrant = Entrant(GPU_PEERS["jax"], CASE, tmp_path / "problem.npz", SETTINGS)
    assert entrant.request["device"] == "cuda"
    assert next(iter(GPU_PEERS)) == "ours"


# --- a long run -------------------------------------------------------------------------------


class Clock:
    """Seconds that pass only when something says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Subject:
    """A peer: each call costs a second at its beginning, each epoch 10 ms."""

    def __init__(self, clock: Clock, with_timer: bool) -> None:
        self.clock, self.runs, self.resets = clock, [], 0
        self.timer = self if with_timer else None
        self.problem = make_problem(CASE)

    def reset(self) -> None:
        self.resets += 1

    def run(self, epochs: int) -> float:
        self.runs.append(epochs)
        self.clock.now += 0.1 + 0.01 * epochs
        return 0.0

    def start(self) -> None:
        self.began = self.clock.now

    def stop(self) -> float:
        return (self.clock.now - self.began) / 2

    def parameters(self) -> tuple[Any, Any]:
        return self.problem.weights, self.problem.biases


def session(monkeypatch, with_timer: bool) -> Session:
    clock = Clock()
    monkeypatch.setattr(
        bench.worker, "time", SimpleNamespace(perf_counter=clock, process_time=clock)
    )
    made = Session()
    made.case, made.problem, made.device = CASE, make_problem(CASE), "cuda"
    made.subject = Subject(clock, with_timer)
    return made


def test_a_long_run_lasts_long_enough(monkeypatch) -> None:
    measured = session(monkeypatch, with_timer=True)
    reply = measured.measure(1.0)
    subject = measured.subject
    lap, *longer = subject.runs
    assert lap == CASE.epochs  # for the loss, from the initial weights
    assert subject.resets == 1
    assert longer == sorted(longer)
    assert 0.1 + 0.01 * longer[-1] >= 1.0
    assert all(0.1 + 0.01 * epochs < 1.0 for epochs in longer[:-1])
    assert reply["rate"] == pytest.approx(CASE.rows * longer[-1] / (0.1 + 0.01 * longer[-1]))
    assert reply["device_rate"] == pytest.approx(2 * reply["rate"])
    assert reply["loss"] > 0
    # The next one begins with the length that was enough.
    subject.runs.clear()
    measured.measure(1.0)
    assert subject.runs == [CASE.epochs, longer[-1]]


def test_without_a_timer_there_is_no_time_by_the_gpu(monkeypatch) -> None:
    assert session(monkeypatch, with_timer=False).measure(1.0)["device_rate"] is None


def test_a_processor_runs_whole_laps(monkeypatch) -> None:
    measured = session(monkeypatch, with_timer=True)
    measured.device = "cpu"
    reply = measured.measure(0.3)
    assert measured.subject.runs == [CASE.epochs] * 3
    assert measured.subject.resets == 3
    assert reply["device_rate"] is None
    assert reply["rate"] == pytest.approx(CASE.rows * CASE.epochs / 0.12)


def test_a_loss_that_is_not_finite_ends_the_measurement(monkeypatch) -> None:
    measured = session(monkeypatch, with_timer=False)
    measured.subject.problem.weights[0][:] = np.nan
    with pytest.raises(ArithmeticError, match="the loss after the measurement is nan"):
        measured.measure(1.0)


# --- ceilings -----------------------------------------------------------------------------------


def test_the_best_of_several_is_taken(monkeypatch) -> None:
    clock = Clock()
    monkeypatch.setattr(bench.peak, "time", SimpleNamespace(perf_counter=clock))
    lengths = iter([9, 4, 2, 3, 5, 6, 7, 8])  # the first is the warm-up
    seen = []

    def wait() -> None:
        clock.now += next(lengths)

    assert bench.peak._best(lambda: seen.append(1), wait, seconds=0, queued=4) == 0.5
    assert len(seen) == 4 * 6


# --- operations alone ---------------------------------------------------------------------------


def test_operations_that_are_measured_alone() -> None:
    assert len(set(KERNELS)) == len(KERNELS)
    big = {
        (case.operation, case.precision, case.activation)
        for case in KERNELS
        if (case.B, case.I, case.O) == (4096, 4096, 4096)
    }
    assert {key for key in big if key[0] == "linear_forward"} == {
        ("linear_forward", precision, activation)
        for precision in OPERAND_BYTES
        for activation in ("relu", "tanh", "silu", "gelu")
    }
    assert all(case.work.bytes > 0 for case in KERNELS)
    with pytest.raises(ValueError, match="not measured alone"):
        _ = KernelCase("dance", 1).work


SMALL = [
    KernelCase("linear_forward", 8, 5, 6, activation="gelu"),
    KernelCase("linear_delta", 8, 5, 6, activation="relu"),
    KernelCase("linear_grads", 8, 5, 6),
    KernelCase("adam", 100),
    KernelCase("loss", 8, O=3),
    KernelCase("gather_rows", 8, 5),
]


@pytest.mark.skipif(NO_HOST_BUILD is not None, reason=str(NO_HOST_BUILD))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.operation)
def test_an_operation_alone(monkeypatch, case, precision) -> None:
    """On the stand-in: each set's arrays are right for the operation, and the time is of one."""
    case = replace(case, precision=precision)
    monkeypatch.setattr(bench.kernel_runs, "cache_bytes", lambda cuda: case.work.bytes)
    launched = []
    with machine() as cupy:
        # 600 ms between marks, which is enough at once: three sets, each replayed once.
        cupy.cuda.get_elapsed_time = lambda first, last: 600.0
        on = mlp_device(precision)
        graph = on.graph
        monkeypatch.setattr(on, "graph", lambda works: (launched.extend(works), graph(works))[1])
        reply = measure_kernel(case, repeats=2, seconds=0.1)
    assert reply["sets"] == 3
    assert reply["times"][OURS] == pytest.approx([0.2, 0.2])
    assert len(reply["times"][OURS]) == 2
    arrays = {id(argument) for work in launched for argument in work.arguments}
    assert len(arrays) > 2 * len(launched)  # each set has arrays of its own
    if case.product:
        library = {"cublaslt", "cublaslt-rounded"} if precision == "bfloat16" else {"cublaslt"}
        if case.operation == "linear_grads":
            library = {"cublaslt"}
        assert set(reply["times"]) | set(reply["absent"]) == {OURS} | library
        assert all("nvmath" in reason or "cublas" in reason for reason in reply["absent"].values())


def mlp_device(precision: str) -> Any:
    from mlp.backends import get_backend

    backend: Any = get_backend("cuda", precision)
    return backend.on


def test_sets_are_larger_than_the_cache_but_not_many() -> None:
    case = KernelCase("adam", 1000)  # 28,000 bytes
    assert bench.kernel_runs._sets(case, 28_000) == 3
    assert bench.kernel_runs._sets(case, 28_001) == 4
    assert bench.kernel_runs._sets(case, 10) == 2
    assert bench.kernel_runs._sets(case, 10**9) == 64


def test_a_kernel_that_fails_does_not_end_the_rest(monkeypatch) -> None:
    workers: list[Any] = []

    class FakeWorker:
        def __init__(self, threads: int, device: str) -> None:
            self.closed, self.device = False, device
            workers.append(self)

        def ask(self, do: str, case: dict[str, Any], repeats: int, seconds: float) -> Any:
            assert (do, repeats, seconds) == ("kernel", 3, 0.05)
            if case["operation"] == "linear_delta":
                raise PeerFailed("an illegal address")
            return {"times": {"ours": [1.0, 2.0, 3.0]}, "absent": {}, "sets": 2}

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(bench.gpu, "Worker", FakeWorker)
    first, second, third = measure_kernels(SMALL[:3], SETTINGS, Silent())
    assert first == KernelResult(SMALL[0], {"ours": (1.0, 2.0, 3.0)}, {}, 2)
    assert second == KernelResult(SMALL[1], {}, {"ours": "an illegal address"}, 0)
    assert third.times == first.times
    assert [worker.closed for worker in workers] == [True, True]
    assert {worker.device for worker in workers} == {"cuda"}


def test_a_record_grows(monkeypatch) -> None:
    began = replace(gpu_record(), peaks={}, copies={}, kernels=[])
    monkeypatch.setattr(
        bench.gpu, "measure_peaks", lambda precisions, *_: {key: {} for key in precisions}
    )
    monkeypatch.setattr(bench.gpu, "measure_copies", lambda *_: {"torch": 1.0})
    monkeypatch.setattr(bench.gpu, "measure_kernels", lambda *_: iter(gpu_record().kernels))
    monkeypatch.setattr(bench.gpu, "run_cases", lambda *_: iter(["a case"]))
    tf32 = replace(SMALL[0], precision="tf32")
    grown = list(bench.gpu.measure(began, [CASE], [], [tf32], SETTINGS, Silent()))
    assert [(len(each.kernels), len(each.cases)) for each in grown] == [
        (0, 0), (1, 0), (2, 0), (3, 0), (3, 1),
    ]  # fmt: skip
    assert list(grown[0].peaks) == ["float32", "tf32"]
    assert grown[-1].copies == {"torch": 1.0}


# --- the device ---------------------------------------------------------------------------------


def test_describe_gpu(monkeypatch) -> None:
    monkeypatch.setattr(bench.machine, "cache_bytes", lambda cuda: 50 * 2**20)
    asked = []
    monkeypatch.setattr(
        bench.machine, "_nvidia_smi", lambda bus: asked.append(bus) or {"driver": "580.1"}
    )
    with machine(memory=2**30, processors=7) as cupy:
        cupy.cuda.Device.pci_bus_id = "0000:01:00.0"
        found = describe_gpu()
        del cupy.cuda.Device.pci_bus_id
    assert asked == ["0000:01:00.0"]
    assert found == {
        "name": "Stand-in", "capability": "9.0", "processors": 7, "memory_gib": 1.0,
        "cache_mib": 50.0, "cuda_of_driver": "13.0", "cuda": "13.0", "cublaslt": found["cublaslt"],
        "driver": "580.1",
    }  # fmt: skip


def test_what_nvidia_smi_says(monkeypatch, tmp_path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "580.1, 1200 MHz, 1980 MHz, 2619 MHz, 700.00 W"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = bench.machine._nvidia_smi("0000:01:00.0")
    assert (found["driver"], found["clock"], found["power_limit"]) == (
        "580.1", "1200 MHz", "700.00 W",
    )  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert bench.machine._nvidia_smi("0000:01:00.0") == {}
