"""TensorBoard's event files, read back record by record."""

import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import mlp
from tests.callbacks.problem import VALIDATION, Score, X, Y, small_trainer


def scalars(folder):
    """Tag -> {step: value}, of all event files: length, checksum, event, checksum, and again."""
    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_every_epoch_is_a_point(tmp_path):
    trainer, folder = small_trainer(schedule="cosine"), tmp_path / "logs" / "run"
    norms = mlp.NormsLog(X, Y)
    hooks = [norms, mlp.TensorBoard(folder, norms)]
    history = trainer.fit(X, Y, 3, validation=VALIDATION, callbacks=hooks)
    found = scalars(folder)
    for tag, name in {
        "loss/training": "loss",
        "loss/validation": "validation_loss",
        "score/validation": "validation_score",
        "learning_rate": "learning_rate",
    }.items():
        assert list(found[tag]) == [1, 2, 3]
        np.testing.assert_allclose(list(found[tag].values()), history[name], rtol=1e-6)
    rates = 23 / np.array(history["seconds"])
    np.testing.assert_allclose(list(found["samples_per_second"].values()), rates, rtol=1e-6)
    for kind in ("weights", "gradients", "activations"):
        for layer in range(2):
            expected = {r.epoch: getattr(r, kind)[layer] for r in norms.records}
            assert found[f"{kind}/{layer}"] == pytest.approx(expected, rel=1e-6)


def test_what_is_no_finite_number_is_left_out(tmp_path):
    scores = Score(0.5, np.nan, 0.25)
    hooks = [scores, mlp.TensorBoard(tmp_path)]
    small_trainer().fit(X, Y, 3, validation=VALIDATION, callbacks=hooks)
    assert scalars(tmp_path)["score/validation"] == {1: 0.5, 3: 0.25}


def test_another_run_needs_another_folder_and_a_later_call_of_fit_does_not(tmp_path):
    trainer = small_trainer()
    trainer.fit(X, Y, 2, callbacks=[mlp.TensorBoard(tmp_path)])
    trainer.fit(X, Y, 1, callbacks=[mlp.TensorBoard(tmp_path)])
    assert list(scalars(tmp_path)["loss/training"]) == [1, 2, 3]
    with pytest.raises(mlp.InvalidInput, match="already holds the events of another run"):
        small_trainer().fit(X, Y, 1, callbacks=[mlp.TensorBoard(tmp_path)])


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(mlp.InvalidSetting, match=r'pip install "fused-mlp\[tensorboard\]"'):
        mlp.TensorBoard(tmp_path)
