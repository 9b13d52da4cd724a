"""docs/from-scikit-learn.md names every parameter, attribute and method; its examples run."""

import inspect
import re
import warnings
from pathlib import Path

import pytest
from sklearn.exceptions import ConvergenceWarning

import mlp
from tests.estimators import compare_scores
from tests.estimators.problems import ours, problem, quietly

PAGE = Path(mlp.__file__).resolve().parents[1] / "docs" / "from-scikit-learn.md"
TEXT = PAGE.read_text(encoding="utf-8")
CLASSES = [mlp.MLPClassifier, mlp.MLPRegressor]


def named(heading):
    """First cells of the table under a heading."""
    body = TEXT.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)


def documented(cls, section):
    """Names that a section of the class's docstring explains."""
    body = inspect.getdoc(cls).split(f"\n{section}:\n", 1)[1].split("\n\n", 1)[0]
    heads = re.findall(r"^    (\w[\w, ]*):", body, re.MULTILINE)
    return [name for head in heads for name in head.split(", ")]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_parameter(cls):
    parameters = [*inspect.signature(cls).parameters]
    assert set(parameters) <= set(named("Parameters"))
    assert sorted(documented(cls, "Args")) == sorted(parameters)


def test_no_name_that_is_not_there():
    parameters = {name for cls in CLASSES for name in inspect.signature(cls).parameters}
    assert set(named("Parameters")) == parameters
    methods = {name for cls in CLASSES for name in dir(cls) if not name.startswith("_")}
    assert set(named("Methods")) == methods
    for heading in ("Parameters", "Attributes", "Methods"):
        assert len(named(heading)) == len(set(named(heading)))


def test_every_attribute():
    pandas = pytest.importorskip("pandas")
    everything = set()
    for kind in ("classes", "value"):
        cls, X, y = problem(kind)
        model = ours(cls, max_iter=1, early_stopping=True)
        quietly(model.fit, pandas.DataFrame(X, columns=list("abcdefgh")), y)
        fitted = {name for name in vars(model) if name.endswith("_") and name[0] != "_"}
        assert set(documented(type(model), "Attributes")) == fitted
        everything |= fitted
    assert set(named("Attributes")) == everything


@pytest.mark.parametrize(
    "code", re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
)
def test_examples(code, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        exec(compile(code, str(PAGE), "exec"), {})
    out = capsys.readouterr().out
    assert out == "" or "True" in out or "[1, 2, 3]" in out


def test_scores_with_defaults_are_theirs(monkeypatch, capsys):
    monkeypatch.setattr(
        compare_scores, "BUNDLED", {name: compare_scores.BUNDLED[name] for name in ("iris", "wine")}
    )
    compare_scores.main(["--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines[2:]:
        _, _, theirs_, _, ours_, *_ = line.split("|")
        assert theirs_ == ours_
