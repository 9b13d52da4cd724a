"""Optimizers: frozen settings, the state they keep per parameter, and one fused update each.

Names, defaults and trajectories are PyTorch's (Lion: optax's). `weight_decay` is PyTorch's too: it
concerns every parameter, is added to the gradient in SGD, RMSprop, Adagrad and Adam, and shrinks
the parameter itself in AdamW and Lion. `lr` is the rate that a schedule starts from.

In the formulas g is the gradient after clipping, p a parameter, t the step from 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from mlp.backends.protocol import Array, Backend
from mlp.errors import InvalidSetting, lookup, require_in
from mlp.parameters import ParameterBuffer

OptimizerState: TypeAlias = dict[str, Array]  # name of the state -> flat buffer (P,)
INFINITY = float("inf")


@dataclass(frozen=True)
class Flat:
    """What an update works on besides its state.

    Attributes:
        parameters, gradients: flat buffers (P,).
        scalars, counters: see `mlp.backends.protocol`.
        copies: the parameters in the compute dtype (P,), which the update has to refresh; None
            where products read the parameters themselves.
    """

    parameters: Array
    gradients: Array
    scalars: Array
    counters: Array
    copies: Array | None


class Optimizer(ABC):
    """Base of all optimizers."""

    name: ClassVar[str]
    lr: float

    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """The flat buffers that the update keeps from step to step."""

    def start(
        self, backend: Backend, like: ParameterBuffer, dtype: np.dtype[Any]
    ) -> OptimizerState:
        """The state before the first step, laid out as the parameters."""
        return {name: backend.zeros((like.layout.size,), dtype) for name in self.state_names()}

    @abstractmethod
    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        """One step on the flat buffers."""

    def _check(self, **fractions: float) -> None:
        """Validates lr, weight_decay and eps where present, and the named numbers in [0, 1)."""
        for setting in ("lr", "weight_decay", "eps"):
            if hasattr(self, setting):
                require_in(setting, getattr(self, setting), 0, INFINITY, open_high=True)
        if getattr(self, "eps", 1) == 0:  # 0 / (sqrt(0) + 0) where a gradient is always 0
            raise InvalidSetting("eps must be greater than 0")
        for setting, value in fractions.items():
            require_in(setting, value, 0, 1, open_high=True)


@dataclass(frozen=True)
class SGD(Optimizer):
    """g += weight_decay p; v = momentum v + (1 - dampening) g (v = g at t = 1); p -= lr v.

    With nesterov, p -= lr (g + momentum v). Without momentum, p -= lr g. Source: torch.optim.SGD.
    """

    name: ClassVar[str] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._check()
        require_in("momentum", self.momentum, 0, 1)
        require_in("dampening", self.dampening, 0, 1)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise InvalidSetting("nesterov needs a momentum above 0 and no dampening")

    def state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        backend.sgd(
            flat.parameters, flat.gradients, state.get("velocity"), flat.scalars, flat.counters,
            self.momentum, self.dampening, self.weight_decay, self.nesterov,
        )  # fmt: skip


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """g += weight_decay p; s = alpha s + (1 - alpha) g^2; p -= lr g / (sqrt(s) + eps).

    Centered: sqrt(s - m^2) with m = alpha m + (1 - alpha) g. With momentum: v = momentum v + the
    quotient; p -= lr v. Source: torch.optim.RMSprop; Hinton's Coursera lecture 6e, 2012.
    """

    name: ClassVar[str] = "rmsprop"
    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        self._check(alpha=self.alpha, momentum=self.momentum)

    def state_names(self) -> tuple[str, ...]:
        optional = (("mean", self.centered), ("velocity", self.momentum > 0))
        return ("square", *(name for name, kept in optional if kept))

    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        backend.rmsprop(
            flat.parameters, flat.gradients,
            state["square"], state.get("mean"), state.get("velocity"),
            flat.scalars, self.alpha, self.eps, self.weight_decay, self.momentum,
        )  # fmt: skip


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """g += weight_decay p; s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods", JMLR 12 (2011);
    torch.optim.Adagrad.
    """

    name: ClassVar[str] = "adagrad"
    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        self._check()
        require_in("lr_decay", self.lr_decay, 0, INFINITY, open_high=True)
        start = self.initial_accumulator_value
        require_in("initial_accumulator_value", start, 0, INFINITY, open_high=True)

    def state_names(self) -> tuple[str, ...]:
        return ("total",)

    def start(
        self, backend: Backend, like: ParameterBuffer, dtype: np.dtype[Any]
    ) -> OptimizerState:
        initial = np.full(like.layout.size, self.initial_accumulator_value)
        return {"total": backend.from_host(initial, dtype)}

    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        backend.adagrad(
            flat.parameters, flat.gradients, state["total"], flat.scalars, flat.counters,
            self.lr_decay, self.weight_decay, self.eps,
        )  # fmt: skip


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps).

    m' = m / (1 - b1^t), v' = v / (1 - b2^t); weight_decay p is added to g first. With amsgrad, v'
    is made of the largest v so far. With eps_hat, p -= lr sqrt(1 - b2^t) / (1 - b1^t) m /
    (sqrt(v) + eps): eps is beside the root of v itself, so that it counts for more in the first
    steps. Source: Kingma, Ba, "Adam", ICLR 2015, algorithm 1 and, of eps_hat, the end of section 2;
    torch.optim.Adam.
    """

    name: ClassVar[str] = "adam"
    decoupled: ClassVar[bool] = False
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    eps_hat: bool = False

    def __post_init__(self) -> None:
        _check_betas(self, self.betas)

    def state_names(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        backend.adam(
            flat.parameters, flat.gradients, state["m"], state["v"], state.get("v_max"),
            flat.scalars, flat.counters,
            self.betas[0], self.betas[1], self.eps, self.weight_decay, self.decoupled,
            self.eps_hat,
        )  # fmt: skip


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, with p *= 1 - lr weight_decay in place of a decay that passes through the gradient.

    Source: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019;
    torch.optim.AdamW.
    """

    name: ClassVar[str] = "adamw"
    decoupled: ClassVar[bool] = True
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Lion(Optimizer):
    """u = sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g; p -= lr (u + weight_decay p).

    Source: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023; optax.lion,
    whose b1 and b2 are `betas` here and whose default decay is kept; it has no default rate.
    """

    name: ClassVar[str] = "lion"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        _check_betas(self, self.betas)

    def state_names(self) -> tuple[str, ...]:
        return ("m",)

    def update(self, backend: Backend, flat: Flat, state: OptimizerState) -> None:
        backend.lion(
            flat.parameters, flat.gradients, state["m"], flat.scalars,
            self.betas[0], self.betas[1], self.weight_decay,
        )  # fmt: skip


def _check_betas(optimizer: Adam | Lion, betas: tuple[float, float]) -> None:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise InvalidSetting(f"betas must be two numbers, not {betas!r}")
    optimizer._check(beta1=betas[0], beta2=betas[1])


OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.name: optimizer for optimizer in (SGD, RMSprop, Adagrad, Adam, AdamW, Lion)
}


def get_optimizer(optimizer: str | Optimizer, lr: float | None = None) -> Optimizer:
    """An Optimizer from itself, or from its name with default settings and, if given, this rate."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    cls: Any = lookup("optimizer", optimizer, OPTIMIZERS)
    made: Optimizer = cls() if lr is None else cls(lr=lr)
    return made
