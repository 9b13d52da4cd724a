"""Weights and activations stored in 16 bits beside float32 parameters: a backend made up for it."""

from itertools import combinations

import numpy as np
import pytest

import mlp
from mlp.backends.numpy import NumpyBackend
from mlp.backpropagation import Tape
from mlp.losses import get_loss
from mlp.optimizers import SGD
from mlp.step import Regularization, Step
from tests.problems import rows, target

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)
LAYERS = [
    mlp.Dense(9, "gelu"), mlp.Dense(7, "relu", dropout=0.2), mlp.Dense(5, "tanh"),
    mlp.Dense(3, "softmax"),
]  # fmt: skip


class HalfBackend(NumpyBackend):
    """The reference, storing in 16 bits what a GPU would."""

    def __init__(self):
        super().__init__()
        self._operand = lambda x: x.astype(SINGLE)

    def compute_dtype(self, dtype):
        return HALF if np.dtype(dtype) == SINGLE else np.dtype(dtype)


@pytest.fixture
def half(monkeypatch):
    """Networks are made on a HalfBackend."""
    backend = HalfBackend()
    monkeypatch.setattr("mlp.network.get_backend", lambda *_: backend)
    return backend


def step_of(net, **terms) -> Step:
    X, y = rows(23, 4), target("labels", 23, 3)
    loss = get_loss("cross_entropy")
    return Step(
        net, loss, SGD(0.1), Regularization(**terms), 5,
        net.rows_to_device(X), net.target_to_device(y, 23, loss), None, 0,
    )  # fmt: skip


def assert_copies_are_fresh(net):
    np.testing.assert_array_equal(net.compute.flat, net.parameters.flat.astype(HALF))


def test_products_read_copies(half):
    net = mlp.Network(4, LAYERS)
    assert (net.parameters.flat.dtype, net.compute.flat.dtype) == (SINGLE, HALF)
    for layer, W, b in zip(net.layers(), net.compute.weights, net.parameters.biases, strict=True):
        assert layer.W is W
        assert layer.b is b
    for buffer in (net.parameters, net.compute):
        for view in (*buffer.weights, *buffer.biases):
            assert (view.ctypes.data - buffer.flat.ctypes.data) % 256 == 0
    assert_copies_are_fresh(net)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_parameters_themselves_where_nothing_is_stored_in_16_bits(device):
    net = mlp.Network(4, LAYERS, device=device)
    assert net.compute is net.parameters
    step = step_of(net)
    assert step.flat.copies is None
    tape = step.full.tape
    for array in (tape.x, *tape.a, *tape.saved, *tape.delta):
        assert np.shares_memory(array, tape.flat)


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[3:], [mlp.Dense(3, "gelu")]])
@pytest.mark.parametrize("dropout", [False, True])
def test_dtypes_of_a_tape(half, layers, dropout):
    spec = mlp.NetworkSpec.of(4, layers)
    tape = Tape.allocate(half, spec, 6, SINGLE, dropout=dropout)
    *hidden, output = tape.a
    *hidden_saved, output_saved = tape.saved
    for array in (tape.x, *hidden, *hidden_saved, *tape.delta):
        assert array.dtype == HALF
        assert np.shares_memory(array, tape.flat)
    assert output.dtype == output_saved.dtype == SINGLE
    apart = [saved is not a for a, saved in zip(tape.a, tape.saved, strict=True)]
    assert apart == [
        layer.activation == "gelu" or (dropout and layer.dropout > 0) for layer in layers
    ]
    for arrays in (tape.a, tape.saved, tape.delta):
        assert [array.shape for array in arrays] == [(6, layer.units) for layer in layers]
    own_saved = [saved for saved, own in zip(tape.saved, apart, strict=True) if own]
    for one, other in combinations([tape.x, *tape.a, *own_saved, *tape.delta], 2):
        assert not np.shares_memory(one, other)


def test_gradients_come_in_the_dtype_of_the_network(half, monkeypatch):
    net = mlp.Network(4, LAYERS)
    X, y = rows(6, 4), target("labels", 6, 3)
    found = net.gradients(X, y, "cross_entropy")
    for arrays in (found.weights, found.biases, found.deltas, found.activations):
        assert {array.dtype for array in arrays} == {SINGLE}
    # Near what float32 gives, and not the same: numbers were rounded on their way.
    monkeypatch.undo()
    exact = mlp.Network.from_state(net.state(), "numpy").gradients(X, y, "cross_entropy")
    for ours, theirs in zip(found.weights, exact.weights, strict=True):
        assert (ours != theirs).any()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01 * np.abs(theirs).max())


def test_a_step_refreshes_the_copies(half):
    net = mlp.Network(4, LAYERS)
    before = net.parameters.flat.copy()
    step = step_of(net, weight_decay=0.1)
    assert step.flat.copies is net.compute.flat
    step.begin_epoch(0, np.full(step.batches, 0.1))
    step.run(0, 3)
    assert (net.parameters.flat != before).any()
    assert_copies_are_fresh(net)


def test_whatever_sets_parameters_refreshes_the_copies(half):
    net = mlp.Network(4, LAYERS)
    net.set_parameters([2 * W for W in net.weights], net.biases)
    assert_copies_are_fresh(net)
    assert_copies_are_fresh(mlp.Network.from_state(net.state()))
    X, y = rows(23, 4), target("labels", 23, 3)
    best = mlp.BestWeights()
    # The first epoch is the best: the second one's rate drives the loss up.
    trainer = mlp.Trainer(net, "cross_entropy", mlp.SGD(0.01), 5)
    trainer.fit(X, y, 3, callbacks=[best, Worse()])
    assert best.best_epoch < 3
    np.testing.assert_array_equal(net.parameters.flat, best.parameters)
    assert_copies_are_fresh(net)


class Worse(mlp.Callback):
    """Spoils the weights after each epoch."""

    def on_epoch_end(self, trainer):
        net = trainer.network
        net.set_parameters([-3 * W for W in net.weights], net.biases)


def test_training_and_evaluation(half):
    X, y = rows(100, 4), target("labels", 100, 3)
    losses = []
    for backend in (half, NumpyBackend()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mlp.network.get_backend", lambda *_, made=backend: made)
            net = mlp.Network(4, LAYERS)
        trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(0.01), 10)
        history = trainer.fit(X, y, 10, validation=(X, y))
        losses.append(np.array([history["loss"], history["validation_loss"]]))
    assert (losses[0] != losses[1]).any()
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.01)
