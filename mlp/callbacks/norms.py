"""How large the weights, activations and gradients of each layer are, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlp.backends.protocol import Backend, HostArray
from mlp.callbacks.base import Callback
from mlp.data.arrow import as_table, is_table
from mlp.data.blocks import Piece, RowBlocks, is_sparse, row_count
from mlp.errors import InvalidInput, InvalidSetting, require_in, require_positive_int

if TYPE_CHECKING:
    from mlp.trainer import Trainer

FEWEST_ROWS = 32  # of a sample, where there are as many
LEAST_LOOKS = 20


@dataclass(frozen=True)
class LayerNorms:
    """Sizes per layer, first to last, after one epoch.

    Attributes:
        epoch: from 1.
        weights: Frobenius norm of W (I, O), sqrt(sum W²), per layer.
        gradients: Frobenius norm of dLoss/dW, of the mean loss of the sample, without dropout and
            without penalties, per layer.
        activations: root mean square of a (B, O), sqrt(mean a²), per layer.
    """

    epoch: int
    weights: tuple[float, ...]
    gradients: tuple[float, ...]
    activations: tuple[float, ...]


@dataclass(eq=False)
class NormsLog(Callback):
    """Notes the norms of every layer's weights, activations and gradients on a fixed sample.

    The sample is drawn in each call of `fit`, without replacement and the same for the same rows:
    1 / 20 of the rows given, but 32 if there are as many, and no more than `most_rows`; of rows in
    blocks it is the beginning of the first block. So that the log costs a small share of the
    training, it looks at the sample after every so many epochs that the rows looked at are no more
    than `share` of those trained on, but about 20 times in a call of `fit` at least; always after
    the first epoch and the last. Each look also copies parameters and gradients to the host.

    Args:
        X, y, sample_weight: rows to draw the sample from, as `Trainer.fit` takes them.
        most_rows: of the sample.
        share: of the rows trained on, how many may be looked at, in (0, 1].

    Attributes:
        records: one LayerNorms per epoch looked at, of all calls of `fit`.
        every: epochs between two looks.

    Raises:
        InvalidSetting: most_rows or share is not positive.
        InvalidInput: in `fit`, before training: the sample cannot be used.
    """

    X: Any = field(repr=False)
    y: Any = field(repr=False)
    sample_weight: Any = field(default=None, repr=False)
    most_rows: int = field(default=256, kw_only=True)
    share: float = field(default=0.02, kw_only=True)
    records: list[LayerNorms] = field(default_factory=list, init=False, repr=False)
    every: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        require_positive_int("most_rows", self.most_rows)
        if require_in("share", self.share, 0, 1) == 0:
            raise InvalidSetting("share must be greater than 0")

    def on_fit_start(self, trainer: Trainer) -> None:
        self._first = trainer.epoch + 1
        self._sample = self._draw(trainer)
        trainer.network.gradients(*self._sample[:2], trainer.loss, self._sample[2])

    def _draw(self, trainer: Trainer) -> tuple[Any, Any, Any]:
        backend = trainer.network.backend
        count = row_count(self.X) if isinstance(self.X, RowBlocks) else len(self.y)
        rows = min(count, self.most_rows, max(FEWEST_ROWS, count // 20))
        often_enough = max((trainer.last_epoch - trainer.epoch) // LEAST_LOOKS, 1)
        self.every = min(math.ceil(rows / (self.share * count)), often_enough)
        if isinstance(self.X, RowBlocks):
            piece = _first_piece(self.X, rows)
            X, y, weight = piece.X, piece.y, piece.weight
        else:
            index = np.sort(np.random.default_rng(0).choice(count, rows, replace=False))
            given = self.X, self.y, self.sample_weight
            X, y, weight = (_take(values, index, backend) for values in given)
        if weight is not None and not np.any(weight):  # only rows that do not count were drawn
            weight = None
        return X, y, weight

    def on_epoch_end(self, trainer: Trainer) -> None:
        epoch = trainer.epoch
        ends = epoch in (self._first, trainer.last_epoch) or trainer.stopped is not None
        if ends or (epoch - self._first) % self.every == 0:
            X, y, weight = self._sample
            # A network that diverges is reported by its loss, not by a warning per operation.
            with np.errstate(over="ignore", invalid="ignore"):
                found = trainer.network.gradients(X, y, trainer.loss, weight)
                self.records.append(
                    LayerNorms(
                        epoch,
                        tuple(map(_norm, trainer.network.weights)),
                        tuple(map(_norm, found.weights)),
                        tuple(_norm(a) / math.sqrt(a.size) for a in found.activations),
                    )
                )


def _norm(array: HostArray) -> float:
    # In float64, where no square of a float32 overflows; not by BLAS, whose threads would wake up
    # beside those that train.
    return math.sqrt(np.square(array, dtype=np.float64).sum())


def _first_piece(blocks: RowBlocks, rows: int) -> Piece:
    """The first of a source's rows; a block, or a piece of it, may have none."""
    pieces = (piece for block in range(len(blocks.sizes)) for piece in blocks.read(block, rows))
    return next(piece for piece in pieces if len(piece))


def _take(values: Any, index: HostArray, backend: Backend) -> Any:
    """Some rows of an array of the host or the device, a sparse matrix or a table; None of None."""
    on_device = None if values is None else backend.device_array(values)
    if on_device is not None:
        return on_device[backend.from_host(index, np.int64)]
    if values is None:
        return None
    if is_table(values):
        return as_table(values).take(index)
    if is_sparse(values):
        return values.tocsr()[index].toarray()
    array = np.asarray(values)
    if array.ndim == 0 or len(array) <= index[-1]:
        raise InvalidInput("the rows for the norms are of different lengths")
    return array[index]
