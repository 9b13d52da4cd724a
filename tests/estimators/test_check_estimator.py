"""scikit-learn's own checks of estimators, and its own tests of the classes that ours replace."""

import pytest
import sklearn.neural_network
from sklearn.neural_network.tests import test_mlp
from sklearn.utils import get_tags

import mlp
from tests.estimators import check_estimators

CLASSES = ["MLPClassifier", "MLPRegressor"]
# Of scikit-learn's tests of its classes, those that call private methods of theirs.
PRIVATE = {"test_gradient"}


@pytest.mark.parametrize("cls", CLASSES)
def test_check_estimator(cls):
    found = check_estimators.results(getattr(mlp, cls)(device="cpu"))
    assert len(found) >= 55
    wrong = {r["check_name"]: r["exception"] for r in found if r["status"] != "passed"}
    # What needs an environment variable, or a method that neither has.
    for name in (
        "check_array_api_input",
        "check_classifiers_multilabel_output_format_decision_function",
    ):
        wrong.pop(name, None)
    assert wrong == {}


def test_the_script_prints_how_many_ran(capsys, monkeypatch):
    monkeypatch.setattr(
        check_estimators,
        "results",
        lambda _: [
            {"status": "passed", "check_name": "a", "exception": None},
            {"status": "failed", "check_name": "b", "exception": "why"},
        ],
    )
    assert check_estimators.main() == 1
    out = capsys.readouterr().out
    assert "MLPClassifier: 2 checks, {'passed': 1, 'failed': 1}\n  failed: b: why\n" in out


@pytest.mark.parametrize("cls", CLASSES)
def test_tags(cls):
    assert get_tags(getattr(mlp, cls)()) == get_tags(getattr(sklearn.neural_network, cls)())


@pytest.fixture(autouse=True)
def in_their_place(monkeypatch):
    for cls in CLASSES:
        monkeypatch.setattr(test_mlp, cls, getattr(mlp, cls))


def _adopt():
    """Their tests under names of this file."""
    for name, value in vars(test_mlp).items():
        if name.startswith("test_") and name not in PRIVATE:
            globals()[f"test_theirs_{name.removeprefix('test_')}"] = value


_adopt()
