"""Each mistake a user can make at the command line: one clear sentence, and the right exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mlp
from tests.cli.conftest import CommandLine

FAILURE, USAGE = 1, 2

# arguments after `mlp`, exit code, and what the sentence has to say
MISTAKES = [
    ("train digitz", USAGE, "did you mean 'digits'?"),
    ("train missing.npz", FAILURE, "missing.npz: there is no such file"),
    ("train table.csv", USAGE, "name the column to learn with --target; there are 'a', 'b'"),
    ("train ragged.npz", FAILURE, "ragged.npz"),
    ("train empty.npz", FAILURE, "empty"),
    ("train nan.npz", FAILURE, "X holds nan at row 3, column 1"),
    ("train nan_target.npz", FAILURE, "y is not finite at row 2"),
    ("train no_target.npz", FAILURE, "no array y"),
    ("train lengths.npz", FAILURE, "y has shape (4,), but X has 6 rows"),
    ("train one_class.npz", FAILURE, "only one class"),
    ("train rare_class.npz", FAILURE, "only one row has the class 2"),
    ("train not_a_zip.npz", FAILURE, "not a .npz file"),
    ("train cube.npz", FAILURE, "y must have 1 or 2 dimensions"),
    ("train good.npz --validation 0.01", FAILURE, "too few on one side"),
    ("train good.npz --loss binary_cross_entropy", FAILURE, "takes 2 classes, but y has 3"),
    ("train fractions.npz --loss cross_entropy", FAILURE, "fractions"),
    ("train text.npz --loss mse", FAILURE, "text"),
    ("train negative.npz --loss poisson", FAILURE, "numbers >= 0"),
    ("train iris --activation rleu", USAGE, "did you mean 'relu'?"),
    ("train iris --loss cross_entrpy", USAGE, "did you mean 'cross_entropy'?"),
    ("train iris --optimizer adm", USAGE, "did you mean 'adam'?"),
    ("train iris --schedule cosin", USAGE, "did you mean 'cosine'?"),
    ("train iris --precision float23", USAGE, "did you mean 'float32'?"),
    ("train iris --device gpu", USAGE, "unknown device 'gpu'"),
    ("train iris --device cuda", FAILURE, "use device='cpu'"),
    ("train iris --precision float16", FAILURE, "not available on device"),
    ("train iris --hidden 8,0", USAGE, "--hidden must be a positive whole number, not 0"),
    ("train iris --hidden 8,x", USAGE, "--hidden takes widths"),
    ("train iris --epochs 0", USAGE, "epochs must be a positive whole number"),
    ("train iris --batch-size -1", USAGE, "--batch-size must be a positive whole number"),
    ("train iris --dropout 1", USAGE, "--dropout must be in [0, 1)"),
    ("train iris --learning-rate -1", USAGE, "--learning-rate must be in [0"),
    ("train iris --weight-decay -1", USAGE, "--weight-decay must be in [0"),
    ("train iris --validation 1", USAGE, "--validation must be in [0, 1)"),
    ("train iris --patience -1", USAGE, "--patience"),
    ("train iris --seed -1", USAGE, "seed must be"),
    ("train iris --epochs many", USAGE, "--epochs"),
    ("train iris --epoks 3", USAGE, "--epochs"),
    ("train iris --out file/sub", FAILURE, "cannot be written"),
    ("train iris --learning-rate 1e30 --device numpy", FAILURE, "diverged"),
    ("predict missing.safetensors", FAILURE, "there is no such file"),
    ("predict damaged.safetensors", FAILURE, "not a readable model file"),
    ("predict foreign.safetensors", FAILURE, "not one that mlp wrote"),
    ("predict iris/model.safetensors good.npz", FAILURE, "2 features per row, but"),
    ("predict iris/model.safetensors --out file/x.csv", FAILURE, "cannot be written"),
    ("explain", USAGE, "MODEL file or an --example"),
    ("explain --example relu --row 3", USAGE, "--row, --learning-rate and --precision go"),
    ("train iris --hidden 99999999999999999999", USAGE, "is too large"),
    ("predict iris/model.safetensors --out iris", FAILURE, "a folder; name a file"),
    ("explain --example rellu", USAGE, "did you mean 'relu'?"),
    ("explain iris/model.safetensors --row 150", FAILURE, "rows 0 to 149"),
    ("gradcheck iris/model.safetensors --rows 0", USAGE, "--rows must be"),
    ("gradcheck untrained.safetensors iris", FAILURE, "saved untrained"),
    ("explain untrained.safetensors iris", FAILURE, "saved untrained"),
    ("gradcheck damaged.safetensors", FAILURE, "not a readable model file"),
    ("trane", USAGE, "No such command"),
]


@pytest.fixture
def files(iris_model: Path) -> None:
    """The files that the mistakes name, in the present folder."""
    from safetensors.numpy import save_file

    X, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
    nan, rare = X.copy(), np.array([0, 0, 0, 1, 1, 2])
    nan[3, 1] = np.nan
    np.savez("good.npz", X=np.tile(X, (9, 1)), y=np.tile(y, 9))
    np.savez("cube.npz", X=X, y=np.zeros((6, 2, 2)))
    np.savez("ragged.npz", X=np.array([[1, 2], [3]], dtype=object), y=y)
    np.savez("empty.npz", X=np.empty((0, 2)), y=np.empty(0))
    np.savez("nan.npz", X=nan, y=y)
    np.savez("nan_target.npz", X=X, y=np.where(np.arange(6) == 2, np.nan, 0.5))
    np.savez("no_target.npz", X=X)
    np.savez("lengths.npz", X=X, y=y[:4])
    np.savez("one_class.npz", X=X, y=np.zeros(6, int))
    np.savez("rare_class.npz", X=X, y=rare)
    np.savez("fractions.npz", X=X, y=y + 0.5)
    np.savez("text.npz", X=X, y=np.array(list("abcabc")))
    np.savez("negative.npz", X=X, y=y - 1.0)
    Path("not_a_zip.npz").write_bytes(b"plain text")
    Path("table.csv").write_text("a,b\n1,2\n")
    Path("file").write_text("in the way of a folder")
    save_file({"a": X}, "foreign.safetensors")
    mlp.Network(4, [mlp.Dense(3, "softmax")], device="numpy").save("untrained.safetensors")
    whole = iris_model.read_bytes()
    Path("damaged.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.usefixtures("files")
def test_each_mistake_is_one_clear_sentence(run: CommandLine) -> None:
    before = {*Path().rglob("*")}
    for line, code, sentence in MISTAKES:
        result = run(*line.split())
        message = result.err.splitlines()[-1] if result.err else ""
        assert sentence in message, (line, result.err)
        assert result.code == code, (line, result.err)
        assert result.out == "", line
        assert "Traceback" not in result.err, line
    # A run that failed leaves no half of a result behind.
    assert {*Path().rglob("*")} == before


@pytest.mark.usefixtures("files")
def test_json_mode_keeps_stdout_clean_on_failure(run: CommandLine) -> None:
    result = run("train", "nan.npz", "--json")
    assert (result.code, result.out) == (FAILURE, "")
    assert len(result.err.splitlines()) == 1
