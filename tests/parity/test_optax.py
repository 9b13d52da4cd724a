"""Lion follows optax's trajectory, with gradients by JAX of a network written in JAX."""

import inspect

import numpy as np
import pytest

import mlp
from mlp.random import permutation
from tests.problems import assert_all_close, network, parameters, rows, target
from tests.tolerances import FLOAT64_RELATIVE

REASON = "optax and JAX are not installed: pip install fused-mlp[bench]"
jax = pytest.importorskip("jax", reason=REASON)
optax = pytest.importorskip("optax", reason=REASON)
jnp = jax.numpy

ROWS, SEED = 22, 6


@pytest.fixture(autouse=True)
def double_precision():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def jax_loss(tensors, X, y):
    W1, W2, b1, b2 = tensors
    logits = jnp.tanh(X @ W1 + b1) @ W2 + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def optax_training(optimizer, tensors, X, y, batch_size, epochs):
    """Parameters after each epoch over the same batches."""
    state = optimizer.init(tensors)

    @jax.jit
    def step(tensors, state, X, y):
        updates, state = optimizer.update(jax.grad(jax_loss)(tensors, X, y), state, tensors)
        return optax.apply_updates(tensors, updates), state

    for epoch in range(epochs):
        order = permutation(SEED, epoch, len(X))
        for start in range(0, len(X), batch_size):
            index = order[start : start + batch_size]
            tensors, state = step(tensors, state, X[index], y[index])
        yield [np.asarray(tensor) for tensor in tensors]


@pytest.mark.parametrize("batch_size", [ROWS, 5], ids=["full", "ragged"])
@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.01, "weight_decay": 0.0},
        {"lr": 0.01, "weight_decay": 0.2},
        {"lr": 0.003, "betas": (0.5, 0.8), "weight_decay": 0.05},
    ],
    ids=["plain", "decay", "betas"],
)
def test_lion_follows_50_steps(settings, batch_size, backend):
    epochs = 50 // -(-ROWS // batch_size)
    X, y = rows(ROWS, 4), target("labels", ROWS, 3)
    net = network(4, [(8, "tanh"), (3, "softmax")], backend)
    b1, b2 = settings.get("betas", (0.9, 0.99))
    theirs = optax.lion(settings["lr"], b1, b2, weight_decay=settings["weight_decay"])
    start = [jnp.asarray(p) for p in parameters(net)]
    expected = list(optax_training(theirs, start, X, y, batch_size, epochs))
    found = []
    trainer = mlp.Trainer(net, "cross_entropy", mlp.Lion(**settings), batch_size, seed=SEED)
    trainer.fit(X, y, epochs, callbacks=[lambda t: found.append(parameters(t.network))])
    for ours, theirs_now in zip(found, expected, strict=True):
        assert_all_close(ours, theirs_now, FLOAT64_RELATIVE)


def test_defaults_are_optaxs():
    theirs = inspect.signature(optax.lion).parameters
    assert mlp.Lion().betas == (theirs["b1"].default, theirs["b2"].default)
    assert mlp.Lion().weight_decay == theirs["weight_decay"].default
