"""The training loop: epochs of steps, validation, schedule and callbacks around them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from mlp import random
from mlp.backends.protocol import Run
from mlp.backends.row_stream import RowStream
from mlp.callbacks import AnyCallback, Callback, as_callbacks
from mlp.data.blocks import RowBlocks
from mlp.data.memory import as_bytes
from mlp.epoch_plan import EpochPlan
from mlp.errors import InvalidSetting, TrainingDiverged, require_in, require_positive_int
from mlp.evaluation import Evaluator
from mlp.losses import Loss, get_loss
from mlp.network import Network
from mlp.optimizers import Optimizer, get_optimizer
from mlp.random import Doubles
from mlp.schedules import Horizon, Schedule, get_schedule
from mlp.step import Regularization, Step
from mlp.streaming import rows_to_stream

# Steps run in slices of about this long, so that progress and interrupts get a turn in between.
SLICE_SECONDS = 0.1
# Learning rates that are laid out at once for several epochs.
MOST_RATES = 100_000

History = dict[str, list[float]]


class Trainer:
    """Trains one network.

    Args:
        network: the network, changed in place.
        loss: a name from `mlp.losses.LOSSES`, or a Loss; it must fit the output activation.
        optimizer: an Optimizer, or its name.
        batch_size: rows per step; the last batch of an epoch may be smaller.
        schedule: a Schedule or its name; None for a constant rate. Schedules count epochs over all
            calls of `fit`; one with an end (cosine, one-cycle) ends where the current call does.
        weight_decay: decoupled decay of the weight matrices, W *= 1 - rate * weight_decay before
            each update; apart from an optimizer's own, which concerns biases too.
        clip_norm: bound on the norm of all gradients together; None for none.
        l1, l2: penalty l1 sum|W| + l2/2 sum W² on the weight matrices. The reported losses are
            without it.
        seed: of the shuffles and dropout masks.
        shuffle: False keeps the rows in their order in every epoch.
        plan: asked at the beginning of every epoch with its number, from 0 over all calls of `fit`,
            for what is special about it (see `EpochPlan`). A callback can read
            `trainer.step.penalties` and `trainer.step.batch_sizes` when the epoch has ended.
        memory_limit: bytes that the process may hold, also like "2GB"; None for half of the memory.
            Arrays that would take more are streamed: see `mlp.streaming`.

    Attributes:
        epoch: epochs trained so far, in all calls of `fit`.
        history: one value per epoch: loss (mean over the epoch's batches while training, dropout
            included), learning_rate (of its last step), seconds (of its steps), and with a
            validation set validation_loss and validation_score (see `mlp.evaluation.score`).
        stopped: why training ended early, or None.
        streams: whether the rows of the last call of `fit` were not placed on the device as a
            whole, but fed to it in chunks: there was no room for them, or they came in blocks, or
            sparse.

    Raises:
        InvalidSetting: an unknown name, a size that is not positive, a loss that does not fit.

    The same seeds, data and settings give the same bits on a given machine, and on device "cpu" for
    every number of threads; on "numpy" for a given number of BLAS threads. Two calls
    of `fit` on the same rows with a constant rate give the same as one with the sum of the epochs.
    """

    def __init__(
        self,
        network: Network,
        loss: str | Loss,
        optimizer: str | Optimizer = "adam",
        batch_size: int = 128,
        schedule: str | Schedule | None = None,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        seed: int = 0,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        shuffle: bool = True,
        plan: Callable[[int], EpochPlan] | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise InvalidSetting(f"network must be an mlp.Network, not {type(network).__name__}")
        self.network = network
        self.loss = get_loss(loss)
        self.loss.form(network.spec.output_activation)
        self.optimizer = get_optimizer(optimizer)
        self.batch_size = require_positive_int("batch_size", batch_size)
        self.schedule = get_schedule(schedule)
        for name, value in (("weight_decay", weight_decay), ("l1", l1), ("l2", l2)):
            require_in(name, value, 0, math.inf, open_high=True)
        if clip_norm is not None and require_in("clip_norm", clip_norm, 0, math.inf) == 0:
            raise InvalidSetting("clip_norm must be greater than 0, or None")
        self.regularization = Regularization(l1, l2, weight_decay, clip_norm)
        self.seed = random.check_seed(seed)
        self.shuffle, self.plan = shuffle, plan
        self.memory_limit = None if memory_limit is None else as_bytes(memory_limit)
        self.epoch = 0
        self.last_epoch = 0
        self.history: History = {}
        self.stopped: str | None = None
        self.streams = False
        self.has_validation = False
        self.schedule_state = self.schedule.start()
        self.step: Step | None = None
        self._slice = 1
        self._epochs = 1

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int,
        validation: tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        callbacks: Iterable[AnyCallback] = (),
    ) -> History:
        """Trains for `epochs` more epochs and returns the history of all of them.

        Args:
            X: rows (N, I), also sparse, or a table; or RowBlocks, which bring targets and weights.
            y: targets as the loss takes them: labels (N,), or numbers (N, O), or (N,) where O is 1;
                None for RowBlocks.
            epochs: how many epochs at most.
            validation: (X, y) or (X, y, sample_weight), or RowBlocks, evaluated after every epoch.
            sample_weight: (N,) weights >= 0; the loss of a batch is the weighted mean of its rows.
            callbacks: Callback objects, or functions that are called with the trainer after every
                epoch. They start and follow the epochs in this order, and end in the reverse one.

        Raises:
            InvalidInput: data that cannot be used; the network is then unchanged. What is wrong in
                RowBlocks shows when a block is read.
            TrainingDiverged: the loss or the weights became infinite or NaN, or in float16 the
                gradients of every step did; unless a callback takes it, as EarlyStopping does.
            DeviceOutOfMemory: a GPU has no room for the rows or for such a batch.
            KeyboardInterrupt: passed on after the callbacks' `on_fit_end`, so that BestWeights and
                EarlyStopping have put the best weights back.
        """
        require_positive_int("epochs", epochs)
        hooks = as_callbacks(callbacks)
        step = self.prepare(X, y, sample_weight)
        evaluate = None
        if validation is not None:
            evaluate = self._evaluator(validation)
        self._check_history(evaluate is not None)
        self.has_validation = evaluate is not None
        self.network.loss = self.loss
        self.last_epoch, self.stopped = self.epoch + epochs, None
        with ExitStack() as stack:
            stack.callback(step.release)
            for hook in hooks:
                hook.on_fit_start(self)
                stack.callback(hook.on_fit_end, self)
            try:
                with self.network.backend.capture(step) as run:
                    alone = evaluate is None and not hooks and self.schedule.stateless
                    alone = alone and self.shuffle and self.plan is None
                    while self.epoch < self.last_epoch and self.stopped is None:
                        if alone:
                            self._run_epochs(step, run)
                        else:
                            self._run_epoch(step, run, evaluate, hooks)
            except TrainingDiverged as error:
                answers = [hook.on_diverged(self, error) for hook in hooks]  # each is told
                if not any(answers):
                    raise
                self.stop(str(error))
        return self.history

    def stop(self, reason: str) -> None:
        """Ends training after the current epoch."""
        self.stopped = reason

    @property
    def batches(self) -> int:
        """Steps in an epoch of the current `fit`; 0 before the first."""
        return self.step.batches if self.step else 0

    @property
    def skipped_steps(self) -> int:
        """Updates skipped so far because gradients overflowed; 0 but in the precision float16."""
        return self.step.skipped if self.step else 0

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Trainer cannot be copied or pickled; copy or save its network")

    def prepare(self, X: Any, y: Any, sample_weight: Any) -> Step:
        """A step over these rows, with the optimizer state and counters of earlier ones."""
        network = self.network
        stream = self._stream(X, y, sample_weight)
        data: tuple[Any, ...]
        if stream is None:
            rows = network.rows_to_device(X, borrow=True)
            target = network.target_to_device(y, len(rows), self.loss)
            weight = network.weight_to_device(sample_weight, len(rows))
            data = rows, target, weight
        else:
            data = stream.X, stream.y, stream.weight
        step = Step(
            network, self.loss, self.optimizer, self.regularization,
            self.batch_size, *data, self.seed, stream, planned=self.plan is not None,
        )  # fmt: skip
        if self.step is not None:
            step.resume(self.step)
        self.step, self.streams = step, stream is not None
        return step

    def _stream(self, X: Any, y: Any, sample_weight: Any) -> RowStream | None:
        """A stream of the rows where there is no room for them all, else None."""
        rows = rows_to_stream(
            self.network, self.loss, X, y, sample_weight, batch_size=self.batch_size,
            seed=self.seed, shuffle=self.shuffle, planned=self.plan is not None,
            limit=self.memory_limit,
        )  # fmt: skip
        return None if rows is None else self.network.backend.stream(rows, self.batch_size)

    def _evaluator(self, validation: Any) -> Evaluator:
        if isinstance(validation, RowBlocks):
            validation = validation, None
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise InvalidSetting("validation must be (X, y) or (X, y, sample_weight), or RowBlocks")
        return Evaluator(
            self.network, self.loss, *validation, name="validation ", limit=self.memory_limit
        )

    def _check_history(self, validation: bool) -> None:
        if self.epoch and ("validation_loss" in self.history) != validation:
            raise InvalidSetting(
                "either every call of fit on a trainer has a validation set, or none has: "
                "the history holds one value per epoch"
            )

    def _run_epochs(self, step: Step, run: Run) -> None:
        """Epochs that nobody looks at in between, about a slice's worth at once."""
        count = min(self._epochs, self.last_epoch - self.epoch)
        if self._epochs == 1:
            self._run_epoch(step, run, None, [])
        else:
            rates = np.stack([self._rates(self._horizon(step, i)) for i in range(count)])
            sums = np.zeros((count, 2))
            skipped = step.skipped
            started = time.perf_counter()
            run.epochs(self.epoch, rates, sums)
            seconds = (time.perf_counter() - started) / count
            self._require_updates(step, skipped + count * step.batches)
            for (total, weight), of_epoch in zip(sums.tolist(), rates, strict=True):
                values = {"loss": total / weight if weight else math.nan}
                self._require_finite("loss", values["loss"])
                self._end_epoch(values, float(of_epoch[-1]), seconds)
            self._require_finite_weights(step)
        if self.history["seconds"][-1] * self._epochs < SLICE_SECONDS / 2:
            self._epochs = min(2 * self._epochs, max(1, MOST_RATES // step.batches))
        elif self.history["seconds"][-1] * self._epochs > SLICE_SECONDS * 2:
            self._epochs = max(self._epochs // 2, 1)

    def _plan(self, step: Step) -> EpochPlan:
        plan = EpochPlan() if self.plan is None else self.plan(self.epoch)
        if not isinstance(plan, EpochPlan):
            raise InvalidSetting(f"plan must return an EpochPlan, not {type(plan).__name__}")
        if plan.order is None and not self.shuffle and step.stream is None:
            plan = replace(plan, order=np.arange(step.rows))
        return plan

    def _horizon(self, step: Step, ahead: int = 0) -> Horizon:
        return Horizon(self.epoch + ahead, self.last_epoch, step.batches, step.rows)

    def _run_epoch(
        self, step: Step, run: Run, evaluate: Evaluator | None, hooks: list[Callback]
    ) -> None:
        rates = self._rates(self._horizon(step))
        step.begin_epoch(self.epoch, rates, self._plan(step))
        skipped = step.skipped
        seconds = self._run_slices(step, run, hooks)
        self._require_updates(step, skipped + step.batches)
        values = {"loss": step.mean_loss()}
        self._require_finite("loss", values["loss"])
        self._require_finite_weights(step)
        if evaluate is not None:
            result = evaluate()
            self._require_finite("validation loss", result.loss)
            values |= {"validation_loss": result.loss, "validation_score": result.score}
        self._end_epoch(values, float(rates[-1]), seconds)
        for hook in hooks:
            hook.on_epoch_end(self)

    def _end_epoch(self, values: dict[str, float], rate: float, seconds: float) -> None:
        """Notes an epoch in the history, and shows the schedule its loss."""
        values |= {"learning_rate": rate, "seconds": seconds}
        for key, value in values.items():
            self.history.setdefault(key, []).append(value)
        self.epoch += 1
        watched = values.get("validation_loss", values["loss"])
        self.schedule_state = self.schedule.observe(self.schedule_state, watched)

    def _rates(self, horizon: Horizon) -> Doubles:
        rates = self.schedule.rates(self.optimizer.lr, horizon, self.schedule_state)
        checked = np.asarray(rates, dtype=np.float64)
        if checked.shape != (horizon.steps_per_epoch,):
            raise InvalidSetting(
                f"{type(self.schedule).__name__}.rates must return {horizon.steps_per_epoch} "
                f"rates, one per step, not an array of shape {checked.shape}"
            )
        if not (np.isfinite(checked) & (checked >= 0)).all():
            raise InvalidSetting(f"{type(self.schedule).__name__}.rates must be finite and >= 0")
        return checked

    def _require_finite(self, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the {name} is {loss}")

    def _require_finite_weights(self, step: Step) -> None:
        # The loss was that of the weights before the last step.
        if not step.backend.is_finite(self.network.parameters.flat):
            raise self._diverged("the weights are not finite")

    def _diverged(self, what: str) -> TrainingDiverged:
        return TrainingDiverged(
            f"training diverged in epoch {self.epoch + 1}: {what}; use a "
            "smaller learning rate, clip_norm, or inputs and targets of the size of 1"
        )

    def _require_updates(self, step: Step, if_all_skipped: int) -> None:
        """Raises TrainingDiverged where every update was skipped, and a smaller scale is no help.

        `if_all_skipped` is what the step counts as skipped if every update was.
        """
        if step.scaling is None or step.skipped < if_all_skipped:
            return
        if step.loss_scale < 1:
            raise TrainingDiverged(
                f"training came to a stop in epoch {self.epoch + 1}: the gradients overflow "
                "float16 even with a loss scale below 1; use precision 'bfloat16' or 'float32'"
            )

    def _run_slices(self, step: Step, run: Run, hooks: list[Callback]) -> float:
        """Runs an epoch's steps; returns the seconds they took."""
        done, total = 0, 0.0
        while done < step.batches:
            stop = min(done + self._slice, step.batches)
            started = time.perf_counter()
            run(done, stop)
            step.backend.synchronize()
            elapsed = time.perf_counter() - started
            total += elapsed
            # Only the length of a slice depends on the clock, never what a step computes.
            if elapsed < SLICE_SECONDS / 2 and stop - done == self._slice:
                self._slice *= 2
            elif elapsed > SLICE_SECONDS * 2:
                self._slice = max(self._slice // 2, 1)
            done = stop
            for hook in hooks:
                hook.on_progress(self, done)
        return total
