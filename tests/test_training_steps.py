"""Training steps against a plain float64 NumPy loop that is written out here."""

import numpy as np
import pytest

import mlp
from mlp import random
from mlp.backends import get_backend
from tests.problems import assert_all_close, network, parameters, rows, target
from tests.tolerances import FLOAT64_RELATIVE, assert_close

SEED, ROWS, BATCH = 11, 23, 5
LAYERS = [
    mlp.Dense(9, "tanh", dropout=0.3),
    mlp.Dense(6, "relu", dropout=0.5),
    mlp.Dense(3, "softmax"),
]


def plain_training(net, X, y, w, *, epochs, lr, momentum, batch_size=BATCH, l1=0, l2=0, clip=None):
    """Losses of the epochs, and the parameters after them; of LAYERS."""
    W, b = [v.copy() for v in net.weights], [v.copy() for v in net.biases]
    velocity = [np.zeros_like(v) for v in (*W, *b)]
    step, losses = 0, []
    for epoch in range(epochs):
        order = random.permutation(SEED, epoch, len(X))
        total, total_weight = 0.0, 0.0
        for start in range(0, len(X), batch_size):
            step += 1
            index = order[start : start + batch_size]
            x, labels, weight = X[index], y[index], w[index]
            count = len(index)
            # Forward.
            mask1 = random.dropout_mask(SEED, step, 0, (count, 9), 0.3) / 0.7
            mask2 = random.dropout_mask(SEED, step, 1, (count, 6), 0.5) / 0.5
            h1 = np.tanh(x @ W[0] + b[0])
            z2 = (h1 * mask1) @ W[1] + b[1]
            h2 = np.maximum(z2, 0)
            z3 = (h2 * mask2) @ W[2] + b[2]
            p = np.exp(z3) / np.exp(z3).sum(axis=1, keepdims=True)
            total += -(weight * np.log(p[np.arange(count), labels])).sum()
            total_weight += weight.sum()
            # Backward.
            d3 = (p - np.eye(3)[labels]) * (weight / weight.sum())[:, None]
            d2 = d3 @ W[2].T * mask2 * (z2 > 0)
            d1 = d2 @ W[1].T * mask1 * (1 - h1**2)
            dW = [x.T @ d1, (h1 * mask1).T @ d2, (h2 * mask2).T @ d3]
            dW = [g + l1 * np.sign(v) + l2 * v for g, v in zip(dW, W, strict=True)]
            gradients = [*dW, d1.sum(axis=0), d2.sum(axis=0), d3.sum(axis=0)]
            if clip is not None:
                norm = np.sqrt(sum((g**2).sum() for g in gradients))
                gradients = [g * min(1, clip / (norm + 1e-6)) for g in gradients]
            # Update.
            for value, v, g in zip([*W, *b], velocity, gradients, strict=True):
                v[...] = momentum * v + g
                value -= lr * v
        losses.append(total / total_weight)
    return losses, [*W, *b]


@pytest.mark.parametrize(
    "terms",
    [{}, {"l1": 0.01, "l2": 0.1}, {"clip": 0.1}, {"l1": 0.02, "l2": 0.1, "clip": 0.3}],
    ids=["plain", "penalties", "clipped", "both"],
)
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_three_epochs(terms, weighted, backend):
    X, y = rows(ROWS, 4), target("labels", ROWS, 3)
    w = np.random.default_rng(3).random(ROWS) + 0.1 if weighted else np.ones(ROWS)
    net = network(4, LAYERS, backend)
    losses, expected = plain_training(net, X, y, w, epochs=3, lr=0.1, momentum=0.8, **terms)
    clip = {"clip_norm": terms.pop("clip", None)}
    trainer = mlp.Trainer(
        net, "cross_entropy", mlp.SGD(0.1, momentum=0.8), BATCH, seed=SEED, **terms, **clip
    )
    history = trainer.fit(X, y, 3, sample_weight=w if weighted else None)
    assert_all_close(parameters(net), expected, FLOAT64_RELATIVE)
    np.testing.assert_allclose(history["loss"], losses, rtol=FLOAT64_RELATIVE)


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 24, 1000])
def test_batches_of_every_size(batch_size, backend):
    X, y = rows(ROWS, 4), target("labels", ROWS, 3)
    net = network(4, LAYERS, backend)
    losses, expected = plain_training(
        net, X, y, np.ones(ROWS), epochs=2, lr=0.05, momentum=0, batch_size=batch_size
    )
    trainer = mlp.Trainer(net, "cross_entropy", mlp.SGD(0.05), batch_size, seed=SEED)
    assert trainer.batches == 0
    history = trainer.fit(X, y, 2)
    assert trainer.batches == -(-ROWS // batch_size)
    assert_all_close(parameters(net), expected, FLOAT64_RELATIVE)
    np.testing.assert_allclose(history["loss"], losses, rtol=FLOAT64_RELATIVE)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 40, 64])
def test_every_row_counts_once_in_an_epoch(batch_size, backend):
    # 40 powers of two add up to 2^40 - 1 only if each is among them once.
    net = network(3, [(2, "identity")], backend)
    trainer = mlp.Trainer(net, "mse", batch_size=batch_size)
    trainer.fit(rows(40, 3), target("values", 40, 2), 1, sample_weight=2.0 ** np.arange(40))
    assert net.backend.to_host(trainer.step.totals)[1] == 2.0**40 - 1


def test_the_first_epoch_of_a_frozen_network_reports_its_loss(backend):
    net = network(4, [(5, "tanh"), (3, "softmax")], backend)
    X, y, w = rows(ROWS, 4), target("labels", ROWS, 3), np.arange(1.0, ROWS + 1)
    expected = net.gradients(X, y, "cross_entropy", w).loss
    history = mlp.Trainer(net, "cross_entropy", mlp.SGD(lr=0.0), BATCH).fit(X, y, 2, None, w)
    np.testing.assert_allclose(history["loss"], [expected] * 2, rtol=FLOAT64_RELATIVE)


def test_a_weight_is_as_good_as_repeating_the_row(backend):
    times = np.array([1, 3, 0, 2, 1, 5, 1, 2])
    X, y = rows(8, 4), target("values", 8, 2)
    one = network(4, [(5, "tanh"), (2, "identity")], backend)
    many = network(4, [(5, "tanh"), (2, "identity")], backend)
    first = mlp.Trainer(one, "huber", "adam").fit(X, y, 20, sample_weight=times)
    again = mlp.Trainer(many, "huber", "adam").fit(X.repeat(times, 0), y.repeat(times, 0), 20)
    np.testing.assert_allclose(first["loss"], again["loss"], rtol=FLOAT64_RELATIVE)
    assert_all_close(parameters(one), parameters(many), FLOAT64_RELATIVE)


def test_a_batch_without_weight_changes_nothing_but_momentum(backend):
    net = network(4, [(5, "tanh"), (3, "softmax")], backend)
    before = parameters(net)
    order = random.permutation(SEED, 0, 6)
    weight = np.zeros(6)
    weight[order[:3]] = 1  # the second batch has none
    trainer = mlp.Trainer(net, "cross_entropy", mlp.SGD(0.1), 3, seed=SEED)
    X, y = rows(6, 4), target("labels", 6, 3)
    expected = net.gradients(X[order[:3]], y[order[:3]], "cross_entropy")
    trainer.fit(X, y, 1, sample_weight=weight)
    moved = [
        p - 0.1 * g for p, g in zip(before, (*expected.weights, *expected.biases), strict=True)
    ]
    assert_all_close(parameters(net), moved, FLOAT64_RELATIVE)


def test_dropout_leaves_the_expected_sum(backend):
    # One step at rate 0 of a linear network: the mean loss differs from the one without dropout
    # only by the masks, and the outputs' mean over many rows is theirs without dropout.
    X = np.ones((20_000, 1))
    layers = [mlp.Dense(1, "identity", dropout=0.25), mlp.Dense(1)]
    net = mlp.Network(1, layers, device=backend.name, precision="float64")
    net.set_parameters([[[1.0]], [[1.0]]], [[0.0], [0.0]])
    trainer = mlp.Trainer(net, "mse", mlp.SGD(lr=0.0), len(X), seed=SEED)
    # A kept output is 4/3, a dropped one 0: squares are 16/9 with probability 3/4.
    (loss,) = trainer.fit(X, np.zeros(len(X)), 1)["loss"]
    kept = random.dropout_mask(SEED, 1, 0, (len(X), 1), 0.25).mean()
    assert loss == pytest.approx(16 / 9 * kept, rel=FLOAT64_RELATIVE)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam", "adamw", "lion"])
def test_backends_agree_over_50_steps(optimizer, backend, precision):
    X, y = rows(50, 8), target("labels", 50, 3)
    layers = [mlp.Dense(16, "gelu", dropout=0.2), mlp.Dense(12, "tanh"), mlp.Dense(3, "softmax")]

    def train(device, dtype):
        net = network(8, layers, device, dtype)
        trainer = mlp.Trainer(net, "cross_entropy", optimizer, 10, "cosine", 0.01, 1.0, SEED)
        losses = trainer.fit(X, y, 10)["loss"]
        return losses, parameters(net)

    losses, found = train(backend, precision.name)
    expected_losses, expected = train(get_backend("numpy"), precision.name)
    # The roundings of 50 steps, each of sums over up to 16 terms.
    for ours, theirs in zip([losses, *found], [expected_losses, *expected], strict=True):
        assert_close(ours, theirs, precision, terms=50 * 16)
