"""Statistics of values, by hand; and how the page shows them."""

import numpy as np
import pytest

from mlp.report.regression import regression, regression_sections
from tests.report.reading import read, ticks
from tests.report.runs import rows, train, two_outputs, values


def test_scores_by_hand():
    y, a = np.array([[1.0], [2.0], [6.0]]), np.array([[2.0], [2.0], [4.0]])
    found = regression(["t"], y, a, None)
    assert found.mae[0] == pytest.approx(1)
    assert found.rmse[0] == pytest.approx(np.sqrt(5 / 3))
    assert found.r2[0] == pytest.approx(1 - 5 / 14)
    weighted = regression(["t"], y, a, np.array([2.0, 1.0, 1.0]))
    assert weighted.mae[0] == pytest.approx(4 / 4)
    assert weighted.rmse[0] == pytest.approx(np.sqrt(6 / 4))
    assert weighted.r2[0] == pytest.approx(1 - 6 / 17)


def test_one_row_has_no_r2():
    found = regression(["t"], np.array([[1.0]]), np.array([[3.0]]), None)
    assert np.isnan(found.r2[0])
    tree = read(regression_sections(found))
    assert tree.table("Scores by output") == [["t", "–", "2", "2"]]


def test_the_page_is_in_the_units_of_the_target(tmp_path):
    run = two_outputs()
    Xv, yv = run.validation
    residual = run.trainer.network.predict(Xv) - yv
    section = run.report(tmp_path / "r.html", outputs=["height", "w<i>dth"]).titled(
        "Values of the 40 validation rows"
    )
    for k, (name, r2, mae, rmse) in enumerate(section.table("Scores by output")):
        assert name == ["height", "w<i>dth"][k]
        assert float(mae) == pytest.approx(np.abs(residual[:, k]).mean(), rel=1e-3)
        assert float(rmse) == pytest.approx(np.sqrt((residual[:, k] ** 2).mean()), rel=1e-3)
        spread = ((yv[:, k] - yv[:, k].mean()) ** 2).sum()
        expected = 1 - (residual[:, k] ** 2).sum() / spread
        assert float(r2.replace("−", "-")) == pytest.approx(expected, rel=1e-3)
    titles = [f.text() for f in section.all("figcaption")]
    assert titles == [
        "Predicted of height, by true value", "Residuals of height: predicted − true",
        "Predicted of w<i>dth, by true value", "Residuals of w<i>dth: predicted − true",
    ]  # fmt: skip


def value_at(label_positions, position):
    """The value at a position, between two of an axis's ticks."""
    numbers = sorted((float(k.replace("−", "-")), at) for k, at in label_positions.items())
    (a, start), (b, end) = numbers[0], numbers[-1]
    return a + (position - start) / (end - start) * (b - a)


def test_a_point_lies_at_its_true_and_its_predicted_value(tmp_path):
    y, a = np.array([[1.0], [2.0], [10.0]]), np.array([[3.0], [9.0], [4.0]])
    tree = read(regression_sections(regression(["t"], y, a, None)))
    chart = tree.titled("Predicted, by true value").one("svg")
    across, up = ticks(chart)
    found = [
        (
            value_at(across, float(c.attributes["cx"])),
            value_at(up, float(c.attributes["cy"])),
        )
        for c in chart.all("circle")
    ]
    np.testing.assert_allclose(found, [(1, 3), (2, 9), (10, 4)], atol=0.05)


def test_bars_count_the_residuals(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((500, 1))
    a = y + rng.standard_normal((500, 1)) + 1
    tree = read(regression_sections(regression(["t"], y, a, None)))
    bars = tree.titled("Residuals: predicted − true").one("svg").all("rect")
    hints = [bar.one("title").text().split() for bar in bars]
    assert sum(int(words[0]) for words in hints) == 500
    for words, bar in zip(hints, bars, strict=True):
        low, high = (float(words[i].replace("−", "-")) for i in (3, 5))
        inside = ((a - y >= low - 1e-3) & (a - y <= high + 1e-3)).sum()
        assert abs(inside - int(words[0])) <= 2
        assert float(bar.attributes["height"]) > 0
    heights = [
        float(bar.attributes["height"]) / int(w[0]) for w, bar in zip(hints, bars, strict=True)
    ]
    np.testing.assert_allclose(heights, heights[0], rtol=0.3)


def test_many_rows_are_drawn_as_some_points(tmp_path):
    y = np.linspace(0, 1, 50_000)[:, None]
    a = y.copy()
    a[0], a[-1] = -1e6, 1e6  # outliers make few bars, not a million
    sections = regression_sections(regression(["t"], y, a, None))
    tree = read(sections)
    assert len(tree.all("circle")) == 1000
    assert "1,000 of 50,000 rows are shown" in tree.text()
    assert len(sections) < 200_000


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-3, 1.0])
def test_outliers_make_few_bars(spread):
    y = np.zeros((1000, 1))
    a = spread * np.random.default_rng(0).standard_normal((1000, 1))
    a[0] = 1e9
    tree = read(regression_sections(regression(["t"], y, a, None)))
    chart = tree.titled("Residuals: predicted − true").one("svg")
    assert "bars over" in chart.one("desc").text()
    assert 11 <= int(chart.one("desc").text().split()[0]) <= 40


@pytest.mark.parametrize("residuals", [[0.0], [2.0, 2.0], [1.0, 1 + 1e-16, 1 + 4e-16], [-3.0] * 5])
def test_residuals_that_are_all_the_same(residuals):
    a = np.array(residuals)[:, None]
    tree = read(regression_sections(regression(["t"], np.zeros_like(a), a, None)))
    (bar,) = tree.titled("Residuals: predicted − true").one("svg").all("rect")
    assert bar.one("title").text().startswith(f"{len(a)} rows from")


def test_many_outputs_have_charts_for_the_first_ones(tmp_path):
    X = rows(40, 0)
    run = train(X, values(X, 9), 9, "identity", "mse")
    page = run.report(tmp_path / "r.html")
    assert len(page.table("Scores by output")) == 9
    assert len([f for f in page.all("figcaption") if f.text().startswith("Residuals")]) == 4


def test_counts(tmp_path):
    X = rows(60, 0)
    y = np.random.default_rng(0).poisson(np.exp(X[:, 0]))
    run = train(X, y, 1, "identity", "poisson", epochs=20)
    mae = run.report(tmp_path / "r.html").table("Scores by output")[0][2]
    expected = np.abs(np.exp(run.trainer.network.forward(X)[:, 0].astype(float)) - y).mean()
    assert float(mae) == pytest.approx(expected, rel=1e-3)
