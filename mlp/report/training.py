"""The sections on how training went: curves by epoch, and norms by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mlp.callbacks.norms import LayerNorms
from mlp.report.charts import Line, Mark, figure, line_chart
from mlp.report.markup import Markup, element, folded, joined, table
from mlp.report.scales import chosen, short

ROWS = 25  # of a table of epochs
MOST_LAYERS = 8  # as lines of a chart; tables have all
TITLES = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "validation_score": "validation score",
    "learning_rate": "learning rate",
    "seconds": "seconds",
}
NORMS = {
    "weights": ("Weights by layer", "Frobenius norm of W."),
    "gradients": ("Gradients by layer", "Frobenius norm of ∂loss/∂W on a fixed sample of rows."),
    "activations": ("Activations by layer", "Root mean square on a fixed sample of rows."),
}


def curve_sections(history: dict[str, list[float]], score: str, best_epoch: int | None) -> Markup:
    """The cards of loss, score and learning rate by epoch, and a table of the same numbers."""
    epochs = list(range(1, len(history["loss"]) + 1))
    mark = None if best_epoch is None else Mark(best_epoch, f"kept: epoch {best_epoch:,}")
    losses = [Line("training", epochs, history["loss"], 0)]
    if "validation_loss" in history:
        losses.append(Line("validation", epochs, history["validation_loss"], 1))
    legend = [(line.color, line.name) for line in losses] if len(losses) > 1 else []
    cards = [figure("Loss by epoch", line_chart("Loss", losses, "epoch", mark), legend)]
    if any(map(math.isfinite, history.get("validation_score", []))):
        line = Line(f"validation {score}", epochs, history["validation_score"], 1)
        title = f"Validation {score} by epoch"
        cards.append(figure(title, line_chart(title, [line], "epoch", mark)))
    rates = Line("learning rate", epochs, history["learning_rate"], 2)
    title = "Learning rate by epoch"
    cards.append(figure(title, line_chart(title, [rates], "epoch", mark, from_zero=True)))
    names = [name for name in history if len(history[name]) == len(epochs)]
    also = () if best_epoch is None else (best_epoch - 1,)
    rows = [
        [f"{i + 1:,}" + (" (kept)" if i + 1 == best_epoch else "")]
        + [short(history[name][i]) for name in names]
        for i in chosen(len(epochs), ROWS, *also)
    ]
    header = ["epoch", *(TITLES.get(name, name) for name in names)]
    numbers = folded(
        "Numbers"
        if len(rows) == len(epochs)
        else f"Numbers of {len(rows)} of {len(epochs):,} epochs",
        table(header, rows, caption="The history by epoch"),
    )
    return joined(
        [element("div", card, class_="card even") for card in cards],
        element("div", numbers, class_="card wide quiet"),
    )


def norm_sections(records: Sequence[LayerNorms]) -> Markup:
    """The cards of the layers' weights, gradients and activations, and a table of the last ones."""
    layers = range(len(records[0].weights))
    shown = chosen(len(layers), MOST_LAYERS)
    epochs = [record.epoch for record in records]
    cards = []
    for kind, (title, note) in NORMS.items():
        lines = [
            Line(
                f"layer {i}", epochs, [getattr(record, kind)[i] for record in records], color,
                str(i),
            )
            for color, i in enumerate(shown)
        ]  # fmt: skip
        legend = [(line.color, line.name) for line in lines]
        picture = line_chart(title, lines, "epoch")
        cards.append(element("div", figure(title, picture, legend, note), class_="card even"))
    first, last = records[0], records[-1]
    header = ["layer"] + [
        f"{kind}, epoch {record.epoch:,}"
        for kind, record in itertools.product(NORMS, (first, last))
    ]
    rows = [
        [str(i)]
        + [short(getattr(r, kind)[i]) for kind, r in itertools.product(NORMS, (first, last))]
        for i in layers
    ]
    numbers = folded("Numbers", table(header, rows, caption="Norms by layer, first and last epoch"))
    return joined(cards, element("div", numbers, class_="card wide quiet"))
