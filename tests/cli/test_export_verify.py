"""`mlp export` and `mlp verify`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_iris

import mlp
from tests.cli.conftest import CommandLine

FAILURE, USAGE = 1, 2


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlp.interop.verify.is_installed", lambda library: library != "torch")


def test_export_and_verify(run: CommandLine, iris_model: Path) -> None:
    exported = run("export", iris_model, "--onnx", "iris.onnx", "--torch", "iris.safetensors")
    assert exported.code == 0
    assert exported.out == (
        "nn.Sequential(nn.BatchNorm1d(4, eps=0.0, affine=False), nn.Linear(4, 256), nn.ReLU(), "
        "nn.Dropout(0.1), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 3), "
        "nn.Softmax(dim=1))\n"
    )
    assert f"mlp verify {iris_model} --onnx iris.onnx" in exported.err
    session = onnxruntime.InferenceSession("iris.onnx", providers=["CPUExecutionProvider"])
    X = load_iris().data
    labels, _ = session.run(None, {"X": X.astype(np.float32)})
    assert labels.tolist() == mlp.load(iris_model, "numpy").predict(X).tolist()

    verified = run(
        "verify", iris_model, "--onnx", "iris.onnx", "--torch", "iris.safetensors",
        "--device", "numpy", "--rows", 50,
    )  # fmt: skip
    assert (verified.code, verified.err) == (0, "")
    lines = verified.out.splitlines()
    assert lines[0] == (
        f"{iris_model}: 4 -> 256 relu -> 128 relu -> 3 softmax; 34,563 parameters, all finite"
    )
    assert [line.split(" (")[0] for line in lines if "against" in line] == [
        "device numpy", "onnx", "torch",
    ]  # fmt: skip
    assert sum(line.endswith("  ok") for line in lines) == 25
    assert lines[-1] == "largest differences, as a share of the largest output: all agree"


def test_verify_finds_another_model(run: CommandLine, iris_model: Path) -> None:
    net = mlp.load(iris_model, "numpy")
    net.set_parameters([W * 1.01 for W in net.weights], net.biases)
    mlp.export_onnx(net, "other.onnx")
    arguments = ("verify", iris_model, "--onnx", "other.onnx", "--device", "numpy")
    found = run(*arguments)
    assert (found.code, found.err) == (FAILURE, "")
    assert "WRONG at row" in found.out
    assert "NOT all agree" in found.out.splitlines()[-1]
    assert run(*arguments, "--tolerance", "0.5").code == 0
    data = run(*arguments, "--json").json()
    assert data["agrees"] is False
    wrong = [finding for finding in data["findings"] if not finding["agrees"]]
    assert {finding["form"] for finding in wrong} == {"onnx"}
    assert set(wrong[0]) >= {"output", "kind", "rows", "difference", "bound", "row", "expected"}


def test_verify_of_the_model_alone_and_its_rows(run: CommandLine, iris_model: Path) -> None:
    texts = [
        run("verify", iris_model, "--device", "numpy", "--rows", 7, "--seed", seed).out
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert "7 rows" in texts[0]
    assert "device numpy (float32 on numpy) against the model in float64, bound 1e-05:" in texts[0]


def test_a_model_that_takes_a_table(run: CommandLine) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"town": ["Oslo", None, "Rome", "Oslo"], "age": [1.0, 2.0, None, 4.0]})
    columns = mlp.TablePreprocessor.fit(table)
    net = mlp.Network(columns.inputs, [mlp.Dense(2, "softmax")], device="numpy")
    net.preprocessing, net.classes = columns, ("no", "yes")
    net.save("towns.safetensors")
    exported = run("export", "towns.safetensors", "--onnx", "a.onnx", "--torch", "t.safetensors")
    assert exported.code == 0
    assert "the module takes the 5 features that the model makes of a" in exported.err
    verified = run("verify", "towns.safetensors", "--onnx", "a.onnx", "--torch", "t.safetensors",
                   "--device", "numpy")  # fmt: skip
    assert verified.code == 0
    assert verified.out.count("  unseen ") == verified.out.count("  missing ") == 5


def test_export_precision_and_json(run: CommandLine, iris_model: Path) -> None:
    result = run("export", iris_model, "--onnx", "a.onnx", "--precision", "float64", "--json")
    assert result.json() == {
        "onnx": "a.onnx", "torch": None, "model": str(iris_model), "sequential": None,
    }  # fmt: skip
    session = onnxruntime.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(double)"


def test_nothing_is_overwritten_unasked(run: CommandLine, iris_model: Path) -> None:
    Path("a.onnx").write_text("mine")
    refused = run("export", iris_model, "--onnx", "a.onnx")
    assert (refused.code, refused.out) == (FAILURE, "")
    assert "a.onnx already exists; pass --overwrite" in refused.err
    assert Path("a.onnx").read_text() == "mine"
    assert run("export", iris_model, "--onnx", "a.onnx", "--overwrite").code == 0
    assert Path("a.onnx").read_bytes() != b"mine"


def test_the_model_itself_is_never_overwritten(run: CommandLine, iris_model: Path) -> None:
    before = iris_model.read_bytes()
    for option in ("--onnx", "--torch"):
        result = run("export", iris_model, option, iris_model, "--overwrite")
        assert (result.code, result.out) == (FAILURE, "")
        assert "is what is read; name another file to write" in result.err
    assert iris_model.read_bytes() == before


MISTAKES = [
    ("export iris/model.safetensors", USAGE, "name what to write: --onnx FILE"),
    ("export none.safetensors --onnx a.onnx", FAILURE, "none.safetensors: there is no such file"),
    ("export iris/model.safetensors --torch a.pt", USAGE, "name it .safetensors"),
    ("export iris/model.safetensors --onnx iris", FAILURE, "iris: a folder; name a file"),
    ("export iris/model.safetensors --onnx no/a.onnx", FAILURE, "no/a.onnx: cannot be written"),
    (
        "export iris/model.safetensors --onnx a --precision float16",
        USAGE,
        "float32 or float64 here",
    ),
    ("verify none.safetensors", FAILURE, "none.safetensors: there is no such file"),
    ("verify text", FAILURE, "text: not a readable model file"),
    ("verify iris/model.safetensors --onnx text", FAILURE, "text: not a readable ONNX file"),
    ("verify iris/model.safetensors --onnx none", FAILURE, "none: there is no such file"),
    ("verify iris/model.safetensors --torch text", FAILURE, "text: a .safetensors, .pt or .pth"),
    (
        "verify iris/model.safetensors --torch iris/model.safetensors",
        FAILURE,
        "read it by mlp.load",
    ),
    ("verify iris/model.safetensors --rows 0", USAGE, "--rows must be a positive whole number"),
    ("verify iris/model.safetensors --tolerance -1", USAGE, "--tolerance must be in [0"),
    ("verify iris/model.safetensors --seed -1", USAGE, "seed must be"),
    ("verify iris/model.safetensors --device gpu", USAGE, "unknown device 'gpu'"),
]


@pytest.mark.usefixtures("iris_model")
def test_each_mistake_is_one_clear_sentence(run: CommandLine) -> None:
    Path("text").write_text("not a model")
    before = {*Path().rglob("*")}
    for line, code, sentence in MISTAKES:
        result = run(*line.split())
        assert (result.code, result.out) == (code, ""), line
        assert sentence in result.err, line
        assert len(result.err.strip().splitlines()) == 1, line
    assert {*Path().rglob("*")} == before


def test_json_is_plain(run: CommandLine, iris_model: Path) -> None:
    result = run("verify", iris_model, "--device", "numpy", "--rows", 3, "--json")
    assert json.loads(result.out)["findings"][0]["form"] == "device numpy"
