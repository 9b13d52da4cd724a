"""What fails while a device works: memory, the compiler, a kernel that goes wrong."""

from __future__ import annotations

import gc
import re
from dataclasses import replace

import numpy as np
import pytest

import mlp
from mlp.backends.cuda.device import CHECK_VARIABLE
from mlp.errors import DeviceFault, DeviceOutOfMemory
from mlp_kernels.cuda import gather
from tests.cuda_host.runs import assert_same_network, classifier, digits, machine, trainer_of

# --- memory ---------------------------------------------------------------------------------------


def fit(memory, batch_size, precision="float32", rows=1500):
    # One processor: what others leave to be added up is much of so little memory.
    with machine(memory=memory, processors=1):
        net = classifier("cuda", precision, hidden=32)
        X, y = digits(rows)
        trainer = trainer_of(net, batch_size=batch_size, l2=1e-3, clip_norm=1.0)
        return trainer.fit(X, y, 1, sample_weight=np.ones(rows))


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_the_batch_size_that_is_named_fits(precision):
    room = {"float32": 900_000, "float64": 1_700_000, "bfloat16": 750_000}[precision]
    with pytest.raises(DeviceOutOfMemory) as caught:
        fit(room, 1500, precision)
    message = str(caught.value)
    pattern = (
        r"device 'cuda' has no room for batches of 1,500 rows: [\d.,]+ MiB were asked for "
        r"and [\d.,]+ MiB are free; a batch_size of ([\d,]+) would fit"
    )
    found = re.fullmatch(pattern, message)
    assert found, message
    assert caught.value.asked > caught.value.free > 0
    fitting = int(found.group(1).replace(",", ""))
    assert np.isfinite(fit(room, fitting, precision)["loss"]).all()
    with pytest.raises(DeviceOutOfMemory):
        fit(room, int(1.8 * fitting), precision)


def test_a_network_that_does_not_fit():
    with machine(memory=1_000_000):
        with pytest.raises(DeviceOutOfMemory) as caught:
            mlp.Network(1000, [mlp.Dense(1000)], device="cuda")
        assert re.match(
            r"device 0 is out of memory: 3\.8 MiB were asked for, [\d.]+ KiB are free; use fewer",
            str(caught.value),
        )
        assert (caught.value.asked, caught.value.free > 0) == (4_004_096, True)
        assert classifier(hidden=8).forward(digits(3)[0]).shape == (3, 10)


def test_nothing_is_kept_of_what_did_not_fit():
    with machine(memory=900_000) as cupy:
        net = classifier(hidden=32)
        X, y = digits(1500)
        weights = net.weights
        before = sum(cupy.machine.used)
        for _ in range(3):
            with pytest.raises(DeviceOutOfMemory):
                trainer_of(net, batch_size=1500).fit(X, y, 1)
            net.backend.synchronize()
            gc.collect()
            assert sum(cupy.machine.used) == before
        for ours, theirs in zip(net.weights, weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_validation_set_that_does_not_fit():
    with machine(memory=300_000):
        X, y = digits(1500)
        with pytest.raises(DeviceOutOfMemory, match=r"375\.0 KiB were asked for"):
            trainer_of(classifier(hidden=8)).fit(X[:100], y[:100], 1, (X, y))


# --- compilation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", [(9, 0), (12, 0)])
def test_a_kernel_that_does_not_compile(monkeypatch, capability):
    with machine(capability=capability) as cupy:
        net = classifier(hidden=8)

        class Fails(cupy.RawModule):
            def get_function(self, name):
                if name != "gather_batch":
                    return super().get_function(name)
                error = cupy.cuda.compiler.CompileException
                raise error("gather.cu(7): error: expected a ';'", self.code, name, self.options)

        monkeypatch.setattr(cupy, "RawModule", Fails)
        with pytest.raises(DeviceFault) as caught:
            trainer_of(net).fit(*digits(20), 1)
        message = str(caught.value)
        assert message.startswith("the kernel gather_batch (ARRAYS=2, FROM0=float, ")
        assert f"does not compile for sm_{capability[0]}{capability[1]}; report this" in message
        assert message.endswith(": gather.cu(7): error: expected a ';'")
        assert net.forward(digits(3)[0]).shape == (3, 10)  # nothing else is affected


# --- faults ---------------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """A function that makes batches be gathered by an index that is too short."""
    good = gather.gather_batch

    def breaks(net):
        short = net.backend.zeros((1,), np.int64)

        def bad(index, *pairs):
            launch = good(index, *pairs)
            return replace(launch, arguments=(short, *launch.arguments[1:]))

        monkeypatch.setattr(gather, "gather_batch", bad)

    return breaks


@pytest.mark.parametrize("hooked", [False, True], ids=["alone", "callbacks"])
@pytest.mark.usefixtures("cupy")
def test_a_fault_names_the_kernels_in_flight(broken, hooked):
    net, X_y = classifier(hidden=8), digits(100)
    broken(net)
    hooks = [mlp.BestWeights()] if hooked else []
    with pytest.raises(DeviceFault) as caught:
        trainer_of(net, batch_size=20).fit(*X_y, 2, callbacks=hooks)
    message = str(caught.value)
    assert message.startswith(
        "CUDA device 0: cudaErrorIllegalAddress: an illegal memory access was"
    )
    (names,) = re.findall(r"one of these kernels failed: (.*?); set MLP_CUDA_CHECK=1", message)
    assert {"gather_batch", "narrow_forward", "loss", "update"} <= set(names.split(", "))
    assert message.endswith("Start a new process to use the device again")
    for work in (lambda: net.forward(X_y[0]), lambda: classifier(hidden=8), lambda: net.weights):
        with pytest.raises(DeviceFault, match="Start a new process"):
            work()


def test_checked_a_fault_names_the_kernel(cupy, broken, monkeypatch):
    monkeypatch.setenv(CHECK_VARIABLE, "1")
    net = classifier(hidden=8)
    broken(net)
    with pytest.raises(DeviceFault) as caught:
        trainer_of(net, batch_size=20).fit(*digits(100), 2)
    message = str(caught.value)
    assert "; the kernel gather_batch (ARRAYS=2, FROM0=float, FROM1=int64, " in message
    assert "one of these" not in message
    assert CHECK_VARIABLE not in message


def test_checked_runs_give_the_same(monkeypatch):
    """Checking changes when the host waits, and nothing else."""
    found = []
    for value in ("0", "1"):
        monkeypatch.setenv(CHECK_VARIABLE, value)
        with machine():
            net = classifier(hidden=8)
            X, y = digits(200)
            history = trainer_of(net, batch_size=30).fit(X, y, 2, (X, y))
            found.append(
                (
                    history["loss"],
                    history["validation_loss"],
                    mlp.Network.from_state(net.state(), "numpy"),
                )
            )
    assert found[0][:2] == found[1][:2]
    assert_same_network(found[0][2], found[1][2])
