"""Stop files, and runs that diverge."""

import numpy as np
import pytest

import mlp
from tests.callbacks.problem import VALIDATION, Explode, X, Y, small_trainer


def test_a_stop_file_ends_training_after_the_epoch(tmp_path):
    path, trainer = tmp_path / "stop", small_trainer()

    class Touch(mlp.Callback):
        def on_progress(self, trainer, batches_done):
            if trainer.epoch == 2:
                path.touch()

    history = trainer.fit(X, Y, 50, callbacks=[Touch(), mlp.StopFile(path)])
    assert trainer.epoch == len(history["loss"]) == 3
    assert trainer.stopped == f"the stop file {path} appeared"
    assert path.exists()


def test_a_stop_file_made_when_an_epoch_ends(tmp_path):
    path, trainer = tmp_path / "stop", small_trainer()
    trainer.fit(X, Y, 50, callbacks=[lambda t: t.epoch == 4 and path.touch(), mlp.StopFile(path)])
    assert trainer.epoch == 4


def test_a_stop_file_that_was_there_for_a_moment(tmp_path):
    path, trainer = tmp_path / "stop", small_trainer()

    class Touch(mlp.Callback):
        def on_progress(self, trainer, batches_done):
            path.touch()

    class Remove(mlp.Callback):
        def on_progress(self, trainer, batches_done):
            path.unlink()

    trainer.fit(X, Y, 50, callbacks=[Touch(), mlp.StopFile(path), Remove()])
    assert trainer.epoch == 1


def test_a_stop_file_of_an_earlier_run_is_refused(tmp_path):
    path, trainer = tmp_path / "stop", small_trainer()
    path.touch()
    with pytest.raises(mlp.InvalidInput, match="is there already, and would stop training"):
        trainer.fit(X, Y, 5, callbacks=[mlp.StopFile(path)])
    assert trainer.epoch == 0


def test_no_stop_file_no_stop(tmp_path):
    trainer = small_trainer()
    trainer.fit(X, Y, 3, callbacks=[mlp.StopFile(tmp_path / "stop")])
    assert (trainer.epoch, trainer.stopped) == (3, None)


def test_early_stopping_ends_a_run_that_diverges_with_the_best_weights():
    trainer, early, kept = small_trainer(), mlp.EarlyStopping(patience=50), []
    keep = [early, lambda t: kept.append(t.network.weights), Explode(6)]
    history = trainer.fit(X, Y, 50, validation=VALIDATION, callbacks=keep)
    assert trainer.epoch == len(history["loss"]) == 5
    assert trainer.stopped.startswith("training diverged in epoch 6: the weights are not finite")
    assert early.best_epoch == np.argmin(history["validation_loss"]) + 1
    for ours, theirs in zip(trainer.network.weights, kept[early.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "callback", [mlp.EarlyStopping(patience=50, stop_if_diverged=False), mlp.BestWeights()]
)
def test_others_have_the_error_raised_and_put_the_best_weights_back(callback):
    trainer, kept = small_trainer(), []
    keep = [callback, lambda t: kept.append(t.network.weights), Explode(3)]
    with pytest.raises(mlp.TrainingDiverged, match="training diverged in epoch 3"):
        trainer.fit(X, Y, 50, callbacks=keep)
    np.testing.assert_array_equal(trainer.network.weights[0], kept[callback.best_epoch - 1][0])


def test_a_run_that_diverges_at_once_has_nothing_to_keep():
    with pytest.raises(mlp.TrainingDiverged, match="in epoch 1"):
        small_trainer().fit(X, Y, 9, callbacks=[mlp.EarlyStopping(), Explode(1)])


def test_every_callback_is_told_that_a_run_diverged():
    told = []

    class Told(mlp.Callback):
        def on_diverged(self, trainer, error):
            told.append((trainer.epoch, str(error)[:17]))
            return False

    trainer = small_trainer()
    trainer.fit(X, Y, 9, callbacks=[mlp.EarlyStopping(), Told(), Explode(2), Told()])
    assert told == [(1, "training diverged")] * 2
