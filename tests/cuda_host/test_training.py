"""Training by the GPU backend's own code, its kernels run on the host, its CuPy a stand-in."""

from __future__ import annotations

import numpy as np
import pytest

import mlp
from tests.cuda_host.runs import (
    PRECISIONS,
    assert_same_network,
    classifier,
    digits,
    machine,
    trainer_of,
)
from tests.problems import parameters, rows, target
from tests.tolerances import SAME_RUN_LOSS, assert_close

pytestmark = pytest.mark.usefixtures("cupy")


def trained(net, epochs, rows=1797, **settings):
    """Losses of the epochs."""
    return trainer_of(net, **settings).fit(*digits(rows), epochs)["loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_digits_are_learnt(precision):
    """A whole run: shuffles, dropout, graphs, a ragged last batch, and prediction."""
    net, reference = classifier("cuda", precision), classifier("cpu")
    losses, expected = trained(net, 4), trained(reference, 4)
    np.testing.assert_allclose(losses, expected, rtol=SAME_RUN_LOSS[precision])
    X, y = digits()
    assert (net.predict(X) == y).mean() > 0.93


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_processor_and_the_gpu_follow_one_path(precision):
    """200 steps with everything on, 16 of each epoch in one graph: same batches, masks, losses."""
    found = {}
    for device in ("numpy", "cpu", "cuda"):
        net = classifier(device, precision, hidden=24, dropout=0.3)
        found[device] = trained(
            net, 8, 290, batch_size=12, clip_norm=0.5, l1=1e-5, l2=1e-3, weight_decay=0.01
        )
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=SAME_RUN_LOSS[precision])
    np.testing.assert_allclose(found["cuda"], found["numpy"], rtol=SAME_RUN_LOSS[precision])
    assert found["cuda"][-1] < 0.5 * found["cuda"][0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_repeated_run_gives_the_same_bits(precision):
    first, again = (classifier("cuda", precision, 32) for _ in range(2))
    assert trained(first, 2, 300) == trained(again, 2, 300)
    assert_same_network(first, again)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_capability_without_tensor_cores(precision):
    """The plain tiles: 16-bit numbers are stored, and products made in float32."""
    losses = {}
    for capability in ((7, 5), (9, 0)):
        with machine(capability=capability):
            losses[capability] = trained(classifier("cuda", precision, 32), 3, 600)
    np.testing.assert_allclose(losses[7, 5], losses[9, 0], rtol=SAME_RUN_LOSS["float32"])
    assert losses[7, 5][-1] < 0.9 * losses[7, 5][0]


def test_the_number_of_processors_does_not_change_what_is_learnt():
    losses = {}
    for processors in (1, 132):
        with machine(processors=processors):
            losses[processors] = trained(classifier(hidden=32), 2, 600)
    np.testing.assert_allclose(losses[1], losses[132], rtol=SAME_RUN_LOSS["float32"])


# --- around the epochs ----------------------------------------------------------------------------


def assert_copies_are_fresh(net):
    """What products read is what the parameters say."""
    again = mlp.Network.from_state(net.state(), "cuda")
    X, _ = digits(50)
    np.testing.assert_array_equal(net.forward(X), again.forward(X))


class Best(mlp.Callback):
    """Predictions at the end of the epoch with the least validation loss."""

    def __init__(self, X):
        self.X, self.least, self.outputs = X, np.inf, None

    def on_epoch_end(self, trainer):
        if trainer.history["validation_loss"][-1] < self.least:
            self.least = trainer.history["validation_loss"][-1]
            self.outputs = trainer.network.forward(self.X)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        ("float32", mlp.BestWeights),
        ("float16", mlp.BestWeights),
        ("bfloat16", lambda: mlp.EarlyStopping(patience=2)),
    ],
    ids=["float32", "float16", "bfloat16"],
)
def test_the_best_weights_are_put_back(precision, kind):
    net = classifier("cuda", precision, 32, dropout=0)
    X, y = digits(400)
    keeper, best = kind(), Best(X[300:])
    wrong = (y[300:] + 1) % 10  # so that what is learnt makes the loss worse
    trainer_of(net, batch_size=50).fit(
        X[:300], y[:300], 4, (X[300:], wrong), callbacks=[best, keeper]
    )
    assert keeper.best_epoch == 1
    np.testing.assert_array_equal(net.forward(X[300:]), best.outputs)
    assert_copies_are_fresh(net)


def test_a_validation_set_is_evaluated_as_on_the_processor():
    X, y = digits(400)
    w = np.linspace(0.5, 2, 100)
    histories = {}
    for device in ("cpu", "cuda"):
        trainer = trainer_of(classifier(device, "float64", 32), schedule="cosine")
        trainer.fit(X[:300], y[:300], 3, (X[300:], y[300:], w), sample_weight=np.arange(1, 301))
        histories[device] = trainer.history
    for key in ("loss", "validation_loss", "validation_score", "learning_rate"):
        np.testing.assert_allclose(
            histories["cuda"][key], histories["cpu"][key], rtol=SAME_RUN_LOSS["float64"]
        )
    assert len(set(histories["cuda"]["validation_loss"])) == 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_epochs_at_once_are_epochs_one_by_one(precision):
    at_once, one_by_one = (classifier("cuda", precision, 24) for _ in range(2))
    trainer = trainer_of(at_once, batch_size=50)
    trainer._epochs = 4  # as after a few short epochs
    expected = trained(one_by_one, 7, 210, batch_size=50)
    losses = trainer.fit(*digits(210), 7)["loss"]
    observed = trainer_of(classifier("cuda", precision, 24), batch_size=50)
    watched = observed.fit(*digits(210), 7, callbacks=[lambda trainer: None])["loss"]
    assert losses == expected == watched
    assert_same_network(at_once, one_by_one)
    assert_same_network(at_once, observed.network)
    assert_copies_are_fresh(at_once)


def test_several_calls_of_fit_are_one():
    whole, parts = classifier(hidden=24), classifier(hidden=24)
    expected = trained(whole, 5, 210, batch_size=50)
    trainer = trainer_of(parts, batch_size=50)
    for epochs in (2, 1, 2):
        trainer.fit(*digits(210), epochs)
    assert trainer.history["loss"] == expected
    assert_same_network(whole, parts)


@pytest.mark.parametrize(
    ("loss", "kind", "output"),
    [("mse", "values", "identity"), ("cross_entropy", "soft", "softmax"),
     ("binary_cross_entropy", "unit", "sigmoid"), ("poisson", "counts", "identity")],
)  # fmt: skip
def test_other_losses_and_standardised_values(loss, kind, output):
    """A run as on the processor, to the same predictions."""
    X, y = rows(90, 6), target(kind, 90, 2)
    outputs = {}
    for device in ("cpu", "cuda"):
        layers = [mlp.Dense(9, "gelu"), mlp.Dense(2, output)]
        net = mlp.Network(6, layers, device=device, precision="float64", seed=3)
        net.preprocessing = mlp.Standardizer.fit(X)
        if kind == "values":
            net.target_scaler = mlp.Standardizer.fit(y)
        mlp.Trainer(net, loss, "adam", 20, "step").fit(X, y, 4, sample_weight=np.arange(90))
        outputs[device] = np.column_stack([net.forward(X), net.predict(X)])
        outputs[device, "weights"] = parameters(net)
    assert_close(outputs["cuda"], outputs["cpu"], "float64")
    for ours, theirs in zip(outputs["cuda", "weights"], outputs["cpu", "weights"], strict=True):
        assert_close(ours, theirs, "float64")
