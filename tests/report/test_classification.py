"""Statistics of classes, by hand and beside scikit-learn; and how the page shows them."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

import mlp
from mlp.report.classification import (
    Calibration,
    classification,
    classification_sections,
    multilabel,
)
from tests.report.reading import read
from tests.report.runs import labels, rows, three_classes, train

# True classes of six rows, and the predicted ones.
TRUTH = np.array([0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 1, 1, 2, 2])


def told(names, truth, guess, weight=None):
    return classification(names, truth, guess, np.ones(len(truth)), weight)


def test_scores_by_hand():
    found = told(["a", "b", "c"], TRUTH, GUESS, None)
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(found.recall, [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found.f1, [4 / 5, 1 / 2, 2 / 3])
    np.testing.assert_array_equal(found.support, [3, 2, 1])
    np.testing.assert_array_equal(found.confusion, [[2, 1, 0], [0, 1, 1], [0, 0, 1]])


def test_rows_count_by_their_weights():
    weight = np.array([1.0, 1.0, 4.0, 1.0, 2.0, 1.0])
    found = told(["a", "b", "c"], TRUTH, GUESS, weight)
    np.testing.assert_allclose(found.precision, [1, 1 / 5, 1 / 3])
    np.testing.assert_allclose(found.recall, [2 / 6, 1 / 3, 1])
    np.testing.assert_array_equal(found.confusion, [[2, 4, 0], [0, 1, 2], [0, 0, 1]])
    assert found.pairs == ((0, 1, 4.0), (1, 2, 2.0))


def test_a_class_without_rows_has_no_scores():
    found = told(["a", "b"], np.array([0, 0]), np.array([0, 0]))
    np.testing.assert_array_equal(found.recall, [1, np.nan])
    np.testing.assert_array_equal(found.precision, [1, np.nan])
    tree = read(classification_sections(found))
    assert tree.table("Scores by class")[1] == ["b", "–", "–", "–", "0"]


def test_calibration_by_hand():
    # 15 bins: 0.65 and 0.66 lie in (9/15, 10/15], 0.95 in the last.
    confidence = np.array([0.65, 0.66, 0.95, 0.95])
    found = Calibration.of(confidence, np.array([True, False, True, True]), None)
    assert found.error == pytest.approx(0.5 * abs(0.5 - 0.655) + 0.5 * abs(1 - 0.95))
    assert found.accuracy[9] == 0.5
    assert found.accuracy[14] == 1
    assert np.isnan(found.accuracy[10])
    weighted = Calibration.of(
        confidence, np.array([True, False, True, True]), np.array([3, 1, 0, 0])
    )
    assert weighted.error == pytest.approx(abs(0.75 - (3 * 0.65 + 0.66) / 4))


def test_calibration_beside_scikit_learn():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.3, 1, 500)
    right = rng.random(500) < confidence**2
    found = Calibration.of(confidence, right, None)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    filled = found.share > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], mean)
    assert found.error == pytest.approx((found.share[filled] * abs(accuracy - mean)).sum())


def test_confidence_of_0_and_1_and_of_a_bin_edge_have_a_bin():
    found = Calibration.of(np.array([0.0, 0.2, 1.0]), np.array([False, True, True]), None)
    assert [found.share[i] for i in (0, 2, 14)] == [pytest.approx(1 / 3)] * 3


def test_yes_no_outputs_by_hand():
    truth = np.array([[1, 0], [1, 1], [0, 1]])
    p = np.array([[0.9, 0.6], [0.4, 0.5], [0.2, 0.8]])
    found = multilabel(["a", "b"], truth, p, None)
    np.testing.assert_allclose(found.precision, [1, 2 / 3])
    np.testing.assert_allclose(found.recall, [1 / 2, 1])
    np.testing.assert_array_equal(found.support, [2, 2])
    assert found.confusion is None
    right = [True, False, False, True, True, True]
    confidence = np.array([0.9, 0.6, 0.6, 0.5, 0.8, 0.8])
    assert found.calibration.error == Calibration.of(confidence, np.array(right), None).error


# --- on the page ----------------------------------------------------------------------------------


def test_the_page_shows_what_the_network_says(tmp_path):
    run = three_classes()
    Xv, yv = run.validation
    guess = run.trainer.network.predict(Xv)
    section = run.report(tmp_path / "r.html").titled("Classes of the 40 validation rows")
    matrix = section.one("table", "matrix").one("tbody")
    counts = [[int(td.text().replace("·", "0")) for td in tr.all("td")] for tr in matrix.all("tr")]
    expected = [[int(((yv == t) & (guess == g)).sum()) for g in range(3)] for t in range(3)]
    assert counts == expected
    scores = section.table("Scores by class")
    for k, (name, precision, recall, f1, support) in enumerate(scores):
        hits = expected[k][k]
        p, r = hits / sum(row[k] for row in expected), hits / sum(expected[k])
        assert name == str(k)
        assert [precision, recall, f1] == [f"{x:.3f}" for x in (p, r, 2 * p * r / (p + r))]
        assert support == str(sum(expected[k]))


def test_the_shade_of_a_cell_rises_with_its_share_of_the_true_class():
    truth = np.repeat(np.arange(5), 20)
    guess = truth.copy()
    for k, wrong in enumerate((0, 1, 5, 12, 20)):
        guess[20 * k : 20 * k + wrong] = (k + 1) % 5
    tree = read(classification_sections(told("abcde", truth, guess, None)))
    rows = [tr.all("td") for tr in tree.one("table", "matrix").one("tbody").all("tr")]
    right = [rows[k][k] for k in range(5)]
    shades = [float(td.attributes["style"].removeprefix("--shade:")) for td in right]
    assert shades[0] == 1
    assert shades[4] == 0
    assert shades == sorted(shades, reverse=True)
    kinds = [td.attributes["class"] for td in right]
    assert kinds == ["right strong", "right strong", "right", "right", "right"]
    assert rows[4][0].attributes["class"] == "wrong strong"
    assert rows[4][0].attributes["style"] == "--shade:1.000"
    assert rows[1][2].attributes["title"] == "b taken for c: 1 of 20"
    assert float(rows[1][2].attributes["style"].removeprefix("--shade:")) > 0.1


def test_two_classes_of_one_sigmoid_output(tmp_path):
    X = rows(60, 0)
    y = np.array(["no", "yes"])[labels(X, 2)]
    run = train(X, y, 1, "sigmoid", "binary_cross_entropy", classes=("no", "yes"))
    page = run.report(tmp_path / "r.html")
    guess = run.trainer.network.predict(X)
    matrix = page.titled("Classes of the 60 training rows").one("table", "matrix")
    assert [th.text() for th in matrix.all("th")] == ["no", "yes", "no", "yes"]
    found = [td.text() for td in matrix.one("tbody").all("td")]
    counts = [int(((y == t) & (guess == g)).sum()) for t in ("no", "yes") for g in ("no", "yes")]
    assert [int(text.replace("·", "0")) for text in found] == counts
    p = run.trainer.network.forward(X)[:, 0].astype(float)
    ece = Calibration.of(np.maximum(p, 1 - p), y == guess, None).error
    assert f"Expected calibration error {ece:.3f}" in page.text()


def test_several_yes_no_outputs(tmp_path):
    X = rows(60, 0)
    y = (X[:, :2] > 0).astype(float)
    run = train(X, y, 2, "sigmoid", "binary_cross_entropy", epochs=30)
    page = run.report(tmp_path / "r.html", outputs=["rain", "<b>wind</b>"])
    scores = page.table("Scores by output")
    guess = run.trainer.network.predict(X)
    hits = (guess[:, 0] * y[:, 0]).sum()
    assert scores[0][:3] == [
        "rain",
        f"{hits / guess[:, 0].sum():.3f}",
        f"{hits / y[:, 0].sum():.3f}",
    ]
    assert scores[1][0] == "<b>wind</b>"
    assert not page.all("table", "matrix")


def test_a_thousand_classes(tmp_path):
    X = rows(3000, 0)
    y = np.arange(3000) % 1000
    run = train(X, y, 1000, "softmax", "cross_entropy", epochs=1, norms=False)
    page = run.report(tmp_path / "r.html")
    assert not page.all("table", "matrix")
    guess = run.trainer.network.predict(X)
    pairs = page.table("The pairs confused most")
    assert len(pairs) == 20
    count = {
        (t, g): int(((y == t) & (guess == g)).sum())
        for t, g, *_ in [map(int, p[:2]) for p in pairs]
    }
    assert [int(p[2]) for p in pairs] == list(count.values())
    assert min(count.values()) >= 1
    wrong = y != guess
    most = np.unique(y[wrong] * 1000 + guess[wrong], return_counts=True)[1].max()
    assert int(pairs[0][2]) == most
    worst, every = (t for t in page.all("table") if "Scores by class" in t.text())
    assert len(worst.one("tbody").all("tr")) == 20
    assert len(every.one("tbody").all("tr")) == 1000
    assert (tmp_path / "r.html").stat().st_size < 1_000_000


def test_nothing_confused_among_many_classes(tmp_path):
    names = [f"c{k}" for k in range(30)]
    found = told(names, np.arange(30), np.arange(30))
    assert "every row was told right" in classification_sections(found)


def test_validation_weights_count(tmp_path):
    X, Xv = rows(60, 0), rows(30, 1)
    weight = np.arange(30.0)
    validation = (Xv, labels(Xv, 3), weight)
    run = train(X, labels(X, 3), 3, "softmax", "cross_entropy", validation)
    support = [row[4] for row in run.report(tmp_path / "r.html").table("Scores by class")]
    assert support == [f"{weight[validation[1] == k].sum():g}" for k in range(3)]


def test_one_hot_labels(tmp_path):
    X = rows(60, 0)
    run = train(X, np.eye(3)[labels(X, 3)], 3, "softmax", "cross_entropy")
    support = [row[4] for row in run.report(tmp_path / "r.html").table("Scores by class")]
    assert support == [str((labels(X, 3) == k).sum()) for k in range(3)]
    assert isinstance(run.trainer, mlp.Trainer)
