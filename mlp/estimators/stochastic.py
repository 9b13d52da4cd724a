"""Training by batches: scikit-learn's epoch loop around `mlp.Trainer`."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from mlp.callbacks import Callback
from mlp.errors import TrainingDiverged
from mlp.estimators.epoch_order import EpochOrder, batch_size_of
from mlp.estimators.memory import OptimizerMemory
from mlp.estimators.objective import Objective
from mlp.estimators.validation import Rows, Validation
from mlp.network import Network
from mlp.random import Doubles
from mlp.schedules import Horizon, Schedule, ScheduleState
from mlp.step import Step
from mlp.trainer import Trainer

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)
# The rate at which "adaptive" gives up.
SMALLEST_RATE = 1e-6


@dataclass(frozen=True)
class EstimatorRate(Schedule):
    """The rates that an estimator's memory says, in the engine's scale.

    Attributes:
        memory: its rate, or its schedule.
        factor: see `OutputScaling.rate`.
        epochs: of `partial_fit`, which trains for one epoch at a time, where schedules end.
    """

    memory: OptimizerMemory
    factor: float
    epochs: int | None

    def rates(self, lr: float, horizon: Horizon, state: ScheduleState) -> Doubles:
        memory = self.memory
        if memory.schedule is None:
            return np.full(horizon.steps_per_epoch, memory.learning_rate * self.factor)
        if self.epochs is not None:
            horizon = replace(horizon, epochs=max(self.epochs, horizon.epoch + 1))
        return memory.schedule.rates(lr, horizon, memory.schedule_state) * self.factor

    @property
    def stateless(self) -> bool:
        return False


class EpochLoop(Callback):
    """What scikit-learn does between two epochs: the curves, the messages, when to stop.

    The user's callbacks come after it, and see in `trainer.history` what the estimator reports.
    """

    def __init__(
        self,
        estimator: Any,
        objective: Objective,
        order: EpochOrder,
        memory: OptimizerMemory,
        rows: Rows,
        validation: Validation | None,
        *,
        incremental: bool,
    ) -> None:
        self._estimator, self._objective, self._order = estimator, objective, order
        self._memory, self._validation, self._incremental = memory, validation, incremental
        self._rows = rows.X.shape[0]
        self._constants = objective.constants(rows.y)
        self._rate_factor = objective.scaling.rate(memory.optimizer)

    def on_fit_start(self, trainer: Trainer) -> None:
        trainer.has_validation = self._validation is not None

    def on_epoch_end(self, trainer: Trainer) -> None:
        estimator, memory = self._estimator, self._memory
        history = trainer.history
        estimator.n_iter_ += 1
        estimator.loss_ = history["loss"][-1] = self._loss(trainer)
        history["learning_rate"][-1] /= self._rate_factor
        estimator.t_ += self._rows
        estimator.loss_curve_.append(estimator.loss_)
        self._say("Iteration %d, loss = %.8f" % (estimator.n_iter_, estimator.loss_))  # noqa: UP031
        watched = estimator.loss_
        if self._validation is not None:
            watched = self._validate(trainer, self._validation)
        if not estimator.early_stopping:
            self._compare_losses()
        memory.step, memory.epoch = trainer.step, trainer.epoch
        if memory.schedule is not None:
            memory.schedule_state = memory.schedule.observe(memory.schedule_state, watched)
        if memory.rule.name == "invscaling":
            first = memory.optimizer.lr
            memory.change_rate(float(first) / (estimator.t_ + 1) ** memory.rule.power)
        if self._gives_up():
            trainer.stop("no improvement")
        elif not self._incremental and estimator.n_iter_ == estimator.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def on_diverged(self, trainer: Trainer, error: TrainingDiverged) -> bool:
        estimator = self._estimator
        if not estimator.early_stopping:
            return False
        if estimator.n_iter_ == 0:
            estimator.loss_ = math.nan
        warnings.warn(
            f"Early stopping: {error}. The best weights before that are kept.",
            ConvergenceWarning,
            stacklevel=2,
        )
        estimator._optimizer = None  # its state diverged, too
        return True

    def _say(self, text: str) -> None:
        if self._estimator.verbose:
            print(text)

    def _loss(self, trainer: Trainer) -> float:
        """The epoch's mean loss as scikit-learn reports it: with the penalty before each step."""
        objective, step = self._objective, trainer.step
        assert step is not None
        loss = trainer.history["loss"][-1] * objective.reported
        if self._constants is not None:
            loss += self._order.mean_of(self._constants)
        # The engine's penalty is 1/O of scikit-learn's, as its gradient is.
        return loss + self._order.mean_penalty(step.penalties) * objective.scaling.outputs

    def _validate(self, trainer: Trainer, validation: Validation) -> float:
        """Notes loss and score on the validation set; returns the loss."""
        estimator, history = self._estimator, trainer.history
        loss, score = validation()
        estimator.validation_loss_curve_.append(loss)
        estimator.validation_scores_.append(score)
        for key, value in (("validation_loss", loss), ("validation_score", score)):
            history.setdefault(key, []).append(value)
        self._say("Validation score: %f" % score)  # noqa: UP031
        if estimator.early_stopping:
            enough = not score < estimator.best_validation_score_ + estimator.tol
            self._count(improved=enough)
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            validation.keep()
        return loss

    def _compare_losses(self) -> None:
        estimator = self._estimator
        self._count(improved=not estimator.loss_ > estimator.best_loss_ - estimator.tol)
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)

    def _count(self, *, improved: bool) -> None:
        estimator = self._estimator
        estimator._no_improvement_count = 0 if improved else estimator._no_improvement_count + 1

    def _gives_up(self) -> bool:
        """Whether there was no improvement for too long, and the rate is not divided instead."""
        estimator, memory = self._estimator, self._memory
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if estimator.early_stopping else "Training loss"
        message = "%s did not improve more than tol=%f for %d consecutive epochs." % (  # noqa: UP031
            what,
            estimator.tol,
            estimator.n_iter_no_change,
        )
        if memory.rule.name != "adaptive":
            self._say(f"{message} Stopping.")
            return True
        if memory.learning_rate <= SMALLEST_RATE:
            self._say(f"{message} Learning rate too small. Stopping.")
            return True
        memory.change_rate(memory.learning_rate / 5.0)
        self._say("%s Setting learning rate to %f" % (message, memory.learning_rate))  # noqa: UP031
        estimator._no_improvement_count = 0
        return False


def fit_stochastic(
    estimator: Any,
    network: Network,
    objective: Objective,
    memory: OptimizerMemory,
    rows: Rows,
    held_out: Rows | None,
    *,
    incremental: bool,
) -> None:
    """Trains the network of an estimator for one epoch, or until scikit-learn would stop.

    Args:
        memory: the optimizer, and what it knows from earlier calls.
        rows: the training set.
        held_out: the validation set, or None.
        incremental: one epoch, for `partial_fit`.

    Raises:
        ValueError: training diverged without early stopping.
    """
    count = rows.X.shape[0]
    batch_size = batch_size_of(estimator.batch_size, count)
    random_state = estimator._random_state
    seed = int(random_state.randint(2**31 - 1)) if np.any(estimator.dropout) else 0
    order = EpochOrder(count, batch_size, rows.weight, random_state if estimator.shuffle else None)
    scaling, optimizer = objective.scaling, memory.optimizer
    epochs = 1 if incremental else estimator.max_iter
    clip_norm = estimator.clip_norm
    trainer = Trainer(
        network,
        objective.loss,
        scaling.optimizer(optimizer),
        batch_size,
        EstimatorRate(memory, scaling.rate(optimizer), estimator.max_iter if incremental else None),
        scaling.weight_decay(estimator.weight_decay, optimizer),
        None if clip_norm is None else scaling.of_gradient(clip_norm),
        seed,
        l1=scaling.of_gradient(estimator.l1),
        l2=scaling.of_gradient(estimator.alpha),
        plan=order,
    )
    trainer.step, trainer.epoch = memory.resume_on(network), memory.epoch
    validation = None
    if held_out is not None:
        validation = Validation(estimator, network, objective, held_out)
    loop = EpochLoop(estimator, objective, order, memory, rows, validation, incremental=incremental)
    estimator.n_iter_ = 0
    try:
        trainer.fit(
            rows.X, objective.target(rows.y), epochs,
            sample_weight=rows.weight, callbacks=[loop, *estimator.callbacks],
        )  # fmt: skip
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    except TrainingDiverged as error:
        estimator._optimizer = None
        raise ValueError(NOT_FINITE) from error
    if isinstance(trainer.step, Step):  # else interrupted before the first step was there
        memory.step = trainer.step
    if validation is not None:
        validation.put_back()
