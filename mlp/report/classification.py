"""How well classes are told apart: statistics of a set of rows, and the sections that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.report.charts import bar_chart, figure
from mlp.report.markup import Child, Markup, element, folded, joined, table
from mlp.report.scales import short

BINS = 15
WHOLE_MATRIX = 20  # classes; of more, the pairs that are confused most are listed
SMALL_MATRIX = 5  # classes; then the scores have room under it
PAIRS = 20
FAINTEST = 0.25  # shade of a mistake in the matrix: single ones should be seen
# Up to this share of a true class a cell of the matrix is pale, with dark text in light pages; from
# it on strong, with white text. Shades between, on which neither is easy to read, are left out.
STRONG, PALEST_STRONG, STRONGEST_PALE = 0.8, 0.88, 0.56
WORST = 20  # classes listed at once where there are more than WHOLE_MATRIX
EVERY_CLASS = 2000  # classes listed at all


@dataclass(frozen=True)
class Calibration:
    """Confidence, the probability of the predicted class, beside how often it was right.

    Over M = 15 bins of equal width, ECE = sum over bins |B| / n · |accuracy(B) - confidence(B)|.
    Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Attributes:
        edges: (M + 1,) of the bins.
        share: (M,) of all weight, in each bin.
        confidence, accuracy: (M,) means in each bin; NaN where it is empty.
        error: the ECE, in [0, 1].
    """

    edges: HostArray
    share: HostArray
    confidence: HostArray
    accuracy: HostArray
    error: float

    @classmethod
    def of(cls, confidence: HostArray, right: HostArray, weight: HostArray | None) -> Calibration:
        """From (N,) probabilities of the predicted class, whether each was right, and weights."""
        edges = np.linspace(0, 1, BINS + 1)
        # A value on an edge belongs to the bin below it, as (a, b].
        place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
        w = np.ones(len(confidence)) if weight is None else weight.astype(np.float64)
        mass = np.bincount(place, w, BINS)
        filled = np.where(mass > 0, mass, np.nan)
        mean = np.bincount(place, w * confidence, BINS) / filled
        accuracy = np.bincount(place, w * right, BINS) / filled
        share = mass / mass.sum()
        error = float(np.nansum(share * np.abs(accuracy - mean)))
        return cls(edges, share, mean, accuracy, error)


@dataclass(frozen=True)
class Classification:
    """What a set of rows says about a classifier.

    Attributes:
        names: of the K classes, or of the K yes-no outputs where `multilabel`.
        precision, recall, f1, support: (K,); NaN where there is nothing to divide by. Weighted by
            the sample weights, if there are any.
        confusion: (K, K), row the true class, column the predicted one; None where K is large or
            with several yes-no outputs.
        pairs: (true class, predicted class, weight) of what is confused most.
        calibration: see there; over all outputs where `multilabel`.
        rows: N.
    """

    names: tuple[str, ...]
    precision: HostArray
    recall: HostArray
    f1: HostArray
    support: HostArray
    confusion: HostArray | None
    pairs: tuple[tuple[int, int, float], ...]
    calibration: Calibration
    rows: int
    multilabel: bool = False


def classification(
    names: Sequence[str],
    truth: HostArray,
    guess: HostArray,
    confidence: HostArray,
    weight: HostArray | None,
) -> Classification:
    """Statistics of one class per row.

    Args:
        names: of the K classes.
        truth, guess: (N,) class numbers.
        confidence: (N,) the probability of each guess.
        weight: (N,) or None.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = np.arange(len(names))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, guess, labels=classes, sample_weight=weight, zero_division=np.nan
    )
    matrix = None
    if len(names) <= WHOLE_MATRIX:
        matrix = confusion_matrix(truth, guess, labels=classes, sample_weight=weight)
    calibration = Calibration.of(confidence, truth == guess, weight)
    pairs = _most_confused(truth, guess, len(names), weight)
    return Classification(
        tuple(names), precision, recall, f1, support, matrix, pairs, calibration, len(truth)
    )


def multilabel(
    names: Sequence[str], truth: HostArray, probabilities: HostArray, weight: HostArray | None
) -> Classification:
    """Statistics of several yes-no outputs: truth (N, K) of 0 and 1, probabilities (N, K)."""
    from sklearn.metrics import precision_recall_fscore_support

    guess = (probabilities >= 0.5).astype(np.int64)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, guess, average=None, sample_weight=weight, zero_division=np.nan
    )
    confidence = np.maximum(probabilities, 1 - probabilities).ravel()
    each = None if weight is None else np.repeat(weight, len(names))
    calibration = Calibration.of(confidence, (truth == guess).ravel(), each)
    return Classification(
        tuple(names), precision, recall, f1, support, None, (), calibration, len(truth),
        multilabel=True,
    )  # fmt: skip


def _most_confused(
    truth: HostArray, guess: HostArray, classes: int, weight: HostArray | None
) -> tuple[tuple[int, int, float], ...]:
    wrong = truth != guess
    codes, place = np.unique(truth[wrong] * classes + guess[wrong], return_inverse=True)
    count = np.bincount(place, None if weight is None else weight[wrong], len(codes))
    order = np.argsort(-count, kind="stable")[:PAIRS]
    return tuple(
        (int(codes[i]) // classes, int(codes[i]) % classes, float(count[i])) for i in order
    )


# --- sections -------------------------------------------------------------------------------------


def classification_sections(found: Classification) -> Markup:
    """The cards: what is confused, scores per class, calibration."""
    confusion, scores = _confusion(found), _per_class(found)
    calibration = element("div", _calibration(found.calibration), class_="card")
    if len(found.names) <= SMALL_MATRIX and not found.multilabel:
        return joined(element("div", confusion, scores, class_="card double"), calibration)
    wide = element("div", scores, class_="card wide")
    if confusion is None:
        return joined(wide, calibration)
    return joined(element("div", confusion, class_="card double"), calibration, wide)


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else short(float(value))


def _share(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _confusion(found: Classification) -> Child:
    if found.confusion is not None:
        return _matrix(found)
    if found.multilabel:
        return None
    if not found.pairs:
        return joined(
            element("h3", "What is confused"), element("p", "Nothing: every row was told right.")
        )
    rows = [
        (found.names[t], found.names[g], _count(n), _share(n / found.support[t]))
        for t, g, n in found.pairs
    ]
    header = ("true class", "predicted", "rows", "of the class")
    return joined(
        element("h3", f"What is confused most, of {len(found.names):,} classes"),
        table(header, rows, texts=2, caption="The pairs confused most", class_="scores"),
    )


def _bar(value: float) -> Child:
    """A share as a number and a bar beside it."""
    if not np.isfinite(value):
        return "–"
    return element("span", f"{value:.3f}", class_="share", style=f"--share:{value:.3f}")


def _matrix(found: Classification) -> Markup:
    matrix = found.confusion
    assert matrix is not None
    rows = []
    for row, (name, counts) in enumerate(zip(found.names, matrix, strict=True)):
        total = counts.sum()
        cells = []
        for column, (other, value) in enumerate(zip(found.names, counts, strict=True)):
            share = float(value / total) if total else 0.0
            if value and column != row:
                share = max(share, FAINTEST)
            kind = "right" if column == row else "wrong"
            strong = " strong" if share > STRONG else ""
            hint = f"{name} taken for {other}: {_count(value)} of {_count(total)}"
            cells.append(
                element(
                    "td", _count(value) if value else "·", title=hint,
                    class_=f"{kind}{strong}", style=f"--shade:{_shade(share):.3f}",
                )
            )  # fmt: skip
        rows.append(element("tr", element("th", name, scope="row", title=name), cells))
    head = element(
        "tr",
        element("td", class_="corner"),
        [element("th", name, scope="col", title=name) for name in found.names],
    )
    whole = element(
        "table",
        element("thead", head),
        element("tbody", rows),
        class_="matrix",
        style=f"max-width:{160 + 76 * len(found.names)}px",
    )
    return joined(
        element("h3", "Confusion matrix"),
        element(
            "div", whole, class_="scroll", tabindex="0", role="region",
            aria_label="Confusion matrix",
        ),
        element(
            "p", "Rows are the true classes, columns the predicted ones: blue where right, "
            "orange where wrong, the stronger the larger the share of the true class.",
            class_="note",
        ),
    )  # fmt: skip


def _shade(share: float) -> float:
    """How much of the colour a cell has: rising with the share, without what is hard to read."""
    if share <= STRONG:
        return share / STRONG * STRONGEST_PALE
    return PALEST_STRONG + (share - STRONG) / (1 - STRONG) * (1 - PALEST_STRONG)


def _per_class(found: Classification) -> Markup:
    kind = "output" if found.multilabel else "class"
    header = (kind, "precision", "recall", "F1", "support")

    def rows(numbers: Sequence[int]) -> list[list[Child]]:
        return [
            [
                element("span", found.names[i], class_="name", title=found.names[i]),
                _bar(found.precision[i]),
                _bar(found.recall[i]),
                _bar(found.f1[i]),
                _count(found.support[i]),
            ]
            for i in numbers
        ]

    def listed(numbers: Sequence[int]) -> Markup:
        return table(header, rows(numbers), caption=f"Scores by {kind}", class_="scores")

    count = len(found.names)
    note = element(
        "p", "Precision: of the rows predicted as the class, the share that are of it. Recall: of "
        "the rows of the class, the share predicted as it. F1: their harmonic mean. – where there "
        "is no such row.", class_="note",
    )  # fmt: skip
    if count <= WHOLE_MATRIX:
        return joined(element("h3", f"Scores by {kind}"), listed(range(count)), note)
    worst = np.argsort(np.where(np.isnan(found.f1), 2, found.f1), kind="stable")[:WORST]
    title = (
        f"The {WORST} lowest scores, of {count:,} {'outputs' if found.multilabel else 'classes'}"
    )
    every = min(count, EVERY_CLASS)
    all_of_them = folded(
        f"{'All' if every == count else 'The first'} {every:,}", listed(range(every))
    )
    return joined(element("h3", title), listed(worst.tolist()), all_of_them, note)


def _calibration(found: Calibration) -> Markup:
    bins = [
        (f"{a:.2f} – {b:.2f}", _share(s), _share(c), _share(r))
        for a, b, s, c, r in zip(
            found.edges, found.edges[1:], found.share, found.confidence, found.accuracy,
            strict=False,
        )
    ]  # fmt: skip
    hints = [f"confidence {c}: right {r}; {s} of the rows" for _, s, c, r in bins]
    chart = bar_chart(
        "Calibration", found.edges.tolist(), found.accuracy.tolist(), hints, "confidence",
        diagonal=True,
    )  # fmt: skip
    note = (
        f"Expected calibration error {found.error:.3f} = Σ |B|/n · |accuracy(B) − confidence(B)| "
        f"over {BINS} bins B of equal width (Guo et al., 2017). Confidence is the probability of "
        "the predicted class; on the dashed line it is right as often as it says."
    )
    return joined(
        figure("Calibration: share right by confidence", chart, note=note),
        folded(
            "Numbers",
            table(
                ("confidence", "rows", "mean", "right"),
                [b for b, share in zip(bins, found.share, strict=True) if share],
                caption="Calibration by bin",
            ),
        ),
    )
