"""What a network puts out for some rows, beside what it should have: the statistics of a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.blocks import Piece, RowBlocks
from mlp.data.placing import to_check
from mlp.errors import InvalidSetting
from mlp.losses import Loss
from mlp.network import Network
from mlp.report.classification import Classification, classification, multilabel
from mlp.report.regression import Regression, regression

PIECE_ROWS = 8192  # of rows in blocks that are read at once


def outcome_of(
    network: Network, loss: Loss, rows: tuple[Any, ...], outputs: Iterable[str] | None
) -> Classification | Regression:
    """Statistics of the network on some rows, of classes or of values as the loss has it.

    Args:
        rows: (X, y) or (X, y, sample_weight), as `Trainer.fit` takes them.
        outputs: names of the outputs, or None.

    Raises:
        InvalidSetting: there are not as many names as outputs.
    """
    count = network.spec.outputs
    names = [f"output {k}" for k in range(count)] if outputs is None else list(map(str, outputs))
    if len(names) != count:
        raise InvalidSetting(f"outputs must hold {count} names, not {len(names)}")
    if loss.targets == "classes" or (loss.targets == "unit" and count == 1):
        truth, guess, confidence, weight = _joined(_told(*p) for p in _parts(network, loss, rows))
        if network.classes is not None:
            names = [str(label) for label in network.classes]
        elif outputs is None or count == 1:
            names = [str(k) for k in range(max(count, 2))]
        return classification(names, truth, guess, confidence, weight)
    outputs_of_rows, target, weight = _joined(_parts(network, loss, rows))
    if loss.targets == "unit":
        truth = (target >= 0.5).astype(np.int64)
        return multilabel(names, truth, outputs_of_rows.astype(np.float64), weight)
    if loss.targets == "counts":
        return regression(names, target, np.exp(outputs_of_rows.astype(np.float64)), weight)
    if network.target_scaler is not None:
        inverse = network.target_scaler.inverse
        return regression(names, inverse(target), inverse(outputs_of_rows), weight)
    return regression(names, target, outputs_of_rows, weight)


Part: TypeAlias = "tuple[HostArray, HostArray, HostArray | None]"


def _parts(network: Network, loss: Loss, rows: tuple[Any, ...]) -> Iterator[Part]:
    """Outputs (n, O), targets as the loss takes them, and weights or None, of all rows in turn."""
    X, y, *given = rows
    pieces: Iterable[Piece] = [Piece(X, y, given[0] if given else None)]
    if isinstance(X, RowBlocks):
        pieces = (piece for i in range(len(X.sizes)) for piece in X.read(i, PIECE_ROWS))
    for piece in pieces:
        a = network.forward(piece.X)
        weight = None
        if piece.weight is not None:
            weight = np.asarray(to_check(piece.weight, network.backend), dtype=np.float64)
        yield a, network.check_target(piece.y, len(a), loss), weight


def _told(
    a: HostArray, target: HostArray, weight: HostArray | None
) -> tuple[HostArray, HostArray, HostArray, HostArray | None]:
    """The true class of each row, the one told, the probability of that one; the weights."""
    if a.shape[1] == 1:
        truth, guess = target[:, 0] >= 0.5, a[:, 0] >= 0.5
        confidence = np.where(guess, a[:, 0], 1 - a[:, 0])
        return truth.astype(np.int64), guess.astype(np.int64), confidence, weight
    truth = target if target.ndim == 1 else target.argmax(axis=1)
    return truth, a.argmax(axis=1), a.max(axis=1), weight


def _joined(parts: Iterable[tuple[HostArray | None, ...]]) -> tuple[Any, ...]:
    """Each array of some parts in one; None where they are None."""
    columns = zip(*parts, strict=True)
    return tuple(None if c[0] is None else np.concatenate(c) for c in columns)
