"""Learning-rate schedules: frozen settings, and a pure function from place in training to rate.

The rates of an epoch's steps are computed before the epoch starts, so that they can live in device
memory. A schedule that answers to the validation loss keeps what it needs in a small dict, which
is part of the training state: nothing hides in an object.

Epochs and steps count from 0 here. Where a schedule exists in PyTorch, argument names, defaults and
values are PyTorch's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np

from mlp.errors import lookup, require_in, require_positive_int
from mlp.random import Doubles

ScheduleState: TypeAlias = dict[str, float]
INFINITY = float("inf")


@dataclass(frozen=True)
class Horizon:
    """Where in training an epoch stands: its number, of how many, how long each is.

    Earlier epochs count as if they had been as long as this one.
    """

    epoch: int
    epochs: int
    steps_per_epoch: int
    samples: int

    def steps(self) -> Doubles:
        """Numbers of this epoch's steps, counted from the start of training: (steps_per_epoch,)."""
        first = self.epoch * self.steps_per_epoch
        return np.arange(first, first + self.steps_per_epoch, dtype=np.float64)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Schedule:
    """Base: the learning rate stays what the optimizer was given."""

    name: ClassVar[str] = "constant"

    def start(self) -> ScheduleState:
        """The state before the first epoch."""
        return {}

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        """The learning rate of each step of one epoch: (steps_per_epoch,)."""
        return np.full(horizon.steps_per_epoch, lr)

    @property
    def stateless(self) -> bool:
        """Whether the rates of an epoch depend on no earlier epoch's loss."""
        return type(self).observe is Schedule.observe

    def observe(self, state: ScheduleState, loss: float) -> ScheduleState:
        """The state after an epoch that ended with this (validation) loss."""
        return state


class Constant(Schedule):
    """lr."""


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr * gamma^floor(epoch / step_size). Source: torch.optim.lr_scheduler.StepLR."""

    name: ClassVar[str] = "step"
    step_size: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        require_positive_int("step_size", self.step_size)
        require_in("gamma", self.gamma, 0, INFINITY)

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        decay = self.gamma ** (horizon.epoch // self.step_size)
        return np.full(horizon.steps_per_epoch, lr * decay)


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr * gamma^epoch. Source: torch.optim.lr_scheduler.ExponentialLR."""

    name: ClassVar[str] = "exponential"
    gamma: float = 0.95

    def __post_init__(self) -> None:
        require_in("gamma", self.gamma, 0, INFINITY)

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        return np.full(horizon.steps_per_epoch, lr * self.gamma**horizon.epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi t / T)) / 2 at step t of T.

    Source: Loshchilov, Hutter, "SGDR", ICLR 2017, without restarts;
    torch.optim.lr_scheduler.CosineAnnealingLR stepped once per batch.
    """

    name: ClassVar[str] = "cosine"
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        require_in("eta_min", self.eta_min, 0, INFINITY)

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        turn = 1 + np.cos(np.pi * horizon.steps() / horizon.total_steps)
        return self.eta_min + (lr - self.eta_min) * turn / 2


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """A line from start_factor * rate to the rate over the first `epochs`, on top of `after`.

    Step t of the W = epochs * steps_per_epoch warm-up steps is scaled by
    start_factor + (1 - start_factor) t / W, as torch.optim.lr_scheduler.LinearLR stepped per batch.
    """

    name: ClassVar[str] = "warmup"
    epochs: int = 5
    start_factor: float = 1 / 3
    after: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        require_positive_int("epochs", self.epochs)
        require_in("start_factor", self.start_factor, 0, 1)
        object.__setattr__(self, "after", get_schedule(self.after))

    def start(self) -> ScheduleState:
        return self.after.start()

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        passed = np.minimum(horizon.steps() / (self.epochs * horizon.steps_per_epoch), 1)
        factor = self.start_factor + (1 - self.start_factor) * passed
        return self.after.rates(lr, horizon, state) * factor

    @property
    def stateless(self) -> bool:
        return self.after.stateless

    def observe(self, state: ScheduleState, loss: float) -> ScheduleState:
        return self.after.observe(state, loss)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From lr / div_factor up to lr in the first pct_start of all steps, then down, on cosines.

    The last step's rate is lr / div_factor / final_div_factor. Source: Smith, Topin,
    "Super-convergence", 2018; torch.optim.lr_scheduler.OneCycleLR with max_lr = lr and momentum
    left alone.
    """

    name: ClassVar[str] = "one_cycle"
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        require_in("pct_start", self.pct_start, 0, 1)
        require_in("div_factor", self.div_factor, 1, INFINITY)
        require_in("final_div_factor", self.final_div_factor, 1, INFINITY)

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        last = max(horizon.total_steps - 1, 1)
        peak = min(max(self.pct_start * horizon.total_steps - 1, 0.0), last)
        low, final = lr / self.div_factor, lr / self.div_factor / self.final_div_factor
        t = horizon.steps()
        rise = _cosine(low, lr, t / peak) if peak > 0 else np.full_like(t, lr)
        fall = _cosine(lr, final, (t - peak) / (last - peak)) if last > peak else rise
        return np.where(t <= peak, rise, fall)


def _cosine(start: float, end: float, progress: Doubles) -> Doubles:
    return end + (start - end) / 2 * (1 + np.cos(np.pi * np.minimum(progress, 1)))


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """lr / (t + 1)^power, t = training rows seen before this epoch.

    Source: scikit-learn's MLPClassifier(learning_rate="invscaling", power_t=power).
    """

    name: ClassVar[str] = "inverse_scaling"
    power: float = 0.5

    def __post_init__(self) -> None:
        require_in("power", self.power, 0, INFINITY)

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        seen = horizon.epoch * horizon.samples
        return np.full(horizon.steps_per_epoch, lr / (seen + 1) ** self.power)


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiply the rate by `factor` when the loss has not improved for more than `patience` epochs.

    The loss is the validation loss where there is one, else the training loss; it improves when it
    falls below best * (1 - threshold), or best * (1 + threshold) for a negative best. Source:
    torch.optim.lr_scheduler.ReduceLROnPlateau (mode "min", threshold_mode "rel"). Its `eps`, which
    skips changes of the rate smaller than 1e-8, has no counterpart, and for a negative best PyTorch
    asks for best * (1 - threshold), which is worse than the best.
    """

    name: ClassVar[str] = "plateau"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        require_in("factor", self.factor, 0, 1, open_high=True)
        require_in("patience", self.patience, 0, INFINITY)
        require_in("threshold", self.threshold, 0, INFINITY)
        require_in("cooldown", self.cooldown, 0, INFINITY)
        require_in("min_lr", self.min_lr, 0, INFINITY)

    def start(self) -> ScheduleState:
        return {"best": INFINITY, "bad_epochs": 0, "cooling": 0, "reductions": 0}

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        reduced = lr * self.factor ** state["reductions"]
        return np.full(horizon.steps_per_epoch, max(reduced, min(self.min_lr, lr)))

    def observe(self, state: ScheduleState, loss: float) -> ScheduleState:
        best, bad = state["best"], state["bad_epochs"]
        cooling, reductions = state["cooling"], state["reductions"]
        margin = self.threshold * abs(best) if math.isfinite(best) else 0.0
        if loss < best - margin:
            best, bad = loss, 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > self.patience:
            cooling, bad, reductions = self.cooldown, 0, reductions + 1
        return {"best": best, "bad_epochs": bad, "cooling": cooling, "reductions": reductions}


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.name: schedule
    for schedule in (
        Constant,
        StepDecay,
        Exponential,
        Cosine,
        LinearWarmup,
        OneCycle,
        InverseScaling,
        ReduceOnPlateau,
    )
}


def get_schedule(schedule: str | Schedule | None) -> Schedule:
    """A Schedule from itself, from its name with default settings, or Constant from None."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    return lookup("schedule", schedule, SCHEDULES)()
