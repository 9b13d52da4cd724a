"""The picture of a training run: loss and score by epoch, as PNG."""

from __future__ import annotations

import io

from mlp.trainer import History

TRAINING, VALIDATION, MARK = "#4269d0", "#ff725c", "#9c9c9c"


def draw_curves(history: History, title: str, best_epoch: int) -> bytes:
    """PNG bytes of one panel for the losses and, with a validation set, one for its score."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, len(history["loss"]) + 1)
    validated = "validation_loss" in history
    figure = Figure(figsize=(9 if validated else 5, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    panels[0].plot(epochs, history["loss"], color=TRAINING, label="training loss")
    if validated:
        panels[0].plot(
            epochs, history["validation_loss"], color=VALIDATION, label="validation loss"
        )
        panels[1].plot(
            epochs, history["validation_score"], color=VALIDATION, label="validation score"
        )
    if min(history["loss"]) > 0:
        panels[0].set_yscale("log")
    for panel in panels:
        panel.axvline(best_epoch, color=MARK, linestyle=":", label=f"kept: epoch {best_epoch}")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("epoch")
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    png = io.BytesIO()
    # Without matplotlib's version in the file, equal runs give equal pictures.
    figure.savefig(png, format="png", dpi=130, metadata={"Software": None})
    return png.getvalue()
