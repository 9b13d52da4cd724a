"""Which devices can be used, which cannot and why; what "auto" takes, and what the command says."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import mlp
from mlp.backends import available_precisions, get_backend, unavailable_reason
from mlp.cli.train import _remarks
from mlp.cli.train_job import _describe_device
from mlp.errors import BackendUnavailable, InvalidSetting
from tests.cli.conftest import run
from tests.cuda_host.runs import PRECISIONS, machine

__all__ = ["run"]  # a fixture

LAYERS = [mlp.Dense(5, "tanh"), mlp.Dense(3, "softmax")]
REMEDY = "use device='cpu'"


def refusal(device="cuda", precision="float32"):
    """The sentence with which a network is refused."""
    with pytest.raises(BackendUnavailable) as caught:
        mlp.Network(4, LAYERS, device=device, precision=precision)
    message = str(caught.value)
    assert "\n" not in message
    assert message == unavailable_reason(device) or precision != "float32"
    return message


# --- what is missing, or too old ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"count": 0}, r"no CUDA device can be used \(cudaErrorNoDevice: no CUDA-capable"),
        ({"driver": 0}, "no NVIDIA driver is installed; install one"),
        (
            {"driver": 11000},
            r"the NVIDIA driver supports CUDA 11\.0, but CuPy needs 13\.0: update the driver",
        ),
        (
            {"driver": 12080, "runtime": 13000},
            r"the NVIDIA driver supports CUDA 12\.8, but CuPy needs 13\.0: update the driver, or",
        ),
        (
            {"capability": (6, 1)},
            r"device 0 has compute capability 6\.1, but 7\.0 or newer is needed",
        ),
    ],
)  # fmt: skip
def test_machines_that_cannot_be_used(properties, message):
    with machine(**properties):
        found = refusal()
        assert re.match(message, found), found
        assert REMEDY in found
        assert get_backend("auto").name == "cpu"
        assert available_precisions("cuda") == []


@pytest.mark.parametrize(
    ("count", "device", "there"),
    [(1, "cuda:2", "the last one here is 0"), (3, "cuda:3", "the last one here is 2")],
)
def test_numbers_of_devices(count, device, there):
    with machine(count=count):
        found = refusal(device)
        assert found == f"no CUDA device {device[-1]}: {there}; {REMEDY}"
        last = mlp.Network(4, LAYERS, device=f"cuda:{count - 1}")
        assert last.device == ("cuda" if count == 1 else f"cuda:{count - 1}")
        assert last.forward(np.zeros((2, 4))).shape == (2, 3)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("device", ["cuda:", "cuda:-1", "cuda:x", "cuda 0", "gpu"])
def test_names_that_are_none(device):
    with pytest.raises(InvalidSetting, match="Valid: auto, cpu, numpy, cuda, cuda:N"):
        mlp.Network(4, LAYERS, device=device)


def test_no_cupy(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    found = refusal()
    assert found.startswith("CuPy is not installed; pip install")
    assert REMEDY in found


def test_a_cupy_that_cannot_be_loaded(cupy, monkeypatch):
    def load(name):
        if name == "cupy":
            raise ImportError("libcudart.so.13: cannot open\n  shared object file")
        return sys.modules[name]

    monkeypatch.setattr(importlib, "import_module", load)
    found = refusal()
    assert "CuPy cannot be loaded (libcudart.so.13: cannot open shared object file)" in found
    assert REMEDY in found


def test_several_cupys(cupy, monkeypatch):
    names = ["numpy", "cupy-cuda12x", "CuPy-CUDA13x", None, "cupyx-helper"]
    found = [SimpleNamespace(metadata={"Name": name}) for name in names]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    message = refusal()
    assert "installed over each other (cupy-cuda12x, cupy-cuda13x)" in message
    assert "pip uninstall cupy-cuda12x cupy-cuda13x, then pip install" in message


@pytest.mark.parametrize("kind", [ImportError, OSError, RuntimeError])
def test_no_compiler(cupy, monkeypatch, kind):
    def fails():
        raise kind("libnvrtc.so.13: cannot open\nshared object file")

    monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", fails)
    found = refusal()
    assert "NVRTC, which compiles the kernels, cannot be loaded (libnvrtc.so.13: cannot" in found
    assert REMEDY in found


def test_tf32_without_tensor_cores():
    with machine(capability=(7, 5)):
        found = refusal(precision="tf32")
        assert (
            "precision 'tf32' needs compute capability 8.0 or newer, and device 0 has 7.5" in found
        )
        assert "use precision 'float32'" in found
        assert available_precisions("cuda") == [p for p in PRECISIONS if p != "tf32"]
    with machine(capability=(8, 0)):
        assert available_precisions("cuda") == PRECISIONS


# --- what is chosen -------------------------------------------------------------------------------


@pytest.mark.usefixtures("cupy")
def test_auto_takes_a_gpu():
    net = mlp.Network(4, LAYERS)
    assert (net.device, net.backend.name) == ("cuda", "cuda")
    assert _describe_device("auto", net) == (
        "device cuda, float32 (auto: Stand-in, compute capability 9.0)"
    )
    assert (
        _describe_device("cuda", net) == "device cuda, float32 (Stand-in, compute capability 9.0)"
    )


def test_auto_takes_the_processor_and_says_why():
    with machine(count=0):
        net = mlp.Network(4, LAYERS)
        assert net.device == "cpu"
        line = _describe_device("auto", net)
        assert line == "device cpu, float32 (auto: no CUDA device can be used)"
        assert _describe_device("cpu", net) == "device cpu, float32"


@pytest.mark.parametrize("arguments", [{"device": "cuda"}, {"device": "cuda", "precision": "tf32"}])
def test_an_asked_for_device_never_falls_back(arguments, tmp_path):
    path = tmp_path / "model.safetensors"
    mlp.Network(4, LAYERS, device="numpy").save(path)
    with machine(driver=0):
        with pytest.raises(BackendUnavailable):
            mlp.Network(4, LAYERS, **arguments)
        with pytest.raises(BackendUnavailable):
            mlp.load(path, **arguments)


@pytest.mark.usefixtures("cupy")
def test_a_model_goes_from_device_to_device(tmp_path):
    X = np.random.default_rng(0).standard_normal((5, 4))
    net = mlp.Network(4, LAYERS, device="cuda", precision="float64", seed=4)
    net.save(tmp_path / "model.safetensors")
    there = mlp.load(tmp_path / "model.safetensors", device="numpy")
    np.testing.assert_allclose(there.forward(X), net.forward(X), rtol=1e-12)
    back = mlp.load(tmp_path / "model.safetensors", device="cuda", precision="float16")
    assert back.precision == "float16"


# --- the command ----------------------------------------------------------------------------------


def test_the_command_lists_the_device(run):
    with machine(name="A card", capability=(7, 5)):
        lines = run("devices").out.splitlines()
        found = run("devices", "--json").json()
    assert "usable, float64, float32, bfloat16, float16" in lines[2]
    assert lines[3] == "cuda   = A card, compute capability 7.5"
    assert lines[4] == "auto   = cuda"
    assert found["gpu"] == "A card, compute capability 7.5"
    with machine(driver=0):
        text, found = run("devices").out, run("devices", "--json").json()
    assert "no NVIDIA driver is installed; install one, or use device='cpu'" in text
    assert "cuda   =" not in text
    assert found["gpu"] is None


@pytest.mark.usefixtures("cupy")
def test_the_command_trains_and_predicts_there(run):
    quick = ("--epochs", 2, "--hidden", 8, "--out", "out")
    result = run("train", "iris", *quick)
    assert result.code == 0
    assert "device cuda, float32 (auto: Stand-in, compute capability 9.0)" in result.err
    np.savez("rows.npz", X=np.zeros((3, 4)))
    predicted = run("predict", "out/model.safetensors", "rows.npz", "--device", "cuda")
    assert (
        predicted.out == run("predict", "out/model.safetensors", "rows.npz", "--device", "cpu").out
    )
    refused = run("train", "iris", *quick, "--overwrite", "--device", "cuda:7")
    assert refused.code == 1
    assert "no CUDA device 7" in refused.err


def test_auto_with_threads_is_the_processor(cupy):
    assert mlp.Network(4, [mlp.Dense(2)], threads=2).device == "cpu"


def test_the_command_says_what_was_fed_and_skipped():
    def remarks(*, streams, skipped_steps):
        trainer = SimpleNamespace(streams=streams, skipped_steps=skipped_steps)
        return _remarks(SimpleNamespace(trainer=trainer, y=[0, 1]))

    assert remarks(streams=True, skipped_steps=3) == [
        "the rows did not fit on the device and were fed to it in chunks",
        "3 steps were skipped: their gradients overflowed",
    ]
    assert remarks(streams=False, skipped_steps=0) == []
