"""Training in float16: the loss scale of whole runs, on the reference, against hand computation."""

import numpy as np
import pytest

import mlp
from tests.problems import parameters, rows, target

# One weight and one bias of 0, one row x = 1 with target 10: z = 0, and delta = 2 (0 - 10) = -20.
# float16 ends at 65504, so 20 * 2^k fits from k = 11 on down: of 2^16 the first 5 steps overflow.
DELTA, OVERFLOWS, SCALE = -20.0, 5, 2.0**11


def one_weight(optimizer, **settings):
    net = mlp.Network(1, [mlp.Dense(1)], device="numpy", precision="float16")
    net.set_parameters([[[0.0]]], [[0.0]])
    return mlp.Trainer(net, "mse", optimizer, 1, **settings)


def test_a_trainer_begins_without_skipped_steps():
    assert one_weight(mlp.SGD()).skipped_steps == 0


@pytest.mark.parametrize("whole", [True, False], ids=["epochs", "by_epoch"])
def test_steps_are_skipped_until_the_gradients_fit(whole):
    trainer = one_weight(mlp.SGD(0.125))
    hooks = [] if whole else [lambda trainer: None]
    trainer.fit([[1.0]], [10.0], OVERFLOWS, callbacks=hooks)
    assert trainer.skipped_steps == OVERFLOWS
    assert trainer.step.loss_scale == SCALE
    assert [p.item() for p in parameters(trainer.network)] == [0, 0]
    trainer.fit([[1.0]], [10.0], 1, callbacks=hooks)  # the scale and the counts go on
    assert trainer.skipped_steps == OVERFLOWS
    assert trainer.step.loss_scale == SCALE
    assert [p.item() for p in parameters(trainer.network)] == [-0.125 * DELTA] * 2


def test_the_first_update_is_the_first_to_the_optimizer():
    """Adam's first step is the rate itself; its sixth, from moments of 0, would be far less."""
    trainer = one_weight(mlp.Adam(0.5))
    trainer.fit([[1.0]], [10.0], OVERFLOWS + 1)
    np.testing.assert_allclose(parameters(trainer.network)[0], [[0.5]], rtol=1e-6)


def test_regularization_is_skipped_too():
    trainer = one_weight(mlp.SGD(0.125), weight_decay=0.5, l2=0.5, clip_norm=1.0)
    trainer.network.set_parameters([[[1.0]]], [[0.0]])
    trainer.fit([[1.0]], [11.0], OVERFLOWS)  # delta is -20 again
    assert [p.item() for p in parameters(trainer.network)] == [1, 0]


def test_gradients_that_overflow_whatever_the_scale():
    trainer = one_weight(mlp.SGD(1e-12))
    X, y = np.ones((20, 1)), np.full(20, 1e9)  # 20 steps take the scale from 2^16 to 2^-4
    with pytest.raises(mlp.TrainingDiverged, match="overflow float16 even with a loss scale below"):
        trainer.fit(X, y, 1)
    assert trainer.skipped_steps == 20
    assert trainer.step.loss_scale == 2.0**-4


def test_it_learns_what_float32_learns():
    X, y = rows(200, 6), target("labels", 200, 3)
    losses = {}
    for precision in ("float32", "float16", "tf32"):
        layers = [mlp.Dense(32, "relu"), mlp.Dense(3, "softmax")]
        net = mlp.Network(6, layers, device="numpy", precision=precision)
        trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(0.01), 20)
        losses[precision] = trainer.fit(X, y, 20)["loss"]
        assert trainer.skipped_steps <= 4  # deltas are below 1
        assert net.dtype == np.float32
    assert losses["float32"][-1] < 0.75 * losses["float32"][0]
    for precision in ("float16", "tf32"):
        assert losses[precision] != losses["float32"]
        np.testing.assert_allclose(losses[precision], losses["float32"], rtol=0.02)


def test_other_precisions_have_no_scale():
    net = mlp.Network(1, [mlp.Dense(1)], device="numpy", precision="bfloat16")
    trainer = mlp.Trainer(net, "mse", mlp.SGD(0.125))
    trainer.fit([[1.0]], [10.0], 1)
    assert trainer.step.scaling is None
    assert (trainer.skipped_steps, trainer.step.loss_scale) == (0, 1)
