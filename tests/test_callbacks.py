"""Callbacks: when they are called, the best weights, stopping, and interrupts."""

import numpy as np
import pytest

import mlp
from mlp.errors import InvalidSetting
from tests.problems import network, parameters, rows, target


@pytest.fixture
def trainer(backend):
    net = network(4, [(8, "tanh"), (3, "softmax")], backend)
    # A high rate on labels that cannot be learned: the validation loss soon rises.
    return mlp.Trainer(net, "cross_entropy", mlp.Adam(0.1), batch_size=5, seed=2)


X, Y = rows(23, 4), target("labels", 23, 3)
UNRELATED = (rows(19, 4, seed=5), target("labels", 19, 3, seed=6))


class Recorder(mlp.Callback):
    """Notes every call, under a name, in a shared list."""

    def __init__(self, name: str, calls: list) -> None:
        self.name, self.calls = name, calls

    def on_fit_start(self, trainer):
        self.calls.append((self.name, "start", trainer.epoch))

    def on_epoch_end(self, trainer):
        self.calls.append((self.name, "epoch", trainer.epoch))

    def on_fit_end(self, trainer):
        self.calls.append((self.name, "end", trainer.epoch))


class Keep(mlp.Callback):
    """Copies of the parameters after every epoch."""

    def __init__(self) -> None:
        self.epochs: list = []

    def on_epoch_end(self, trainer):
        self.epochs.append(parameters(trainer.network))


class Interrupt(mlp.Callback):
    """Presses Ctrl-C in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_progress(self, trainer, batches_done):
        if trainer.epoch + 1 == self.epoch:
            raise KeyboardInterrupt


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_order(trainer):
    calls: list = []
    hooks = [Recorder("a", calls), lambda t: calls.append(("f", "epoch", t.epoch))]
    trainer.fit(X, Y, 2, callbacks=[*hooks, Recorder("b", calls)])
    assert calls == [
        ("a", "start", 0), ("b", "start", 0),
        ("a", "epoch", 1), ("f", "epoch", 1), ("b", "epoch", 1),
        ("a", "epoch", 2), ("f", "epoch", 2), ("b", "epoch", 2),
        ("b", "end", 2), ("a", "end", 2),
    ]  # fmt: skip


def test_the_epochs_values_are_in_the_history_when_it_ends(trainer):
    seen = []
    trainer.fit(X, Y, 3, callbacks=[lambda t: seen.append(len(t.history["loss"]))])
    assert seen == [1, 2, 3]


def test_progress_ends_with_the_last_batch(trainer):
    seen: list = []

    class Progress(mlp.Callback):
        def on_progress(self, trainer, batches_done):
            seen.append((trainer.epoch, batches_done))

    trainer.fit(X, Y, 3, callbacks=[Progress()])
    assert trainer.batches == 5
    for epoch in range(3):
        done = [batches for at, batches in seen if at == epoch]
        assert done == sorted(set(done))
        assert done[-1] == 5


def test_stop(trainer):
    def third(t):
        if t.epoch == 3:
            t.stop("enough")

    history = trainer.fit(X, Y, 10, callbacks=[third])
    assert len(history["loss"]) == trainer.epoch == 3
    assert trainer.stopped == "enough"
    trainer.fit(X, Y, 2)
    assert trainer.epoch == 5
    assert trainer.stopped is None


# --- the best weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitor", "key", "best"),
    [
        ("auto", "validation_loss", np.argmin),
        ("loss", "loss", np.argmin),
        ("validation_loss", "validation_loss", np.argmin),
        ("validation_score", "validation_score", np.argmax),
    ],
)
def test_best_weights_are_put_back(monitor, key, best, trainer):
    keep, chosen = Keep(), mlp.BestWeights(monitor=monitor)
    history = trainer.fit(X, Y, 30, validation=UNRELATED, callbacks=[chosen, keep])
    assert trainer.epoch == 30
    assert chosen.best_epoch == best(history[key]) + 1
    assert chosen.best == history[key][chosen.best_epoch - 1]
    assert key == "loss" or chosen.best_epoch < 30
    assert_same(parameters(trainer.network), keep.epochs[chosen.best_epoch - 1])


def test_auto_is_the_training_loss_without_validation(trainer):
    chosen = mlp.BestWeights()
    history = trainer.fit(X, Y, 4, callbacks=[chosen])
    assert chosen.best == min(history["loss"])


def test_early_stopping(trainer):
    keep, early = Keep(), mlp.EarlyStopping(patience=4)
    history = trainer.fit(X, Y, 200, validation=UNRELATED, callbacks=[early, keep])
    assert early.best_epoch == np.argmin(history["validation_loss"]) + 1
    assert trainer.epoch == len(keep.epochs) == early.best_epoch + 4
    assert trainer.stopped == f"no better epoch than {early.best_epoch} in the last 4"
    assert_same(parameters(trainer.network), keep.epochs[early.best_epoch - 1])


def test_min_delta_is_how_much_better_counts(trainer):
    early = mlp.EarlyStopping(patience=3, min_delta=1e9)
    trainer.fit(X, Y, 50, callbacks=[early])
    assert (early.best_epoch, trainer.epoch) == (1, 4)


def test_patience_starts_anew_with_each_call_of_fit(trainer):
    early = mlp.EarlyStopping(3, min_delta=1e9)
    trainer.fit(X, Y, 50, callbacks=[early])
    trainer.fit(X, Y, 50, callbacks=[early])
    assert (early.best_epoch, trainer.epoch) == (5, 8)


def test_the_best_weights_are_those_of_one_call_of_fit(trainer):
    """What was learned from other rows later is not thrown away for an earlier, lower loss."""
    keep, chosen = Keep(), mlp.BestWeights()
    for call in range(3):
        trainer.fit(X, Y, 10, validation=UNRELATED, callbacks=[chosen, keep])
        losses = trainer.history["validation_loss"][10 * call :]
        assert chosen.best_epoch == 10 * call + np.argmin(losses) + 1
    assert_same(parameters(trainer.network), keep.epochs[chosen.best_epoch - 1])


def test_only_what_started_is_ended_and_the_first_error_is_seen(trainer):
    calls = []

    class Note(mlp.Callback):
        def on_fit_start(self, trainer):
            calls.append("start")

        def on_fit_end(self, trainer):
            calls.append("end")
            raise RuntimeError("while ending")

    with pytest.raises(RuntimeError, match="while ending") as caught:
        trainer.fit(X, Y, 1, callbacks=[Note(), mlp.BestWeights(monitor="validation_loss"), Note()])
    assert calls == ["start", "end"]
    assert isinstance(caught.value.__context__, mlp.InvalidSetting)


def test_a_callback_that_fails_at_the_end_stops_no_other(trainer):
    class Fail(mlp.Callback):
        def on_fit_end(self, trainer):
            raise RuntimeError

    keep, chosen = Keep(), mlp.BestWeights()
    with pytest.raises(RuntimeError):
        trainer.fit(X, Y, 9, validation=UNRELATED, callbacks=[chosen, keep, Fail()])
    assert_same(parameters(trainer.network), keep.epochs[chosen.best_epoch - 1])


@pytest.mark.parametrize("callback", [mlp.BestWeights, mlp.EarlyStopping])
def test_an_interrupt_puts_the_best_weights_back_and_is_passed_on(callback, trainer):
    keep, chosen = Keep(), callback()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 100, validation=UNRELATED, callbacks=[Interrupt(9), chosen, keep])
    assert trainer.epoch == len(keep.epochs) == 8
    losses = trainer.history["validation_loss"]
    assert len(losses) == 8
    assert_same(parameters(trainer.network), keep.epochs[int(np.argmin(losses))])
    trainer.fit(X, Y, 1, validation=UNRELATED)
    assert trainer.epoch == 9


def test_an_interrupt_before_the_first_epoch_ends(trainer):
    chosen = mlp.BestWeights()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 5, callbacks=[Interrupt(1), chosen])
    assert chosen.best_epoch is None
    assert trainer.history == {}


def test_a_used_callback_starts_anew_with_another_trainer(trainer, backend):
    chosen = mlp.BestWeights()
    trainer.fit(X, Y, 5, callbacks=[chosen])
    other = mlp.Trainer(network(4, [(2, "tanh"), (3, "softmax")], backend), "cross_entropy")
    before, keep = parameters(other.network), Keep()
    chosen.monitor = "validation_loss"
    with pytest.raises(InvalidSetting, match="pass fit a validation set"):
        other.fit(X, Y, 5, callbacks=[chosen])
    assert_same(parameters(other.network), before)
    chosen.monitor = "loss"
    other.fit(X, Y, 5, callbacks=[chosen, keep])
    assert_same(parameters(other.network), keep.epochs[chosen.best_epoch - 1])


def test_nan_is_worse_than_any_number(trainer):
    chosen = mlp.BestWeights(monitor="validation_loss")
    values = iter([np.nan, 3.0, np.nan, 2.0, 2.5, np.nan])

    class Overwrite(mlp.Callback):
        def on_epoch_end(self, trainer):
            trainer.history["validation_loss"][-1] = next(values)

    trainer.fit(X, Y, 6, validation=UNRELATED, callbacks=[Overwrite(), chosen])
    assert (chosen.best_epoch, chosen.best) == (4, 2.0)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp.BestWeights(monitor="validation_los"), "did you mean 'validation_loss'"),
        (lambda: mlp.BestWeights(min_delta=-1), r"min_delta must be in \[0, inf\)"),
        (lambda: mlp.EarlyStopping(patience=0), "patience must be a positive whole number"),
        (lambda: mlp.EarlyStopping(patience=2, monitor="accuracy"), "unknown monitor 'accuracy'"),
    ],
)
def test_settings_that_cannot_be_used(make, message):
    with pytest.raises(InvalidSetting, match=message):
        make()


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_score"])
def test_a_monitor_that_needs_a_validation_set(monitor, trainer):
    with pytest.raises(InvalidSetting, match=f"to monitor {monitor}, pass fit a validation set"):
        trainer.fit(X, Y, 1, callbacks=[mlp.EarlyStopping(monitor=monitor)])
