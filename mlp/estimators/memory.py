"""What training keeps from one call of `partial_fit` to the next: the optimizer and its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from mlp.backends.protocol import FIRST_LOSS_SCALE, Array, Backend, HostArray
from mlp.errors import InvalidSetting
from mlp.estimators.settings import RateRule
from mlp.network import Network
from mlp.optimizers import SGD, Optimizer
from mlp.schedules import Schedule, ScheduleState
from mlp.step import Step


@dataclass
class OptimizerMemory:
    """An optimizer in the middle of a run.

    Attributes:
        optimizer: as the user asked for it, before any `OutputScaling`.
        rule: how scikit-learn changes the rate.
        schedule: what changes it in place of the rule, or None.
        learning_rate: the rate of the next epoch, without a schedule.
        epoch, schedule_state: place in the schedule.
        step: the latest training step, whose state lives on the network's device; None in a copy.
        held: the same on the host.
    """

    optimizer: Optimizer
    rule: RateRule
    schedule: Schedule | None
    learning_rate: float
    epoch: int = 0
    schedule_state: ScheduleState = field(default_factory=dict)
    step: Step | None = None
    held: HeldState | None = None

    def resume_on(self, network: Network) -> Step | None:
        """What a Trainer's next step goes on from; None where nothing was trained yet."""
        if self.step is not None and self.step.network is not network:
            self.held, self.step = HeldState.of(self.step), None
        if self.step is None and self.held is not None:
            return cast(Step, self.held.on(network))  # all that `Step.resume` reads
        return self.step

    def change_rate(self, rate: float) -> None:
        """Goes on with another rate.

        scikit-learn's momentum holds past updates, rates included, and the engine's holds past
        gradients. The same update follows if what is held is multiplied by old rate / new rate.
        """
        factor = self.learning_rate / rate
        self.learning_rate = rate
        if factor == 1 or not isinstance(self.optimizer, SGD) or self.schedule is not None:
            return
        if self.step is not None and "velocity" in self.step.state:
            _multiply(self.step.backend, self.step.state["velocity"], factor)
        elif self.held is not None:
            for array in self.held.state.get("velocity", []):
                array *= factor

    def take_over(self, earlier: OptimizerMemory) -> None:
        """Goes on with the state of another memory, whose settings may have been others.

        Raises:
            InvalidSetting: its optimizer keeps other things.
        """
        if set(earlier.optimizer.state_names()) != set(self.optimizer.state_names()):
            raise InvalidSetting(
                f"warm_start='optimizer' cannot go on from {earlier.optimizer.name!r} with "
                f"{self.optimizer.name!r}, which keeps another state; use warm_start=True"
            )
        self.step, self.held = earlier.step, earlier.held
        if self.schedule == earlier.schedule:
            self.epoch, self.schedule_state = earlier.epoch, earlier.schedule_state
        rate = self.learning_rate
        self.learning_rate = earlier.learning_rate
        if (self.optimizer, self.rule) != (earlier.optimizer, earlier.rule):
            self.change_rate(rate)

    def on_host(self) -> OptimizerMemory:
        """A copy that holds host arrays only."""
        held = self.held if self.step is None else HeldState.of(self.step)
        return OptimizerMemory(
            self.optimizer, self.rule, self.schedule, self.learning_rate, self.epoch,
            dict(self.schedule_state), None, held,
        )  # fmt: skip


@dataclass(frozen=True)
class HeldState:
    """The state of a Step on the host, in a form that does not depend on the device's layout.

    Attributes:
        state: name -> one array per weight matrix, then one per bias vector.
        counters, scaling: see `mlp.backends.protocol`.
    """

    state: dict[str, list[HostArray]]
    counters: HostArray
    scaling: HostArray | None

    @classmethod
    def of(cls, step: Step) -> HeldState:
        backend, layout = step.backend, step.network.layout
        state = {}
        for name, flat in step.state.items():
            host = backend.to_host(flat)
            state[name] = [a.copy() for a in (*layout.weights(host), *layout.biases(host))]
        scaling = None if step.scaling is None else backend.to_host(step.scaling)
        return cls(state, backend.to_host(step.counters), scaling)

    def on(self, network: Network) -> _DeviceState:
        """The state on the device of a network of the same sizes."""
        backend, layout = network.backend, network.layout
        state = {}
        for name, arrays in self.state.items():
            flat = np.zeros(layout.size, network.dtype)
            views = (*layout.weights(flat), *layout.biases(flat))
            for view, array in zip(views, arrays, strict=True):
                view[...] = array
            state[name] = backend.from_host(flat, network.dtype)
        scaling = self.scaling
        if scaling is None:  # of a precision without loss scaling; only float16 reads it
            scaling = np.array([FIRST_LOSS_SCALE, 0.0])
        return _DeviceState(
            state, backend.from_host(self.counters, np.int64),
            backend.from_host(scaling, np.float64),
        )  # fmt: skip


@dataclass(frozen=True)
class _DeviceState:
    state: dict[str, Array]
    counters: Array
    scaling: Array


def _multiply(backend: Backend, flat: Array, factor: float) -> None:
    """Flat *= factor, by the one operation of the contract that can: (flat - 0) / (1 / factor)."""
    column: Any = flat.reshape(-1, 1)
    mean = backend.from_host(np.zeros(1), np.float64)
    scale = backend.from_host(np.array([1 / factor]), np.float64)
    backend.convert_rows(column, column, mean, scale)
