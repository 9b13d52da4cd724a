"""The training loop: it learns, it repeats to the bit, and its history says what happened."""

import copy
import threading

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_moons
from threadpoolctl import threadpool_info, threadpool_limits

import mlp
from mlp.errors import InvalidInput, InvalidSetting, TrainingDiverged
from tests.problems import assert_all_close, network, parameters, rows, target

LAYERS = [mlp.Dense(7, "relu", dropout=0.2), mlp.Dense(3, "softmax")]


def trainer_of(backend, precision="float32", seed=3, network_seed=0, **settings) -> mlp.Trainer:
    net = network(4, LAYERS, backend, precision, seed=network_seed)
    return mlp.Trainer(net, "cross_entropy", batch_size=5, seed=seed, **settings)


def bits(trainer) -> list[bytes]:
    return [p.tobytes() for p in parameters(trainer.network)]


@pytest.fixture
def data():
    return rows(23, 4), target("labels", 23, 3)


# --- it learns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [mlp.Adam(0.01), mlp.SGD(0.1, momentum=0.9), mlp.RMSprop(0.003)]
)
def test_iris(optimizer, backend):
    X, y = load_iris(return_X_y=True)
    net = mlp.Network(4, [mlp.Dense(16, "tanh"), mlp.Dense(3, "softmax")], device=backend.name)
    net.preprocessing = mlp.Standardizer.fit(X)
    trainer = mlp.Trainer(net, "cross_entropy", optimizer, batch_size=16, seed=1)
    history = trainer.fit(X, y, 60, validation=(X, y))
    assert history["loss"][-1] < 0.3 < history["loss"][0]
    assert history["validation_score"][-1] > 0.95
    assert (net.predict(X) == y).mean() == pytest.approx(history["validation_score"][-1])


def test_what_no_line_can_part(backend):
    X, y = make_moons(200, noise=0.1, random_state=0)
    net = mlp.Network(2, [mlp.Dense(24, "relu"), mlp.Dense(1, "sigmoid")], device=backend.name)
    mlp.Trainer(net, "binary_cross_entropy", mlp.Adam(0.02), batch_size=20).fit(X, y, 60)
    assert (net.predict(X) == y).mean() > 0.97


def test_a_curve(backend):
    X = np.linspace(-3, 3, 120)[:, None]
    net = mlp.Network(1, [mlp.Dense(32, "tanh"), mlp.Dense(1)], device=backend.name)
    history = mlp.Trainer(net, "mse", mlp.Adam(0.02), batch_size=16).fit(X, np.sin(X), 80)
    assert history["loss"][-1] < 0.01
    assert np.abs(net.predict(X) - np.sin(X[:, 0])).max() < 0.3


# --- it repeats -----------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_bits(data, backend, precision):
    first, again = (trainer_of(backend, precision.name) for _ in range(2))
    histories = [trainer.fit(*data, 6) for trainer in (first, again)]
    assert bits(first) == bits(again)
    assert histories[0]["loss"] == histories[1]["loss"]


def test_other_seeds_give_other_bits(data, backend):
    seen = []
    for settings in ({}, {"seed": 4}, {"network_seed": 1}):
        trainer = trainer_of(backend, **settings)
        trainer.fit(*data, 1)
        seen.append(tuple(bits(trainer)))
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": mlp.SGD(0.05, momentum=0.9, dampening=0.5)},
        {"optimizer": mlp.Adam(amsgrad=True), "schedule": mlp.StepDecay(step_size=7)},
        {"schedule": mlp.ReduceOnPlateau(patience=0, factor=0.5), "clip_norm": 0.1, "l1": 0.01},
    ],
)
def test_ten_epochs_and_ten_are_twenty(settings, data, backend):
    once, twice = trainer_of(backend, **settings), trainer_of(backend, **settings)
    once.fit(*data, 20)
    twice.fit(*data, 10)
    history = twice.fit(*data, 10)
    assert bits(once) == bits(twice)
    assert history["loss"] == once.history["loss"]
    assert history["learning_rate"] == once.history["learning_rate"]
    assert twice.epoch == once.epoch == 20


def test_looking_on_changes_nothing(data, backend):
    alone, watched = trainer_of(backend), trainer_of(backend)
    alone.fit(*data, 4)
    watched.fit(*data, 4, validation=data, callbacks=[lambda t: t.network.forward(data[0])])
    assert bits(alone) == bits(watched)


def test_the_callers_arrays_are_left_alone(backend):
    X, y, w = rows(9, 4), target("labels", 9, 3), np.ones(9)
    kept = [array.copy() for array in (X, y, w)]
    trainer_of(backend, "float64").fit(X, y, 2, sample_weight=w)
    for array, before in zip((X, y, w), kept, strict=True):
        np.testing.assert_array_equal(array, before)


# --- history --------------------------------------------------------------------------------------


def test_history_without_validation(data, backend):
    trainer = trainer_of(backend, optimizer=mlp.Adam(0.01), schedule=mlp.Exponential(0.5))
    history = trainer.fit(*data, 3)
    assert history is trainer.history
    assert set(history) == {"loss", "learning_rate", "seconds"}
    assert all(len(values) == 3 for values in history.values())
    assert history["learning_rate"] == pytest.approx([0.01, 0.005, 0.0025])
    assert all(seconds >= 0 for seconds in history["seconds"])
    assert trainer.network.loss == mlp.CrossEntropy()
    assert all(type(value) is float for values in history.values() for value in values)


def test_history_with_validation(data, backend):
    trainer = trainer_of(backend, "float64")
    Xv, yv, wv = rows(1500, 4, seed=8), target("labels", 1500, 3, seed=9), np.arange(1500.0)
    seen = []

    def note(t):
        loss = t.network.gradients(Xv, yv, "cross_entropy", wv).loss
        right = t.network.forward(Xv).argmax(axis=1) == yv
        seen.append((loss, np.average(right, weights=wv)))

    history = trainer.fit(*data, 3, validation=(Xv, yv, wv), callbacks=[note])
    assert {*history} == {
        "loss", "learning_rate", "seconds", "validation_loss", "validation_score",
    }  # fmt: skip
    found = [history["validation_loss"], history["validation_score"]]
    assert_all_close(found, np.transpose(seen), 1e-10)


@pytest.mark.parametrize(
    ("loss", "output", "kind"),
    [("mse", "identity", "values"), ("poisson", "identity", "counts"), ("mae", "tanh", "values")],
)
def test_the_score_of_values_is_r2_of_what_is_predicted(loss, output, kind, backend):
    from sklearn.metrics import r2_score

    net = network(4, [(5, "tanh"), (2, output)], backend)
    X, y = rows(30, 4), target(kind, 30, 2)
    history = mlp.Trainer(net, loss).fit(X, y, 2, validation=(X, y))
    assert history["validation_score"][-1] == pytest.approx(r2_score(y, net.predict(X)))


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_the_score_of_answers_is_the_share_of_right_ones(output, backend):
    net = network(4, [(5, "tanh"), (3, output)], backend)
    X, y = rows(30, 4), target("yes_no", 30, 3)
    history = mlp.Trainer(net, "binary_cross_entropy").fit(X, y, 2, validation=(X, y))
    right = (net.forward(X) >= 0.5) == (y == 1)
    assert history["validation_score"][-1] == pytest.approx(right.mean())


def test_validation_in_one_call_of_fit_and_not_in_the_next(data, backend):
    trainer = trainer_of(backend)
    trainer.fit(*data, 1)
    with pytest.raises(InvalidSetting, match="either every call of fit on a trainer has a valid"):
        trainer.fit(*data, 1, validation=data)


# --- what cannot be trained -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own word on the overflow
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_divergence_is_an_error_that_says_what_to_do(precision, backend):
    net = network(4, [(5, "identity"), (2, "identity")], backend, precision)
    trainer = mlp.Trainer(net, "mse", mlp.SGD(lr=1e30), batch_size=4)
    ended = []

    class Note(mlp.Callback):
        def on_fit_end(self, trainer):
            ended.append(trainer.epoch)

    message = r"training diverged in epoch 1: the loss is (inf|nan); use a smaller learning rate, "
    with pytest.raises(TrainingDiverged, match=message):
        trainer.fit(rows(40, 4), target("values", 40, 2), 50, callbacks=[Note()])
    assert ended == [0]
    assert trainer.history == {}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": np.ones((23, 3))}, InvalidInput, "X has 3 features per row, but the network tak"),
        ({"y": np.zeros(22, int)}, InvalidInput, "y has 22 rows, but X has 23"),
        ({"y": np.full(23, 3)}, InvalidInput, "3 outputs take the labels 0 to 2"),
        ({"sample_weight": -np.ones(23)}, InvalidInput, "weights must be >= 0"),
        ({"validation": (rows(5, 4), [0] * 4)}, InvalidInput, "validation y has 4 rows, but X"),
        ({"validation": (rows(5, 3), [0] * 5)}, InvalidInput, "validation X has 3 features"),
        ({"validation": (rows(5, 4), [0] * 5, [1])}, InvalidInput, "validation sample_weight"),
        ({"validation": rows(5, 4)}, InvalidSetting, r"must be \(X, y\) or \(X, y, sample_we"),
        ({"validation": (rows(5, 4),)}, InvalidSetting, r"must be \(X, y\) or \(X, y, sample_w"),
        ({"epochs": 0}, InvalidSetting, "epochs must be a positive whole number, not 0"),
        ({"epochs": 1.5}, InvalidSetting, "epochs must be a positive whole number, not 1.5"),
        ({"callbacks": [3]}, InvalidSetting, "a callback must be an mlp.Callback or a function"),
    ],
)  # fmt: skip
def test_bad_arguments_of_fit_leave_the_network_alone(arguments, error, message, data, backend):
    trainer = trainer_of(backend)
    before = bits(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(**{"X": data[0], "y": data[1], "epochs": 1} | arguments)
    assert bits(trainer) == before
    assert trainer.epoch == 0


def test_a_validation_loss_that_is_not_finite_is_divergence():
    network = mlp.Network(1, [mlp.Dense(1)], device="numpy", precision="float64")
    trainer = mlp.Trainer(network, "poisson")
    with pytest.raises(mlp.TrainingDiverged, match="epoch 1: the validation loss is inf"):
        trainer.fit([[0.0]], [1], 5, validation=([[1e6 * np.sign(network.weights[0][0, 0])]], [1]))
    assert trainer.history == {}


@pytest.mark.parametrize(("width", "threads"), [(8, 1), (2048, 2)])
def test_small_products_keep_blas_to_one_thread(width, threads):
    network = mlp.Network(width, [mlp.Dense(width), mlp.Dense(1)], device="numpy")
    X, seen = np.zeros((4, width)), []
    with threadpool_limits(limits=2, user_api="blas"):
        trainer = mlp.Trainer(network, "mse")
        trainer.fit(X, X[:, 0], 1, callbacks=[lambda _: seen.append(blas_threads())])
        assert seen == [threads]
        assert blas_threads() == 2


def blas_threads() -> int:
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


def test_weights_that_overflow_in_the_last_step_are_divergence():
    network = mlp.Network(2, [mlp.Dense(1)], device="numpy")
    with pytest.raises(mlp.TrainingDiverged, match="the weights are not finite"):
        mlp.Trainer(network, "mse", mlp.SGD(1e300)).fit([[1.0, 2.0]], [1.0], 1)


def test_overlapping_fits_leave_the_threads_of_blas_as_they_were():
    def fit(inner: int) -> None:
        network = mlp.Network(2, [mlp.Dense(1)], device="numpy")
        callbacks = [lambda trainer: fit(inner - 1)] if inner else []
        mlp.Trainer(network, "mse").fit([[1.0, 2.0]], [1.0], 1, callbacks=callbacks)

    with threadpool_limits(limits=2, user_api="blas"):
        threads = [threading.Thread(target=fit, args=(2,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas_threads() == 2


def test_the_rows_are_let_go_after_fit():
    network = mlp.Network(2, [mlp.Dense(1)], device="numpy")
    trainer = mlp.Trainer(network, "mse")
    trainer.fit([[1.0, 2.0]], [1.0], 1)
    assert not hasattr(trainer.step, "X")
    assert len(trainer.fit([[1.0, 2.0]], [1.0], 1)["loss"]) == 2


def test_another_optimizer_needs_another_trainer():
    trainer = mlp.Trainer(mlp.Network(2, [mlp.Dense(1)], device="numpy"), "mse")
    trainer.fit([[1.0, 2.0]], [1.0], 1)
    trainer.optimizer = mlp.SGD(momentum=0.9)
    with pytest.raises(mlp.InvalidSetting, match="make a new Trainer"):
        trainer.fit([[1.0, 2.0]], [1.0], 1)


def test_a_trainer_is_not_copied():
    with pytest.raises(TypeError, match="copy or save its network"):
        copy.deepcopy(mlp.Trainer(mlp.Network(2, [mlp.Dense(1)], device="numpy"), "mse"))
