"""How near predicted values are: statistics of a set of rows, and the sections that show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.report.charts import bar_chart, figure, scatter_chart
from mlp.report.markup import Markup, element, joined, table
from mlp.report.scales import SAME, short

MOST_POINTS = 1000  # in a scatter chart
MOST_OUTPUTS = 4  # that get charts; the table has all
MOST_BARS = 40


@dataclass(frozen=True)
class Regression:
    """What a set of rows says about predicted values, in the units of the target.

    Attributes:
        names: of the O outputs.
        truth, prediction: (N, O) float64.
        r2, mae, rmse: (O,), weighted by the sample weights if there are any; R² is NaN for fewer
            than two rows.
    """

    names: tuple[str, ...]
    truth: HostArray
    prediction: HostArray
    r2: HostArray
    mae: HostArray
    rmse: HostArray

    @property
    def rows(self) -> int:
        return len(self.truth)


def regression(
    names: Sequence[str], truth: HostArray, prediction: HostArray, weight: HostArray | None
) -> Regression:
    """Statistics of values: truth and prediction (N, O), weights (N,) or None."""
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    truth, prediction = truth.astype(np.float64), prediction.astype(np.float64)
    settings = {"sample_weight": weight, "multioutput": "raw_values"}
    few = len(truth) < 2
    r2 = np.full(len(names), np.nan) if few else r2_score(truth, prediction, **settings)
    mae = mean_absolute_error(truth, prediction, **settings)
    rmse = np.sqrt(mean_squared_error(truth, prediction, **settings))
    return Regression(tuple(names), truth, prediction, r2, mae, rmse)


def regression_sections(found: Regression) -> Markup:
    """The cards: the scores of all outputs, then two charts for each of the first ones."""
    rows = [
        (name, short(r2), short(mae), short(rmse))
        for name, r2, mae, rmse in zip(
            found.names, found.r2.tolist(), found.mae.tolist(), found.rmse.tolist(), strict=True
        )
    ]
    scores = element(
        "div",
        element("h3", "Scores by output"),
        table(("output", "R²", "MAE", "RMSE"), rows, caption="Scores by output", class_="scores"),
        element(
            "p", "R² = 1 − Σ(y − a)² / Σ(y − mean)²: 1 is perfect, 0 no better than the mean. MAE "
            "and RMSE, the mean absolute error and the root of the mean square, are in units of "
            "the target.", class_="note",
        ),
        class_="card",
    )  # fmt: skip
    return joined(scores, [_charts(found, i) for i in range(min(len(found.names), MOST_OUTPUTS))])


def _charts(found: Regression, output: int) -> Markup:
    truth, prediction = found.truth[:, output], found.prediction[:, output]
    of = f" of {found.names[output]}" if len(found.names) > 1 else ""
    # Evenly over the rows in the order of their targets, so that both ends are there.
    order = np.argsort(truth, kind="stable")
    if len(order) > MOST_POINTS:
        order = order[np.linspace(0, len(order) - 1, MOST_POINTS).astype(np.int64)]
    title = f"Predicted{of}, by true value"
    scatter = scatter_chart(title, truth[order].tolist(), prediction[order].tolist(), "true value")
    shown = "" if len(order) == len(truth) else f"{len(order):,} of {len(truth):,} rows are shown. "
    residuals = prediction - truth
    counts, edges = _histogram(residuals)
    hints = [
        f"{n:,} rows from {short(a)} to {short(b)}"
        for n, a, b in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    name = f"Residuals{of}"
    histogram = bar_chart(name, edges.tolist(), counts.tolist(), hints, "predicted − true")
    low, middle, high = np.quantile(residuals, (0.05, 0.5, 0.95)).tolist()
    spread = f"Median {short(middle)}; nine of ten lie between {short(low)} and {short(high)}."
    note = shown + "On the dashed line the prediction is right."
    return joined(
        element("div", figure(title, scatter, note=note), class_="card"),
        element(
            "div",
            figure(f"{name}: predicted − true", histogram, note=spread),
            class_="card",
        ),
    )


def _histogram(values: HostArray) -> tuple[HostArray, HostArray]:
    """Counts (M,) and edges (M + 1,), M by the rule of Sturges or of Freedman and Diaconis.

    The one that asks for more bars counts; outliers have the latter ask for any number, so there
    are MOST_BARS at most.
    """
    bars = math.ceil(math.log2(len(values))) + 1
    quarter, three_quarters = np.quantile(values, (0.25, 0.75)).tolist()
    low, high = float(values.min()), float(values.max())
    width = 2 * (three_quarters - quarter) / len(values) ** (1 / 3)
    if width > 0:
        bars = max(bars, math.ceil(min((high - low) / width, MOST_BARS)))
    size = max(abs(low), abs(high))
    if high - low <= SAME * size:  # all are the same, but for rounding
        low, high = low - (size or 1) / 2, high + (size or 1) / 2
    counts, edges = np.histogram(values, min(bars, MOST_BARS), (low, high))
    return counts, edges
