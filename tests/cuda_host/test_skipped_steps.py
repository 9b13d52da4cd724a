"""Float16 on the GPU backend: gradients that overflow are skipped, counted, and training goes on.

The numbers are those of tests/test_loss_scaling.py: by hand, delta = -20, so that 2^16 and the four
scales below it overflow float16.
"""

from __future__ import annotations

import numpy as np
import pytest

import mlp
from tests.cuda_host.runs import assert_same_network, machine
from tests.problems import parameters, rows, target
from tests.tolerances import SAME_RUN_LOSS, assert_close

DELTA, OVERFLOWS, SCALE = -20.0, 5, 2.0**11


@pytest.fixture(params=[(9, 0), (7, 5)], ids=["tensor-cores", "plain"], autouse=True)
def device(request):
    with machine(capability=request.param):
        yield


def one_weight(optimizer, **settings):
    net = mlp.Network(1, [mlp.Dense(1)], device="cuda", precision="float16")
    net.set_parameters([[[0.0]]], [[0.0]])
    return mlp.Trainer(net, "mse", optimizer, 1, **settings)


@pytest.mark.parametrize("whole", [True, False], ids=["epochs", "by_epoch"])
def test_steps_are_skipped_until_the_gradients_fit(whole):
    trainer = one_weight(mlp.SGD(0.125), weight_decay=0.5, l2=0.5)
    hooks = [] if whole else [lambda trainer: None]
    trainer.fit([[1.0]], [10.0], OVERFLOWS, callbacks=hooks)
    assert trainer.skipped_steps == OVERFLOWS
    assert trainer.step.loss_scale == SCALE
    assert [p.item() for p in parameters(trainer.network)] == [0, 0]
    trainer.fit([[1.0]], [10.0], 1, callbacks=hooks)
    assert trainer.skipped_steps == OVERFLOWS
    assert trainer.step.loss_scale == SCALE
    assert [p.item() for p in parameters(trainer.network)] == [-0.125 * DELTA] * 2


@pytest.mark.parametrize("optimizer", [mlp.AdamW(0.5, amsgrad=True), mlp.Lion(0.5)])
def test_the_first_update_is_the_first_to_the_optimizer(optimizer):
    """Adam's first step is the rate itself; its sixth, from moments of 0, would be far less."""
    trainer = one_weight(optimizer)
    trainer.fit([[1.0]], [10.0], OVERFLOWS)
    assert all(not trainer.step.backend.to_host(s).any() for s in trainer.step.state.values())
    trainer.fit([[1.0]], [10.0], 1)
    np.testing.assert_allclose(parameters(trainer.network)[0], [[0.5]], rtol=1e-6)


def network(device):
    layers = [mlp.Dense(16, "relu"), mlp.Dense(2)]
    return mlp.Network(5, layers, device=device, precision="float16", seed=2)


def test_one_row_that_is_far_off_skips_its_steps_alone():
    """Targets beyond float16's range in one row: the others are learnt meanwhile."""
    X, y = rows(64, 5), target("values", 64, 2)
    y[7] = 1e6
    found = {}
    for device in ("numpy", "cuda"):
        net = network(device)
        trainer = mlp.Trainer(net, mlp.MSE(), mlp.SGD(1e-3), 8, clip_norm=1.0)
        trainer.fit(X, y, 3)
        found[device] = trainer.skipped_steps, trainer.step.loss_scale, parameters(net)
    skipped, scale, weights = found["cuda"]
    assert (skipped, scale) == found["numpy"][:2]
    assert skipped == 3  # of 24 steps
    assert scale == 2.0**13
    for ours, theirs in zip(weights, found["numpy"][2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=SAME_RUN_LOSS["bfloat16"], atol=1e-4)


def test_what_comes_after_an_overflow_is_what_float32_learns():
    X, y = rows(120, 6), target("labels", 120, 3)
    losses = {}
    for precision in ("float32", "float16"):
        layers = [mlp.Dense(16, "relu"), mlp.Dense(3, "softmax")]
        net = mlp.Network(6, layers, device="cuda", precision=precision, seed=1)
        trainer = mlp.Trainer(net, "cross_entropy", mlp.SGD(0.1), 40)
        trainer.fit(X, y, 1)
        if precision == "float16":
            before = mlp.Network.from_state(net.state(), "cuda")
            backend = net.backend
            backend.copy(
                backend.from_host(np.array([2.0**24, 0]), np.float64), trainer.step.scaling
            )
            trainer.fit(X[:40], y[:40], 1)
            assert trainer.skipped_steps == 1
            assert trainer.step.loss_scale == 2.0**23
            assert_same_network(net, before)
            np.testing.assert_array_equal(net.forward(X), before.forward(X))
            backend.copy(
                backend.from_host(np.array([2.0**10, 0]), np.float64), trainer.step.scaling
            )
        losses[precision] = trainer.fit(X, y, 5)["loss"][-5:]
    assert losses["float32"][-1] < losses["float32"][0]
    np.testing.assert_allclose(losses["float16"], losses["float32"], rtol=0.05)


def test_gradients_that_overflow_whatever_the_scale():
    trainer = one_weight(mlp.SGD(1e-12))
    with pytest.raises(mlp.TrainingDiverged, match="overflow float16 even with a loss scale below"):
        trainer.fit(np.ones((20, 1)), np.full(20, 1e9), 1)
    assert trainer.skipped_steps == 20
    assert trainer.step.loss_scale == 2.0**-4


def test_a_copy_of_16_bits_is_that_of_the_parameters_after_a_skip():
    trainer = one_weight(mlp.SGD(0.125))
    trainer.network.set_parameters([[[1.0]]], [[0.5]])
    trainer.fit([[1.0]], [1e5], 1)
    assert trainer.skipped_steps == 1
    assert_close(trainer.network.forward([[2.0]]), [[2.5]], "float32")
