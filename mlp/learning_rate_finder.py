"""The learning-rate range test: a few steps at ever higher rates, and what the loss does.

Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3, where
the rate rises linearly. Here it rises by a constant factor from step to step, as in fastai
(Howard, Gugger, "fastai: a layered API for deep learning", 2020), so that rates of every order of
magnitude are tried; the two suggestions are fastai's, too.
"""

from __future__ import annotations

import copy
import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import Run
from mlp.errors import (
    InvalidInput,
    InvalidSetting,
    TrainingDiverged,
    require_in,
    require_positive_int,
)
from mlp.model_file import write_atomically
from mlp.random import Doubles
from mlp.step import Step
from mlp.trainer import Trainer

FEWEST_STEPS = 20
# A batch's loss of so many times the largest of the first tenth of the steps ends the test.
TOO_HIGH = 4.0
# Width of the smoothing, as a share of the steps.
WIDTH = 1 / 40
LINES = 20  # of the table


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """What a range test found.

    Attributes:
        rates: (S,) float64, the rate of each step, rising.
        losses: (S,) float64, the mean loss of each step's batch before its update.
        smoothed: (S,) float64, the losses smoothed by a Gaussian over neighbouring steps.
        diverged: whether the test ended because the loss rose too high or was not finite. If not,
            the highest rate may be too low to see where that happens.
    """

    rates: Doubles
    losses: Doubles
    smoothed: Doubles
    diverged: bool

    @property
    def lowest_loss(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return float(self.rates[self.smoothed.argmin()])

    @cached_property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest per factor of the rate."""
        falling = self.smoothed[: max(int(self.smoothed.argmin()) + 1, 2)]
        return float(self.rates[np.gradient(falling).argmin()])

    @property
    def suggested(self) -> float:
        """The smaller of `steepest` and a tenth of `lowest_loss`."""
        return min(self.steepest, self.lowest_loss / 10)

    def __str__(self) -> str:
        """A table of rates and smoothed losses, and the suggestions under it."""
        shown = np.unique(np.linspace(0, len(self.rates) - 1, LINES).round().astype(int))
        first = float(self.smoothed[0])
        lines = ["learning rate  smoothed loss"]
        for i in shown:
            loss = float(self.smoothed[i])
            bar = "█" * min(round(15 * loss / first), 30) if first > 0 else ""
            lines.append(f"{self.rates[i]:13.2e}  {loss:13.4g}  {bar}")
        lines += [
            f"steepest fall at {self.steepest:.2e}, lowest loss at {self.lowest_loss:.2e}; "
            f"suggested: {self.suggested:.2e}"
        ]
        if not self.diverged:
            lines.append("the loss did not rise: a higher `highest` would show more")
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Writes a picture, in the format that the ending of the name says.

        Raises:
            InvalidSetting: matplotlib is not installed, or has no such format.
            InvalidInput: the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise InvalidSetting(
                'a picture needs matplotlib: pip install "fused-mlp[plot]"'
            ) from None
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        panel = figure.subplots()
        panel.plot(self.rates, self.losses, color="#b7d3f6", label="loss of each batch")
        panel.plot(self.rates, self.smoothed, color="#2a78d6", label="smoothed")
        label = f"suggested: {self.suggested:.2e}"
        panel.axvline(self.suggested, color="#898781", linestyle=":", label=label)
        panel.set(xscale="log", xlabel="learning rate", ylabel="loss")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
        path, content = Path(path), io.BytesIO()
        try:
            figure.savefig(content, format=path.suffix.lstrip(".") or "png", dpi=130)
        except ValueError as error:
            raise InvalidSetting(f"{path}: {error}") from None
        try:
            write_atomically(path, content.getvalue())
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error


def find_learning_rate(
    trainer: Trainer,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
) -> LearningRateCurve:
    """Trains a copy of the trainer's network for some steps at rising rates.

    The copy has the trainer's loss, optimizer with a fresh state, batch size, regularization, order
    of the rows and seed, but not its plan of epochs. The trainer and its network stay as they are.
    While it runs, the device holds both.

    Args:
        trainer: its optimizer's own rate and its schedule do not matter here.
        X, y, sample_weight: the training rows, as `Trainer.fit` takes them.
        lowest, highest: the first rate and the last, > 0.
        steps: at most so many, at least 20.

    Raises:
        InvalidInput: data that cannot be used.
        InvalidSetting: rates that do not rise from above 0, or too few steps.
        TrainingDiverged: the loss was not finite before a tenth of the steps was done.

    >>> curve = find_learning_rate(trainer, X, y)  # doctest: +SKIP
    >>> print(curve, curve.suggested)  # doctest: +SKIP
    """
    require_in("lowest", lowest, 0, math.inf, open_high=True)
    require_in("highest", highest, 0, math.inf, open_high=True)
    if not 0 < lowest < highest:
        raise InvalidSetting(f"rates must rise from above 0, not from {lowest:g} to {highest:g}")
    if require_positive_int("steps", steps) < FEWEST_STEPS:
        raise InvalidSetting(f"steps must be at least {FEWEST_STEPS}, not {steps}")
    rates = np.geomspace(lowest, highest, steps)
    found = np.array(_losses(_copy(trainer), (X, y, sample_weight), rates)).reshape(-1, 2)
    if len(found) < max(steps // 10, 2):
        raise TrainingDiverged(
            f"the loss was not finite after {len(found)} of {steps} steps; use a lower `lowest`"
        )
    tried, losses = found.T
    diverged = bool(tried[-1] < rates[-1])
    return LearningRateCurve(tried, losses, _smooth(losses, steps * WIDTH), diverged)


def _copy(trainer: Trainer) -> Trainer:
    terms = trainer.regularization
    return Trainer(
        copy.deepcopy(trainer.network), trainer.loss, trainer.optimizer, trainer.batch_size,
        weight_decay=terms.weight_decay, clip_norm=terms.clip_norm, seed=trainer.seed,
        l1=terms.l1, l2=terms.l2, shuffle=trainer.shuffle, memory_limit=trainer.memory_limit,
    )  # fmt: skip


def _losses(probe: Trainer, rows: tuple[Any, Any, Any], rates: Doubles) -> list[list[float]]:
    """Rate and loss of each step's batch, up to the last that is finite and not too high."""
    step = probe.prepare(*rows)
    try:
        with step.backend.capture(step) as run:
            return _sweep(step, run, rates)
    finally:
        step.release()


def _sweep(step: Step, run: Run, rates: Doubles) -> list[list[float]]:
    found: list[list[float]] = []
    bound = math.inf
    before = np.zeros(2)
    for number, rate in enumerate(rates):
        epoch, batch = divmod(number, step.batches)
        if batch == 0:
            of_epoch = rates[number : number + step.batches]
            step.begin_epoch(epoch, np.pad(of_epoch, (0, step.batches - len(of_epoch))))
            before = np.zeros(2)
        run(batch, batch + 1)
        sums = step.backend.to_host(step.totals)
        loss, weight = sums - before
        before = sums
        if weight == 0:  # a batch of rows that do not count teaches nothing
            continue
        if not (math.isfinite(loss) and loss / weight <= bound):
            break
        found.append([float(rate), float(loss / weight)])
        if number + 1 == len(rates) // 10:
            bound = TOO_HIGH * max(value for _, value in found)
    return found


def _smooth(losses: Doubles, width: float) -> Doubles:
    from scipy.ndimage import gaussian_filter1d  # deferred: slow to import

    result: Doubles = gaussian_filter1d(losses, width, mode="nearest")
    return result
