"""State dicts against PyTorch itself: its nn.Sequential computes what the network does."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import mlp
from mlp.errors import InvalidInput, ModelFileError
from mlp.interop.engines import torch_sequential
from mlp.interop.verify import torch_form
from tests import problems
from tests.interop.made import HIDDEN, OUTPUTS, answering, deep, network, raw_rows
from tests.interop.test_interop_page import blocks

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install fused-mlp[bench]"
)
nn = torch.nn
BOUND = {"float32": 3e-6, "float64": 1e-13}


def load(line: str, path: Path):
    """The module that `to_torch` printed, with the file's tensors, as its reader would do it."""
    from safetensors.torch import load_file

    module = eval(line, {"nn": nn, "torch": torch})
    assert str(module.load_state_dict(load_file(path))) == "<All keys matched successfully>"
    return module.eval()


def outputs(module, X: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(X.astype(dtype))).numpy()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation_at_several_depths(
    activation: str, precision: str, tmp_path: Path
) -> None:
    X = 3 * problems.rows(40, 4).astype(precision)
    for depth in (1, 2, 4):
        net = deep(activation, depth, precision)
        module = load(mlp.to_torch(net, tmp_path / "a.safetensors"), tmp_path / "a.safetensors")
        found = outputs(module, X, net.dtype)
        assert found.dtype == net.dtype
        assert problems.difference(found, net.forward(X)) < BOUND[precision]
        # The same module as `mlp verify` builds.
        assert repr(torch_sequential(net)) == repr(module)
        assert np.array_equal(outputs(torch_sequential(net), X, net.dtype), found)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_kind_of_output(kind: str, precision: str, tmp_path: Path) -> None:
    net, X = answering(kind, precision), raw_rows(40)
    module = load(mlp.to_torch(net, tmp_path / "a.safetensors"), tmp_path / "a.safetensors")
    truth = net.forward(X)
    if net.target_scaler is not None and kind != "counts beside a scaler":  # predict ignores it
        truth = net.target_scaler.inverse(truth)
    assert problems.difference(outputs(module, X, net.dtype), truth) < BOUND[precision]


def test_the_module_trains_with_its_standardisation_left_alone() -> None:
    module = torch_sequential(answering("classes")).train()
    module[0].eval()
    before = module[0].running_mean.clone()
    loss = module(torch.tensor(raw_rows(8))).square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert torch.equal(module[0].running_mean, before)


def test_our_model_files_in_the_official_torch_loader(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net, X = deep("tanh", 1, "float32"), problems.rows(5, 4).astype(np.float32)
    net.save(tmp_path / "model.safetensors")
    at = load_file(tmp_path / "model.safetensors")
    a = torch.tanh(torch.tensor(X) @ at["layers.0.weight"] + at["layers.0.bias"])
    a = a @ at["layers.1.weight"] + at["layers.1.bias"]
    assert problems.difference(a.numpy(), net.forward(X)) < BOUND["float32"]


# --- from PyTorch ---------------------------------------------------------------------------------


def theirs(seed: int = 0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 7), nn.GELU(), nn.Dropout(0.2), nn.Linear(7, 5, bias=False), nn.SiLU(),
        nn.Linear(5, 3), nn.Softmax(dim=1),
    ).eval()  # fmt: skip


ACTIVATIONS = ["gelu", "silu", "softmax"]


def test_a_model_of_theirs_in_every_form(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module, X = theirs(), problems.rows(20, 4)
    state = module.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    truth = outputs(module.double(), X, np.dtype(np.float64))
    sources = [tmp_path / "a.safetensors", tmp_path / "a.pt", str(tmp_path / "old.pth"), state,
               dict(theirs().named_parameters())]  # fmt: skip
    for source in sources:
        net = mlp.from_torch(source, ACTIVATIONS, device="numpy")
        assert problems.difference(net.forward(X), truth) < BOUND["float32"]
    net = mlp.from_torch(module.state_dict(), ACTIVATIONS, device="numpy")
    assert net.precision == "float64"


def test_a_module_of_named_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 2)

    module, X = Net(), problems.rows(9, 4)
    with torch.no_grad():
        truth = module.fc2(torch.tanh(module.fc1(torch.tensor(X, dtype=torch.float32)))).numpy()
    net = mlp.from_torch(module.state_dict(), ["tanh", "identity"], device="numpy")
    assert problems.difference(net.forward(X), truth) < BOUND["float32"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_tensors_become_float32(dtype: str) -> None:
    module = theirs().to(getattr(torch, dtype))
    net = mlp.from_torch(module.state_dict(), ACTIVATIONS, device="numpy")
    assert net.precision == "float32"
    assert np.array_equal(net.weights[0].T, module[0].weight.detach().float().numpy())


def test_their_further_training_of_our_standardised_model(tmp_path: Path) -> None:
    net, X = answering("classes"), raw_rows(20)
    module = torch_sequential(net)
    torch.save(module.state_dict(), tmp_path / "tuned.pt")
    with pytest.raises(InvalidInput, match="pass standardized=True"):
        mlp.from_torch(tmp_path / "tuned.pt", ["tanh", "softmax"])
    back = mlp.from_torch(
        tmp_path / "tuned.pt", ["tanh", "softmax"], standardized=True, device="numpy"
    )
    assert problems.difference(back.forward(X), net.forward(X)) < BOUND["float64"]


class Harmful:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def test_pickles_that_are_no_state_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(theirs(), "whole.pt")
    torch.save([torch.ones(2)], "list.pt")
    torch.save({"state_dict": theirs().state_dict(), "epoch": 3}, "checkpoint.pt")
    torch.save({"0.weight": torch.ones(2, 2), "x": Harmful()}, "harmful.pt")
    Path("plain.pth").write_bytes(pickle.dumps(Harmful()))
    Path("half.pt").write_bytes(Path("whole.pt").read_bytes()[:300])
    Path("empty.pt").write_bytes(b"")
    for name, error, sentence in (
        ("whole.pt", ModelFileError, "damaged, or holds more than tensors; save a state_dict"),
        ("harmful.pt", ModelFileError, "damaged, or holds more than tensors"),
        ("plain.pth", ModelFileError, "damaged, or holds more than tensors"),
        ("half.pt", ModelFileError, "damaged, or holds more than tensors"),
        ("empty.pt", ModelFileError, "damaged, or holds more than tensors"),
        ("list.pt", ModelFileError, "holds a list, not a state_dict"),
        ("checkpoint.pt", InvalidInput, "'state_dict' is a mapping itself"),
    ):
        with pytest.raises(error, match=re.escape(sentence)) as caught:
            mlp.from_torch(name, ACTIVATIONS)
        assert str(caught.value).startswith(name)
        assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


def test_what_is_no_multi_layer_perceptron() -> None:
    for module, sentence in (
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.Linear(3, 2)), "as of a convolution"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "belongs to batch normalisation"),
        (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)), "a normalisation"),
        (nn.Sequential(nn.Linear(4, 3), nn.PReLU()), "or a PReLU"),
        (nn.LSTM(4, 3), "is not the weight or bias of a numbered layer"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(2, 3)), "takes 2 inputs, but '0.weight' before"),
        (nn.Linear(4, 3), "is not the weight or bias of a numbered layer"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            mlp.from_torch(module.state_dict(), ["relu", "identity"])


# --- mlp verify -----------------------------------------------------------------------------------


def test_verify_runs_pytorch(tmp_path: Path) -> None:
    net = answering("values", "float32")
    mlp.to_torch(net, tmp_path / "a.safetensors")
    form = torch_form(tmp_path / "a.safetensors", net)
    assert form.engine == f"PyTorch {torch.__version__}"
    torch.save(torch_sequential(net).state_dict(), tmp_path / "a.pt")
    assert torch_form(tmp_path / "a.pt", net).dtype == np.float32
    bare = network([(6, "tanh"), (4, "identity")])
    with pytest.raises(InvalidInput, match="a network of 4 -> 6 -> 3, but the model is one of 4"):
        torch_form(tmp_path / "a.safetensors", bare)


def test_the_page_on_exchange_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its block for PyTorch, on a network like the one it has exported there."""
    from sklearn.datasets import load_digits

    X = load_digits().data
    layers = [mlp.Dense(256, "relu", 0.1), mlp.Dense(128, "relu", 0.1), mlp.Dense(10, "softmax")]
    net = mlp.Network(64, layers, device="numpy")
    net.preprocessing = mlp.Standardizer.fit(X)
    monkeypatch.chdir(tmp_path)
    mlp.to_torch(net, "digits-torch.safetensors")
    (code,) = [block for block in blocks("python") if "import torch" in block]
    names: dict = {"load_digits": load_digits}
    exec(code, names)
    found = names["probabilities"].detach().numpy()
    assert problems.difference(found, net.forward(X)) < BOUND["float32"]
