"""Epochs with a plan: the steps of scikit-learn's MLP, whose order, weights and penalty are given.

The truth is a loop in plain NumPy whose updates are scikit-learn's own.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

import mlp
from mlp.errors import InvalidInput, InvalidSetting
from mlp.step import EpochPlan
from tests.problems import assert_all_close, network, parameters, rows, target

N, BATCH, EPOCHS = 47, 10, 5
X, Y, W = rows(N, 4), target("labels", N, 3), np.random.default_rng(5).random(N) + 0.1
L1, L2 = 0.03, 0.2
ORDERS = [np.random.default_rng(epoch).permutation(N) for epoch in range(EPOCHS)]


def batches(order):
    return [order[first : first + BATCH] for first in range(0, N, BATCH)]


def plan_of(epoch: int) -> EpochPlan:
    """Each step's penalty divided by the sum of its weights."""
    scale = [1 / W[batch].sum() for batch in batches(ORDERS[epoch])]
    return EpochPlan(order=ORDERS[epoch], penalty_scale=scale)


def plain_training(net: mlp.Network, optimizer, orders, rates):
    """(parameters, penalties of the last epoch) of a tanh layer and a softmax layer."""
    params = W1, W2, b1, b2 = [values.copy() for values in parameters(net)]
    for order, rate in zip(orders, rates, strict=True):
        optimizer.learning_rate, penalties = rate, []
        for batch in batches(order):
            x, w, total = X[batch], W[batch, None], W[batch].sum()
            hidden = np.tanh(x @ W1 + b1)
            output = np.exp(hidden @ W2 + b2)
            output /= output.sum(axis=1, keepdims=True)
            delta2 = (output - np.eye(3)[Y[batch]]) * w / total
            delta1 = delta2 @ W2.T * (1 - hidden**2)
            penalties.append(sum(L1 * np.abs(v).sum() + L2 / 2 * (v**2).sum() for v in params[:2]))
            of_W1, of_W2 = ((L1 * np.sign(v) + L2 * v) / total for v in params[:2])
            grads = [x.T @ delta1 + of_W1, hidden.T @ delta2 + of_W2, delta1.sum(0), delta2.sum(0)]
            optimizer.update_params(params, grads)
    return params, penalties


def network_on(backend) -> mlp.Network:
    return network(4, [(6, "tanh"), (3, "softmax")], backend)


def trainer_on(backend, **settings) -> mlp.Trainer:
    chosen = {"batch_size": BATCH, "l1": L1, "l2": L2, **settings}
    return mlp.Trainer(network_on(backend), "cross_entropy", **chosen)


ADAM = {"betas": (0.8, 0.95), "eps": 1e-2, "eps_hat": True}


@pytest.mark.parametrize(
    ("ours", "theirs", "gamma"),
    [
        (mlp.Adam(0.05, **ADAM), lambda p: AdamOptimizer(p, 0.05, 0.8, 0.95, 1e-2), 1.0),
        (
            mlp.Adam(0.05, betas=(0.0, 0.0), eps=1e-2, eps_hat=True),
            lambda p: AdamOptimizer(p, 0.05, 0.0, 0.0, 1e-2),
            1.0,
        ),
        (mlp.SGD(0.1, 0.9, True), lambda p: SGDOptimizer(p, 0.1), 0.2),
        (mlp.SGD(0.1, 0.7), lambda p: SGDOptimizer(p, 0.1, momentum=0.7, nesterov=False), 0.2),
        (mlp.SGD(0.02, 1.0), lambda p: SGDOptimizer(p, 0.02, momentum=1, nesterov=False), 1.0),
        (mlp.SGD(0.1), lambda p: SGDOptimizer(p, 0.1, momentum=0, nesterov=False), 1.0),
    ],
    ids=["adam", "adam without memory", "nesterov", "momentum", "momentum 1", "plain"],
)
def test_the_steps_of_scikit_learn(ours, theirs, gamma, backend):
    """Their velocity holds the learning rate: where that changes, a callback rescales ours."""
    found = []

    def after(trainer):
        if gamma != 1.0:
            engine, velocity = trainer.network.backend, trainer.step.state["velocity"]
            rescaled = engine.to_host(velocity) / gamma
            engine.copy(engine.from_host(rescaled, np.float64), velocity)
        found.append(trainer.step.penalties)

    trainer = trainer_on(backend, optimizer=ours, schedule=mlp.Exponential(gamma), plan=plan_of)
    before = network_on(backend)
    trainer.fit(X, Y, EPOCHS, sample_weight=W, callbacks=[after])
    expected, penalties = plain_training(
        before, theirs(parameters(before)), ORDERS, ours.lr * gamma ** np.arange(EPOCHS)
    )
    assert_all_close(parameters(trainer.network), expected, 1e-12)
    assert_all_close([found[-1]], [penalties], 1e-12)
    np.testing.assert_array_equal(trainer.step.batch_sizes, [10, 10, 10, 10, 7])


def test_rows_in_their_order(backend):
    ours = trainer_on(backend, optimizer=mlp.SGD(0.1), shuffle=False, l1=0, l2=0)
    planned = trainer_on(
        backend, optimizer=mlp.SGD(0.1), l1=0, l2=0, plan=lambda _: EpochPlan(np.arange(N))
    )
    for trainer in (ours, planned):
        trainer.fit(X, Y, 2)
    net = network_on(backend)
    for _ in range(2):
        for batch in batches(np.arange(N)):
            gradients = net.gradients(X[batch], Y[batch], "cross_entropy")
            net.set_parameters(
                [v - 0.1 * g for v, g in zip(net.weights, gradients.weights, strict=True)],
                [v - 0.1 * g for v, g in zip(net.biases, gradients.biases, strict=True)],
            )
    assert_all_close(parameters(ours.network), parameters(net), 1e-12)
    assert_all_close(parameters(planned.network), parameters(net), 1e-12)


def test_an_empty_plan_changes_nothing(backend):
    with_plan, without = trainer_on(backend, plan=lambda _: EpochPlan()), trainer_on(backend)
    for trainer in (with_plan, without):
        trainer.fit(X, Y, 3, sample_weight=W)
    assert with_plan.history["loss"] == without.history["loss"]
    for a, b in zip(parameters(with_plan.network), parameters(without.network), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_one_epoch(backend):
    """In epochs 0 and 2 those of the plan, in epoch 1 again those that fit was given."""
    weights, kept = [2 * W[::-1], None, W**2], W.copy()
    asked, seen = [], []

    def plan(epoch):
        asked.append(epoch)
        return EpochPlan(weights=weights[epoch])

    trainer = trainer_on(backend, plan=plan)
    trainer.fit(X, Y, 2, sample_weight=W, callbacks=[lambda t: seen.append(total_weight(t))])
    trainer.fit(X, Y, 1, sample_weight=W, callbacks=[lambda t: seen.append(total_weight(t))])
    np.testing.assert_allclose(seen, [2 * W.sum(), W.sum(), (W**2).sum()])
    assert asked == [0, 1, 2]
    np.testing.assert_array_equal(W, kept)
    one = trainer_on(backend)
    one.fit(X, Y, 1, sample_weight=weights[0])
    assert one.history["loss"] == trainer.history["loss"][:1]


def total_weight(trainer) -> float:
    return float(trainer.step.backend.to_host(trainer.step.totals)[1])


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (EpochPlan(order=np.arange(N - 1)), InvalidSetting, r"order must have the shape \(47,\)"),
        (EpochPlan(order=np.ones(N)), InvalidInput, "order must be whole numbers, not float64"),
        (EpochPlan(order=np.arange(1, N + 1)), InvalidInput, "row numbers from 0 to 46"),
        (EpochPlan(order=np.arange(-1, N - 1)), InvalidInput, "row numbers from 0 to 46"),
        (EpochPlan(weights=-W), InvalidInput, "weights must be finite and >= 0"),
        (EpochPlan(weights=W[1:]), InvalidSetting, r"weights must have the shape \(47,\)"),
        (EpochPlan(penalty_scale=[1.0] * 4), InvalidSetting, r"penalty_scale must have the sh"),
        (EpochPlan(penalty_scale=[np.nan] * 5), InvalidInput, "penalty_scale must be finite"),
        ({"order": ORDERS[0]}, InvalidSetting, "plan must return an EpochPlan, not dict"),
    ],
)
def test_plans_that_fit_no_epoch(plan, error, message):
    trainer = mlp.Trainer(
        mlp.Network(4, [mlp.Dense(3, "softmax")], device="numpy"), "cross_entropy",
        batch_size=BATCH, plan=lambda _: plan,
    )  # fmt: skip
    with pytest.raises(error, match=message):
        trainer.fit(X, Y, 1, sample_weight=W)


def test_weights_for_steps_without():
    net = mlp.Network(4, [mlp.Dense(3, "softmax")], device="numpy")
    trainer = mlp.Trainer(net, "cross_entropy", plan=lambda _: EpochPlan(weights=W))
    with pytest.raises(InvalidSetting, match="fit was given no sample_weight"):
        trainer.fit(X, Y, 1)


def test_penalties_are_kept_where_there_are_plans():
    net = mlp.Network(4, [mlp.Dense(3, "softmax")], device="numpy")
    trainer = mlp.Trainer(net, "cross_entropy", l2=0.1, batch_size=BATCH)
    trainer.fit(X, Y, 1)
    with pytest.raises(InvalidSetting, match="kept where epochs have plans"):
        _ = trainer.step.penalties
    trainer = mlp.Trainer(net, "cross_entropy", batch_size=BATCH, plan=lambda _: EpochPlan())
    trainer.fit(X, Y, 1)
    np.testing.assert_array_equal(trainer.step.penalties, np.zeros(5))
