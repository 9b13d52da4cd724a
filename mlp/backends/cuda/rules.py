"""The optimizers of the contract as rules of the CUDA kernels: one fused update for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from mlp.backends.protocol import Array
from mlp_kernels.cuda.optimizers import Adagrad, Adam, Lion, Rmsprop, Rule, Sgd


class Rules(ABC):
    """The optimizers' operations, each as the rule that it is."""

    @abstractmethod
    def _update(
        self, rule: Rule, parameters: Array, gradients: Array, scalars: Array, counters: Array
    ) -> None:
        """One step of the rule."""

    def rule_of(self, steps: Any) -> Rule:
        """The rule that the optimizer of a `mlp.step.Step` asks for."""
        reader = _RuleReader()
        steps.optimizer.update(reader, steps.flat, steps.state)
        return reader.rule

    def sgd(
        self,
        parameters: Array,
        gradients: Array,
        velocity: Array | None,
        scalars: Array,
        counters: Array,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None:
        rule = Sgd(velocity, momentum, dampening, weight_decay, nesterov)
        self._update(rule, parameters, gradients, scalars, counters)

    def rmsprop(
        self,
        parameters: Array,
        gradients: Array,
        square: Array,
        mean: Array | None,
        velocity: Array | None,
        scalars: Array,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
    ) -> None:
        rule = Rmsprop(square, mean, velocity, alpha, eps, weight_decay, momentum)
        self._update(rule, parameters, gradients, scalars, None)

    def adagrad(
        self,
        parameters: Array,
        gradients: Array,
        total: Array,
        scalars: Array,
        counters: Array,
        lr_decay: float,
        weight_decay: float,
        eps: float,
    ) -> None:
        rule = Adagrad(total, lr_decay, weight_decay, eps)
        self._update(rule, parameters, gradients, scalars, counters)

    def adam(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        v: Array,
        v_max: Array | None,
        scalars: Array,
        counters: Array,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
        eps_hat: bool = False,
    ) -> None:
        rule = Adam(m, v, v_max, beta1, beta2, eps, weight_decay, decoupled, eps_hat)
        self._update(rule, parameters, gradients, scalars, counters)

    def lion(
        self,
        parameters: Array,
        gradients: Array,
        m: Array,
        scalars: Array,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> None:
        self._update(Lion(m, beta1, beta2, weight_decay), parameters, gradients, scalars, None)


class _RuleReader(Rules):
    """Notes which update it is asked for, and does not do it."""

    rule: Rule

    def _update(self, rule: Rule, *_: Any) -> None:
        self.rule = rule
