"""SciPy's L-BFGS over loss and gradients that the engine computes on all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from mlp.backends.protocol import HostArray, Run
from mlp.epoch_plan import EpochPlan
from mlp.estimators.objective import Objective
from mlp.estimators.validation import Rows
from mlp.network import Network
from mlp.optimizers import SGD
from mlp.random import Doubles
from mlp.step import Regularization, Step


class FullBatch:
    """Loss and gradient as a function of all parameters in one vector.

    It is a training step over one batch of all rows, with a learning rate of 0: compiled or
    recorded as any other, it leaves the gradients behind and the parameters alone.

    Args:
        network: its parameters are written by every call.
        objective: the loss.
        rows: the training set, which is put on the device once.
        alpha, l1: the penalty, as the estimator takes it.
    """

    def __init__(
        self, network: Network, objective: Objective, rows: Rows, alpha: float, l1: float
    ) -> None:
        scaling = objective.scaling
        self._network, self._objective = network, objective
        X = network.rows_to_device(rows.X, borrow=True)
        y = network.target_to_device(objective.target(rows.y), len(X), objective.loss)
        weight = network.weight_to_device(rows.weight, len(X))
        terms = Regularization(scaling.of_gradient(l1), scaling.of_gradient(alpha))
        self._step = Step(
            network, objective.loss, SGD(), terms, len(X), X, y, weight, 0, planned=True
        )
        self._weight_sum = len(X) if rows.weight is None else float(rows.weight.sum())
        self._plan = EpochPlan(np.arange(len(X)), None, np.array([1 / self._weight_sum]))
        constants = objective.constants(rows.y)
        self._constant = 0.0
        if constants is not None:
            self._constant = float(np.average(constants, weights=rows.weight))

    def minimize(self, start: Doubles, **options: Any) -> Any:
        """What `scipy.optimize.minimize` returns."""
        minimize: Any = scipy.optimize.minimize  # with type stubs and without
        with self._network.backend.capture(self._step) as run:
            return minimize(
                self._loss_and_gradient, start, method="L-BFGS-B", jac=True, args=(run,),
                options=options,
            )  # fmt: skip

    def _loss_and_gradient(self, packed: Doubles, run: Run) -> tuple[float, Doubles]:
        network, step = self._network, self._step
        backend, scaling = network.backend, self._objective.scaling
        unpack(packed, network)
        step.begin_epoch(0, np.zeros(1), self._plan)
        with np.errstate(over="ignore", invalid="ignore"):  # a line search may go too far
            run(0, 1)
        backend.synchronize()
        loss = step.mean_loss() * self._objective.reported + self._constant
        loss += float(step.penalties[0]) * scaling.outputs / self._weight_sum
        flat = backend.to_host(step.flat.gradients).astype(np.float64)
        layout = network.layout
        gradient = pack(layout.weights(flat), layout.biases(flat))
        return loss, gradient * scaling.outputs


def pack(coefs: list[HostArray], intercepts: list[HostArray]) -> Doubles:
    """All parameters in one vector, float64: the weights of all layers, then the biases."""
    return np.concatenate([np.ravel(a) for a in (*coefs, *intercepts)], dtype=np.float64)


def unpack(packed: Doubles, network: Network) -> None:
    """Gives a network the parameters of such a vector."""
    backend, layout = network.backend, network.layout
    flat = np.zeros(layout.size, network.dtype)
    start = 0
    for view in (*layout.weights(flat), *layout.biases(flat)):
        view[...] = packed[start : start + view.size].reshape(view.shape)
        start += view.size
    backend.copy(backend.from_host(flat, network.dtype), network.parameters.flat)
    network.parameters_changed()


def fit_lbfgs(estimator: Any, network: Network, objective: Objective, rows: Rows) -> None:
    """Fits the network of an estimator; sets `n_iter_` and `loss_`."""
    full = FullBatch(network, objective, rows, estimator.alpha, estimator.l1)
    result = full.minimize(
        pack(estimator.coefs_, estimator.intercepts_),
        maxfun=estimator.max_fun,
        maxiter=estimator.max_iter,
        gtol=estimator.tol,
    )
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = float(result.fun)
    unpack(result.x, network)
