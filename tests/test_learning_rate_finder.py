"""The range test: what each step does, what is suggested, and that nothing else changes."""

import numpy as np
import pytest

import mlp
from mlp.learning_rate_finder import LearningRateCurve, find_learning_rate
from tests.problems import network, parameters, rows, target

X, Y = rows(23, 4), target("labels", 23, 3)


def trainer_on(backend, optimizer=None, **settings) -> mlp.Trainer:
    net = network(4, [mlp.Dense(8, "tanh", dropout=0.2), (3, "softmax")], backend)
    return mlp.Trainer(
        net, "cross_entropy", optimizer or mlp.SGD(0.5, momentum=0.9), batch_size=5, seed=2,
        **settings,
    )  # fmt: skip


class Rising(mlp.Schedule):
    """The rates of the range test, for a trainer that takes them for training."""

    name = "rising"

    def rates(self, lr, horizon, state):
        return np.geomspace(1e-3, 0.1, 20)[horizon.steps().astype(int)]


def test_its_steps_are_those_of_a_trainer(backend):
    """Four epochs of five steps: the mean of their losses is the trainer's loss of the epoch."""
    curve = find_learning_rate(trainer_on(backend), X, Y, lowest=1e-3, highest=0.1, steps=20)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-3, 0.1, 20))
    history = trainer_on(backend, schedule=Rising()).fit(X, Y, 4)
    sizes = np.array([5, 5, 5, 5, 3])
    means = (curve.losses.reshape(4, 5) * sizes).sum(axis=1) / 23
    np.testing.assert_allclose(means, history["loss"], rtol=1e-12)
    assert not curve.diverged


def test_the_trainer_and_its_network_stay_as_they_are(backend):
    trainer, other = trainer_on(backend, l2=0.1), trainer_on(backend, l2=0.1)
    for one in (trainer, other):
        one.fit(X, Y, 2)
    before = parameters(trainer.network)
    trainer.network.metadata["kept"] = 1
    find_learning_rate(trainer, X, Y, steps=30)
    for old, new in zip(before, parameters(trainer.network), strict=True):
        np.testing.assert_array_equal(old, new)
    for one in (trainer, other):
        one.fit(X, Y, 2)
    assert trainer.history["loss"] == other.history["loss"]
    assert trainer.epoch == 4


def curve_of(losses, rates=None) -> LearningRateCurve:
    losses = np.array(losses, dtype=float)
    rates = np.geomspace(1e-5, 1, len(losses)) if rates is None else rates
    return LearningRateCurve(rates, losses, losses, diverged=True)


def test_what_is_suggested_by_hand():
    curve = curve_of([3.0, 3.0, 2.9, 2.0, 1.9, 5.0], 10.0 ** np.arange(-5, 1))
    assert curve.lowest_loss == pytest.approx(1e-1)
    # Central differences of the losses: 0, -0.05, -0.5, -0.5 (then up); the first of the steepest.
    assert curve.steepest == pytest.approx(1e-3)
    assert curve.suggested == pytest.approx(1e-3)
    late = curve_of([3.0, 3.0, 3.0, 2.9, 1.0, 5.0], 10.0 ** np.arange(-5, 1))
    assert late.steepest == pytest.approx(1e-1)
    assert late.suggested == pytest.approx(1e-2)


def test_a_loss_that_only_rises_suggests_the_lowest_rate():
    curve = curve_of([1.0, 1.1, 1.2, 9.0])
    assert curve.lowest_loss == pytest.approx(1e-5)
    assert curve.suggested == pytest.approx(1e-6)


def test_it_ends_where_the_loss_rises_too_high(backend):
    curve = find_learning_rate(trainer_on(backend), X, Y, lowest=1e-4, highest=1e6, steps=60)
    assert curve.diverged
    assert 6 <= len(curve.rates) < 60
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed)
    assert curve.losses.max() <= 4 * curve.losses[:6].max()
    assert 1e-4 < curve.suggested < 1e3


def test_the_smoothed_losses_are_a_weighted_mean_of_their_neighbours():
    from mlp.learning_rate_finder import _smooth

    losses = np.zeros(41)
    losses[20] = 1
    found = _smooth(losses, 2.0)
    expected = np.exp(-0.5 * ((np.arange(41) - 20) / 2.0) ** 2)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-4)


def test_the_table():
    text = str(curve_of(np.r_[np.full(30, 2.0), np.linspace(2, 1, 20), 8.0]))
    lines = text.splitlines()
    assert lines[0] == "learning rate  smoothed loss"
    assert len(lines) == 22
    assert lines[1].split() == ["1.00e-05", "2", "█" * 15]
    assert lines[-2].endswith("█" * 30)
    assert "suggested" in lines[-1]
    rising = LearningRateCurve(*(np.array([1.0, 2.0]),) * 3, diverged=False)
    assert "the loss did not rise" in str(rising)


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    curve = curve_of([3.0, 2.0, 1.0, 5.0])
    curve.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(mlp.InvalidSetting, match="xyz"):
        curve.plot(tmp_path / "rates.xyz")
    with pytest.raises(mlp.InvalidInput, match="cannot be written"):
        curve.plot(tmp_path / "missing" / "rates.png")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowest": 0}, "must rise from above 0"),
        ({"lowest": 1, "highest": 0.1}, "must rise from above 0, not from 1 to 0.1"),
        ({"highest": float("inf")}, "highest must be in"),
        ({"steps": 19}, "steps must be at least 20"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    trainer = mlp.Trainer(mlp.Network(4, [mlp.Dense(1)], device="numpy"), "mse")
    with pytest.raises(mlp.InvalidSetting, match=message):
        find_learning_rate(trainer, X, Y, **settings)


def test_rows_without_weight_teach_nothing(backend):
    """A batch of rows that do not count is left out, and so is its rate."""
    trainer = trainer_on(backend)
    trainer.batch_size = 1
    weight = np.ones(23)
    weight[:15] = 0
    curve = find_learning_rate(trainer, X, Y, weight, steps=23)
    assert len(curve.losses) == 8
    assert np.isfinite(curve.smoothed).all()


def test_values_that_overflow_at_once():
    trainer = mlp.Trainer(mlp.Network(4, [mlp.Dense(1)], device="numpy"), "mse", "sgd")
    with pytest.raises(mlp.TrainingDiverged, match="not finite after"):
        find_learning_rate(trainer, X * 1e18, Y * 1e18, lowest=1e10, highest=1e20)
