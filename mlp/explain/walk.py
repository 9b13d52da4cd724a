"""One row through a network and back, written out: the parts put together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import as_rows
from mlp.data.preprocessing import Standardizer
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput, require_in
from mlp.explain.backward import gradient_section
from mlp.explain.forward import input_section, layer_section, loss_section
from mlp.explain.report import Section, Walk
from mlp.explain.trace import Trace
from mlp.explain.update import check_section, update_section, updated
from mlp.gradcheck import float64_copy, on_features
from mlp.losses import Loss, get_loss
from mlp.network import Network

ROW_DIGITS = 5


def explain_row(
    net: Network,
    X: Any,
    y: Any,
    loss: str | Loss,
    row: int,
    learning_rate: float | None = None,
) -> Walk:
    """Works out one row's forward pass, loss, gradients and, given a rate, update.

    The activations, deltas and gradients are those of the network's own backend, in float64 with
    the network's weights; the network is left as it is. Dropout does not apply.

    Args:
        net: any network.
        X: rows (N, I) or a table, as `Network.forward` takes them.
        y: targets of all N rows, as the loss takes them.
        loss: a name from `mlp.losses.LOSSES`, or a Loss.
        row: which row, from 0.
        learning_rate: of a plain gradient-descent update from this row alone; None for no update.

    Raises:
        InvalidInput: X, y or row cannot be used.
        InvalidSetting: the loss is unknown or does not fit, or the rate is negative.
    """
    takes, X = on_features(net, X)
    rows = as_rows(X, takes.spec.inputs)
    targets = np.asarray(y)
    if targets.ndim == 0 or (len(rows) == 1 and len(targets) != 1):
        targets = targets[None]
    if len(targets) != len(rows):
        raise InvalidInput(f"y has {len(targets)} rows, but X has {len(rows)}")
    if isinstance(row, bool) or not hasattr(row, "__index__") or not 0 <= row < len(rows):
        raise InvalidInput(f"row must be a whole number from 0 to {len(rows) - 1}, not {row!r}")
    return build_walk(
        float64_copy(takes),
        rows[row : row + 1],
        targets[row : row + 1],
        get_loss(loss),
        title=f"Row {row} through {net!r}",
        learning_rate=learning_rate,
        digits=ROW_DIGITS,
        intro=_about_features(net),
    )


def _about_features(net: Network) -> tuple[str, ...]:
    """What the numbers of a row of a table are, feature by feature."""
    columns = net.preprocessing
    if not isinstance(columns, TablePreprocessor):
        return ()
    named = ", ".join(f"x{i} {name}" for i, name in enumerate(columns.features, start=1))
    return (f"The row is shown as the features that are made of the table's columns: {named}.",)


def build_walk(
    net: Network,
    X: HostArray,
    y: Any,
    loss: Loss,
    *,
    title: str,
    learning_rate: float | None,
    digits: int,
    intro: tuple[str, ...] = (),
    bias: bool = True,
) -> Walk:
    """The walk of X (1, I) and its target.

    Args:
        intro: sentences to begin with.
        bias: whether the network counts as having biases; without, they must be 0, and are left
            out of formulas and updates.
    """
    if learning_rate is not None:
        require_in("learning_rate", learning_rate, 0, math.inf, open_high=True)
    trace = Trace.of(net, X, y, loss)
    if any(layer.dropout for layer in net.spec.layers):
        intro = (*intro, "Dropout is left out: it applies in training steps only.")
    if net.target_scaler is not None and loss.targets == "values":
        intro = (
            *intro,
            "Target values are standardised, (value - mean) / scale, and so are the outputs here; "
            "predictions are turned back into the target's own units.",
        )
    sections = [Section("Set-up", intro)] if intro else []
    scaler = net.preprocessing if isinstance(net.preprocessing, Standardizer) else None
    sections.append(input_section(trace, scaler, digits))
    sections += [layer_section(layer, trace, bias, digits) for layer in trace.layers]
    sections.append(loss_section(trace, digits))
    sections += [gradient_section(trace, layer, bias, digits) for layer in trace.layers[::-1]]
    values = trace.to_json()
    if learning_rate is not None:
        sections.append(update_section(trace, learning_rate, bias, digits))
        values["learning_rate"] = learning_rate
        values["updated"] = updated(trace, learning_rate, bias)
    check, values["check"] = check_section(net, X, y, trace, bias, digits)
    return Walk(title, (*sections, check), values, digits)
