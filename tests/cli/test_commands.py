"""`mlp predict`, `explain`, `gradcheck`, `devices`, and the command itself."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import mlp
from tests.cli.conftest import CommandLine

ROOT = Path(mlp.__file__).parents[1]


def test_predict_takes_raw_rows(run: CommandLine, iris_model: Path) -> None:
    X, y = load_iris(return_X_y=True)
    np.savez("rows.npz", X=X)
    result = run("predict", iris_model, "rows.npz", "--device", "numpy")
    rows = list(csv.reader(io.StringIO(result.out)))
    assert rows[0] == ["prediction"]
    # The same by hand: standardise with the stored mean and scale, then relu layers, then argmax.
    network = mlp.load(iris_model, device="numpy")
    assert network.preprocessing is not None
    x = ((X - network.preprocessing.mean) / network.preprocessing.scale).astype(np.float32)
    *hidden, last = zip(network.weights, network.biases, strict=True)
    for W, b in hidden:
        x = np.maximum(x @ W + b, 0)
    labels = load_iris().target_names[(x @ last[0] + last[1]).argmax(axis=1)]
    assert [row[0] for row in rows[1:]] == labels.tolist()
    assert len(rows) == len(y) + 1


def test_predict_knows_the_data_it_was_trained_on_and_scores_it(
    run: CommandLine, iris_model: Path
) -> None:
    result = run("predict", iris_model, "--json")
    assert result.err == ""
    answer = result.json()
    assert answer["rows"] == 150
    truth = load_iris().target_names[load_iris().target]
    right = np.mean(np.array(answer["predictions"]) == truth)
    assert answer["score"] == pytest.approx(right)


def test_a_model_of_another_precision(run: CommandLine, iris_model: Path) -> None:
    network = mlp.load(iris_model, device="numpy", precision="float16")
    network.save("half.safetensors")
    # The processor has no float16: it says so, and what to do.
    refused = run("predict", "half.safetensors", "--device", "cpu")
    assert refused.code == 1
    assert "precision 'float16' is not available on device 'cpu'" in refused.err
    result = run("predict", "half.safetensors", "--device", "cpu", "--precision", "float32")
    assert result.code == 0
    assert result.out == run("predict", iris_model, "--device", "cpu").out
    shown = run("explain", "half.safetensors", "--device", "cpu", "--precision", "float32")
    assert shown.code == 0
    assert run("gradcheck", "half.safetensors", "--device", "cpu").code == 0


def test_predict_writes_a_file_once(run: CommandLine, iris_model: Path) -> None:
    first = run("predict", iris_model, "--out", "labels.csv")
    assert (first.code, first.out) == (0, "")
    written = Path("labels.csv").read_text()
    assert written.startswith("prediction\n")
    second = run("predict", iris_model, "--out", "labels.csv")
    assert second.code == 1
    assert "--overwrite" in second.err
    assert run("predict", iris_model, "--out", "labels.csv", "--overwrite").code == 0
    assert Path("labels.csv").read_text() == written


def test_predict_without_a_usable_target_has_no_score(run: CommandLine, iris_model: Path) -> None:
    np.savez("rows.npz", X=load_iris().data, y=np.full(150, "unheard of"))
    result = run("predict", iris_model, "rows.npz")
    assert result.code == 0
    assert len(result.out.splitlines()) == 151
    assert "no score" in result.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_cannot_be_written_is_no_traceback(iris_model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        arguments = [sys.executable, "-m", "mlp", "predict", str(iris_model)]
        done = subprocess.run(
            arguments,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("mlp: the output: No space left")


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_explain_examples(run: CommandLine, device: str) -> None:
    relu = run("explain", "--example", "relu", "--device", device)
    assert relu.code == 0
    for number in ("2.8", "-0.7", "12"):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", relu.out)
    sigmoid = run("explain", "--example", "sigmoid", "--device", device)
    for number in ("0.55724785", "0.67932855", "0.10090062", "0.10090993"):
        assert number in sigmoid.out
    assert run("explain", "--example", "relu", "--json").json()


def test_explain_a_row_of_a_model(run: CommandLine, iris_model: Path) -> None:
    result = run("explain", iris_model, "--row", 7)
    assert result.code == 0
    p = mlp.load(iris_model).forward(load_iris().data[7])[0]
    assert f"{p.max():.4f}"[:5] in result.out


def test_gradcheck_every_formula_and_a_model(run: CommandLine, iris_model: Path) -> None:
    every = run("gradcheck", "--json").json()
    assert every["passed"]
    assert len(every["errors"]) == len(mlp.ACTIVATIONS) * len(mlp.LOSSES)
    model = run("gradcheck", iris_model)
    assert model.code == 0
    assert "layers.1.bias" in model.out


def test_gradcheck_fails_loudly(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlp.backends.numpy import NumpyBackend

    right = NumpyBackend.linear_grads

    def wrong(self: NumpyBackend, x: object, delta: object, dW: np.ndarray, db: object) -> None:
        right(self, x, delta, dW, db)
        dW *= 1.001

    monkeypatch.setattr(NumpyBackend, "linear_grads", wrong)
    result = run("gradcheck", "--device", "numpy")
    assert result.code == 1
    assert "WRONG" in result.out


def test_devices_say_why_not(run: CommandLine) -> None:
    found = run("devices", "--json").json()
    assert found["devices"]["numpy"] == found["devices"]["cpu"] == "usable"
    assert found["devices"] == mlp.available_backends()
    assert run("devices").out.startswith("numpy")


def test_version_and_help(run: CommandLine) -> None:
    assert run("--version").out == f"mlp {mlp.__version__}\n"
    text = run("--help").out
    for command in ("train", "predict", "explain", "gradcheck", "devices"):
        assert command in text


def environment() -> dict[str, str]:
    """This process's, with the package under test importable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def _process(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mlp", *arguments],
        text=True,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A suite that runs in the background may have inherited an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,  # type: ignore[call-overload]
    )


def test_a_real_interrupt_in_mid_training(tmp_path: Path) -> None:
    arguments = ["train", "iris", "--device", "numpy", "--epochs", "1000000", "--patience", "0"]
    with _process(*arguments, "--out", "cut", cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:  # the first epoch's line: training is under way
            if line.startswith("epoch 1/"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert mlp.load(tmp_path / "cut/model.safetensors").spec.outputs == 3


def test_a_closed_pipe_is_no_traceback(tmp_path: Path, iris_model: Path) -> None:
    with _process("predict", str(iris_model.resolve()), cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
