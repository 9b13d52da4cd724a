"""Loss and score of a network on a fixed set of rows, without dropout; reused epoch after epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlp.backends.protocol import LOSS_SUM, WEIGHT_SUM, Array, HostArray
from mlp.backpropagation import OutputLoss
from mlp.data.blocks import ArrayBlocks, RowBlocks, row_count
from mlp.losses import Loss
from mlp.network import Network
from mlp.streaming import PreparedBlocks, has_room, room_to_keep


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, and score: accuracy for class or yes-no targets, R² for values."""

    loss: float
    score: float


@dataclass(frozen=True)
class Part:
    """Rows X, targets y and weights on the device, and the last two as the score takes them."""

    X: Array
    y: Array
    weight: Array | None
    target: HostArray
    host_weight: HostArray | None


class Evaluator:
    """Evaluates a network on rows that stay on its device, or that are read in blocks each time.

    Args:
        network: the network, whose parameters may change between calls.
        loss: the loss to report.
        X, y, sample_weight: as `Trainer.fit` takes them; `name` prefixes them in errors. Rows in
            blocks, and those for which there is no room, are read in each call; up to
            `mlp.streaming.room_to_keep` bytes of them stay on the device from the first call on.
        limit: bytes that the process may hold; None for half of the memory.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        name: str = "",
        limit: int | None = None,
    ) -> None:
        self.network, self.loss = network, loss
        self.joined = OutputLoss.of(loss, network.spec.output_activation)
        blocks = X if isinstance(X, RowBlocks) else None
        if blocks is None and not has_room(network, X, limit):
            blocks = ArrayBlocks(X, y, sample_weight, f"{name}X")
        self._kept: list[Part] | None = None
        self._blocks: RowBlocks | None = blocks
        if blocks is None:
            self._kept = [self._place(X, y, sample_weight, name)]
        else:
            prepared = self._prepared = PreparedBlocks(network, loss, blocks)
            size = row_count(blocks) * prepared.layout.row_bytes
            self._keeps = size <= room_to_keep(limit) and network.backend.has_room_for(size)
        # A pass over rows that stay may be recorded; arrays of the others change.
        layers, flat = self.joined.layers(network.layers()), network.parameters.flat
        self._predict = network.backend.predictor(layers, flat, repeated=blocks is None)
        self._room: tuple[Array, Array] | None = None

    def _place(self, X: Any, y: Any, sample_weight: Any, name: str) -> Part:
        network = self.network
        rows = network.rows_to_device(X, f"{name}X", borrow=True)
        target = network.check_target(y, len(rows), self.loss, f"{name}y")
        on_device = network.checked_target_to_device(target, f"{name}y", given=y)
        weight = network.weight_to_device(sample_weight, len(rows), f"{name}sample_weight")
        of_host = None if weight is None else network.backend.to_host(weight)
        return Part(rows, on_device, weight, target, of_host)

    def __call__(self) -> Evaluation:
        # A network that diverges is reported by its loss, not by a warning per operation.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._evaluate()

    def _evaluate(self) -> Evaluation:
        backend = self.network.backend
        totals, tally = backend.zeros((2,), np.float64), Tally(self.loss)
        # Outputs before a sigmoid or softmax order as those after it, but are cut at 0, not 0.5.
        threshold = 0.0 if self.joined.form == "sigmoid_cross_entropy" else 0.5
        for part in self._kept or self._read():
            outputs, delta = self._arrays(len(part.X))
            self._predict(part.X, outputs)
            backend.loss(
                self.joined.form, outputs, part.y, part.weight, self.joined.parameter, delta, totals
            )
            on_host = backend.to_host(outputs)
            if self.loss.name == "poisson":
                on_host = np.exp(on_host)
            tally.add(on_host, part.target, threshold, part.host_weight)
        sums = backend.to_host(totals)
        weight = float(sums[WEIGHT_SUM])
        return Evaluation(float(sums[LOSS_SUM]) / weight if weight else float("nan"), tally.score)

    def _arrays(self, rows: int) -> tuple[Array, Array]:
        """Room for the outputs and deltas of so many rows; the same arrays for the same rows."""
        network, room = self.network, self._room
        if room is None or len(room[0]) < rows:
            shape, compute = (rows, network.spec.outputs), network.compute.flat.dtype
            empty = network.backend.empty
            room = self._room = empty(shape, network.dtype), empty(shape, compute)
        return (room[0], room[1]) if len(room[0]) == rows else (room[0][:rows], room[1][:rows])

    def _read(self) -> Iterator[Part]:
        """The parts of rows that are in blocks."""
        assert self._blocks is not None
        backend, kept = self.network.backend, []
        for block in range(len(self._blocks.sizes)):
            for X, y, weight in self._prepared.read(block):
                layout = self._prepared.layout
                part = Part(
                    backend.from_host(X, layout.dtype),
                    backend.from_host(y, layout.target_dtype),
                    None if weight is None else backend.from_host(weight, layout.dtype),
                    y, weight,
                )  # fmt: skip
                if self._keeps:
                    kept.append(part)
                yield part
        if self._keeps:
            self._kept = kept


@dataclass
class Tally:
    """A score of rows that come in parts; see `score`.

    The mean and spread of a target are joined as in `mlp.data.moments`.
    """

    loss: Loss
    rows: int = 0
    weight: float = 0.0
    right: float = 0.0
    residual: HostArray = field(default_factory=lambda: np.zeros(1))
    mean: HostArray = field(default_factory=lambda: np.zeros(1))
    spread: HostArray = field(default_factory=lambda: np.zeros(1))

    def add(
        self,
        outputs: HostArray,
        target: HostArray,
        threshold: float = 0.5,
        weight: HostArray | None = None,
    ) -> None:
        """Takes in outputs (n, O) and their targets."""
        w = np.ones(len(target)) if weight is None else weight.astype(np.float64)
        total = float(w.sum())
        self.rows += len(target)
        if total == 0:
            return
        before, self.weight = self.weight, self.weight + total
        if self.loss.targets == "classes":
            labels = target if target.ndim == 1 else target.argmax(axis=1)
            self.right += float(np.dot(outputs.argmax(axis=1) == labels, w))
        elif self.loss.targets == "unit":
            right = (outputs >= threshold) == (target >= 0.5)
            self.right += float(np.dot(right.mean(axis=1), w))
        else:
            y, a = target.astype(np.float64), outputs.astype(np.float64)
            self.residual = self.residual + (w[:, None] * (y - a) ** 2).sum(axis=0)
            mean = np.average(y, axis=0, weights=w)
            spread = (w[:, None] * (y - mean) ** 2).sum(axis=0)
            difference = mean - self.mean
            self.spread = self.spread + spread + difference**2 * (before * total / self.weight)
            self.mean = mean if before == 0 else self.mean + difference * (total / self.weight)

    @property
    def score(self) -> float:
        if self.loss.targets in ("classes", "unit"):
            return self.right / self.weight if self.weight else float("nan")
        if self.rows < 2:
            return float("nan")
        flat = self.spread == 0
        ratio = np.where(flat, self.residual > 0, self.residual / np.where(flat, 1, self.spread))
        return float(np.mean(1 - ratio))


def score(
    loss: Loss,
    outputs: HostArray,
    target: HostArray,
    threshold: float = 0.5,
    weight: HostArray | None = None,
) -> float:
    """How good outputs (N, O) are for a target as `as_target` returns it.

    Classes: the weighted share of rows whose largest output is the label's. Numbers in [0, 1] under
    binary cross-entropy: the share of outputs on the target's side of the threshold. Values:
    R² = 1 - sum (y - a)² / sum (y - mean y)², averaged over the outputs, as sklearn's r2_score; it
    is NaN for fewer than two rows, and an output whose target does not vary counts 1 if it is
    met exactly and else 0.
    """
    tally = Tally(loss)
    tally.add(outputs, target, threshold, weight)
    return tally.score
