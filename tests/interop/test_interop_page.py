"""docs/interop.md: its Python runs, its links lead somewhere, and what it lists is there."""

import re
from pathlib import Path

import numpy as np
import pytest

import mlp
from mlp.interop.torch_modules import Modules

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mlp.Network:
    """An untrained network where `mlp train digits` leaves its own."""
    from sklearn.datasets import load_digits

    layers = [mlp.Dense(256, "relu", 0.1), mlp.Dense(128, "relu", 0.1), mlp.Dense(10, "softmax")]
    net = mlp.Network(64, layers, device="numpy")
    net.preprocessing = mlp.Standardizer.fit(load_digits().data)
    net.classes = tuple(range(10))
    monkeypatch.chdir(tmp_path)
    Path("runs/digits").mkdir(parents=True)
    net.save("runs/digits/model.safetensors")
    return net


def blocks(language: str) -> list[str]:
    return [code for name, code in FENCE.findall(PAGE.read_text("utf-8")) if name == language]


def has_pytorch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def test_python_blocks_run(digits: mlp.Network) -> None:
    from sklearn.datasets import load_digits

    names: dict[str, object] = {"__name__": "__docs__"}
    for code in blocks("python"):
        if "import torch" in code and not has_pytorch():
            continue
        exec(compile(code, "interop.md", "exec"), names)
    X = load_digits().data
    assert names["label"].tolist() == digits.predict(X).tolist()
    found = [names["probabilities"], names["mine"].forward(X), names["estimator"].predict_proba(X)]
    for p in found:
        values = p.detach().numpy() if hasattr(p, "detach") else p
        assert np.abs(values - digits.forward(X)).max() < 1e-5


def test_the_line_for_pytorch(digits: mlp.Network) -> None:
    line = str(Modules.of(digits.spec, standardized=True, double=False))
    assert f"{line}\n" in blocks("text")
    # The page's Python has it too, over several lines.
    squeezed = re.sub(r"\s+|,(?=\s*\))", "", PAGE.read_text("utf-8"))
    assert squeezed.count(re.sub(r"\s+", "", line)) == 2


def test_markdown_is_closed_and_links_lead_somewhere() -> None:
    text = PAGE.read_text("utf-8")
    assert text.count("```") % 2 == 0
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert target.startswith("#"), target
        assert target[1:] in headings
    for name in re.findall(r"`mlp\.(\w+)\(", text):
        assert hasattr(mlp, name)
