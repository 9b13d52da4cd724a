"""Training steps of one problem on any backend, what can be seen of them, and how close that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import mlp
from mlp.epoch_plan import EpochPlan
from mlp.losses import Loss, get_loss
from mlp.optimizers import Optimizer
from mlp.random import permutation
from mlp.step import Batch, Regularization, Step
from tests.problems import rows, target
from tests.tolerances import assert_close, assert_close_in_norm

SEED = 2**40 + 7  # has bits in both words of a key


@dataclass(frozen=True)
class Problem:
    """What the steps minimise, and how.

    Attributes:
        weights: None, or a function of the order of the first epoch to sample weights (N,).
        targets: see `tests.problems.target`.
        planned: whether every epoch has a plan of all that one can have.
    """

    inputs: int = 5
    layers: Sequence[mlp.Dense] = (mlp.Dense(9, "tanh"), mlp.Dense(7, "gelu"), mlp.Dense(3))
    rows: int = 23
    batch_size: int = 5
    loss: str | Loss = "mse"
    targets: str = "values"
    optimizer: Optimizer = field(default_factory=lambda: mlp.SGD(0.05))
    terms: Regularization = field(default_factory=Regularization)
    weights: Callable[[np.ndarray], np.ndarray] | None = None
    precision: str = "float64"
    planned: bool = False

    def with_(self, **changes: Any) -> Problem:
        return replace(self, **changes)

    def network(self, device: str, threads: int | None = None) -> mlp.Network:
        """A network whose biases are not 0, so that each one counts."""
        made = mlp.Network(
            self.inputs, self.layers, device=device, precision=self.precision, seed=1,
            threads=threads,
        )  # fmt: skip
        rng = np.random.default_rng(2)
        made.set_parameters(made.weights, [0.3 * rng.standard_normal(b.shape) for b in made.biases])
        return made

    def step(self, network: mlp.Network) -> Step:
        loss = get_loss(self.loss)
        y = target(self.targets, self.rows, network.spec.outputs)
        weight = None
        if self.weights is not None:
            weight = self.weights(permutation(SEED, 0, self.rows))
        return Step(
            network, loss, self.optimizer, self.terms, self.batch_size,
            network.rows_to_device(rows(self.rows, self.inputs)),
            network.target_to_device(y, self.rows, loss),
            network.weight_to_device(weight, self.rows),
            SEED,
            planned=self.planned,
        )  # fmt: skip

    def begin_epoch(self, step: Step, epoch: int) -> None:
        plan = None
        if self.planned:
            rng = np.random.default_rng(epoch)
            weights = None if self.weights is None else rng.random(self.rows) + 0.1
            order = rng.permutation(self.rows)
            plan = EpochPlan(order, weights, rng.random(step.batches) + 0.1)
        step.begin_epoch(epoch, self.rates(step), plan)

    def rates(self, step: Step) -> np.ndarray:
        """A rate of its own for each step."""
        return self.optimizer.lr * np.linspace(1, 0.5, step.batches)


def layers(*widths, hidden="tanh", output="identity", dropout=0.0):
    *first, last = widths
    return [*(mlp.Dense(o, hidden, dropout=dropout) for o in first), mlp.Dense(last, output)]


def uneven(order):
    return np.random.default_rng(3).random(len(order)) + 0.1


CLASSES = Problem(layers=layers(9, 7, 3, output="softmax"), loss="cross_entropy", targets="labels")
EVERYTHING = CLASSES.with_(
    inputs=21,
    layers=[
        mlp.Dense(33, "gelu", dropout=0.25), mlp.Dense(130, "relu", dropout=0.5),
        mlp.Dense(31, "tanh"), mlp.Dense(3, "softmax"),
    ],
    rows=150,
    batch_size=37,
    loss=mlp.CrossEntropy(0.1),
    # With PyTorch's eps, the update of a parameter whose gradient is small is all rounding.
    optimizer=mlp.AdamW(0.01, eps=1e-3),
    terms=Regularization(1e-4, 1e-3, 0.02, 0.5),
    weights=uneven,
)  # fmt: skip


def start_alike(ours: Step, theirs: Step) -> None:
    """Copies what outlives a step."""
    for a, b in [
        (ours.flat.parameters, theirs.flat.parameters),
        (ours.totals, theirs.totals),
        *((ours.state[name], theirs.state[name]) for name in theirs.state),
    ]:
        host = theirs.backend.to_host(b)
        ours.backend.copy(ours.backend.from_host(host, host.dtype), a)


def numbers(step: Step) -> dict[str, np.ndarray]:
    """Copies of all that outlives a step."""
    found = {
        "parameters": step.flat.parameters, "gradients": step.flat.gradients,
        "totals": step.totals, "counters": step.counters, "scalars": step.scalars,
        "order": step.order, "rates": step.rates, **step.state,
    }  # fmt: skip
    if step.penalty_steps is not None:
        found["penalties"] = step.penalty_steps.values
    return on_host(step, found)


def on_host(step: Step, arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: step.backend.to_host(array) for name, array in arrays.items()}


def not_written(step: Step) -> set[str]:
    """Deltas that a captured step keeps on the chip: those inside a chain of narrow layers."""
    if step.backend.name != "cuda":
        return set()
    chains = step.backend.chains(step.layers, step.flat.parameters, training=True)
    return {
        f"delta[{i}]"
        for run in chains.runs
        for plan in run.back or ()
        if plan.accumulate
        for i in range(run.start + plan.start, run.start + plan.stop - 1)
    }


def batch_numbers(step: Step, batch: Batch) -> dict[str, np.ndarray]:
    """Copies of all that a captured step made on its way."""
    tape = batch.tape
    found = {"index": batch.index, "x": tape.x, "target": batch.target}
    if batch.weight is not None:
        found["weight"] = batch.weight
    for i in range(len(tape.a)):
        found |= {
            f"a[{i}]": tape.a[i], f"saved[{i}]": tape.saved[i], f"delta[{i}]": tape.delta[i],
        }  # fmt: skip
    for name in not_written(step):
        del found[name]
    return on_host(step, found)


def assert_same_names(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Takes out of what is expected the deltas that were not written."""
    for name in {name for name in expected if name.startswith("delta")} - actual.keys():
        del expected[name]
    assert actual.keys() == expected.keys()


def assert_same_bits(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name, strict=True)


def assert_all_near(
    actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], precision: str, terms: int
) -> None:
    """Whole numbers are the same; others within the bound for sums of `terms` terms."""
    assert_same_names(actual, expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        if array.dtype == np.int64:
            np.testing.assert_array_equal(actual[name], array, err_msg=name)
            continue
        try:
            if precision == "bfloat16":
                assert_close_in_norm(actual[name], array)
            else:
                largest = float(np.abs(array).max(initial=0))
                assert_close(actual[name], array, precision, terms=terms, scale=largest)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
