"""The gradient check: it accepts right derivatives, in every place, and catches a wrong one."""

from dataclasses import replace

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS
from mlp.backends import get_backend
from mlp.backends.numpy import NumpyBackend
from mlp.gradcheck import slope_along
from mlp.losses import LOSSES
from tests.conftest import GPU
from tests.problems import difference, kind_of, network, parameters, rows, target
from tests.tolerances import DIFFERENCE_RELATIVE

HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]
PAIRS = [
    *((loss, "identity", 3) for loss in ("half_squared_error", "mse", "mae", "huber", "poisson")),
    *((loss, "softmax", 3) for loss in LOSSES),
    *((loss, "sigmoid", 2) for loss in LOSSES),
]


KINDS = ("weight", "bias")


@pytest.fixture(params=["numpy", "cpu", *GPU])
def backend(request):
    """Without the CUDA kernels on the host: a check takes thousands of launches."""
    return get_backend(request.param)


def worst(net, loss, count=6, weight=None, X=None, y=None):
    if y is None:
        X, y = rows(count, net.spec.inputs), target(kind_of(loss), count, net.spec.outputs)
    found = mlp.check_gradients(net, X, y, loss, weight)
    names = [f"layers.{i}.{kind}" for i in range(len(net.spec.layers)) for kind in KINDS]
    assert list(found) == names
    return max(found.values())


@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation(activation, backend):
    net = network(4, [(7, activation), (6, activation), (3, "softmax")], backend)
    assert worst(net, "cross_entropy") < DIFFERENCE_RELATIVE


@pytest.mark.parametrize(("loss", "output", "outputs"), PAIRS)
def test_every_loss(loss, output, outputs, backend):
    net = network(4, [(5, "tanh"), (outputs, output)], backend)
    weight = np.array([1, 2, 0.5, 3, 0, 1])
    assert worst(net, loss, weight=weight) < DIFFERENCE_RELATIVE


def test_float32_networks_are_checked_in_float64_and_left_alone(backend):
    net = network(4, [(7, "tanh"), (3, "softmax")], backend, "float32")
    before = parameters(net)
    assert worst(net, "cross_entropy") < DIFFERENCE_RELATIVE
    for now, then in zip(parameters(net), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_units_at_a_kink_are_stepped_around(backend):
    # Every first-layer unit is exactly at z = 0, where relu has no derivative.
    net = network(2, [(3, "relu"), (2, "softmax")], backend)
    net.set_parameters([np.ones((2, 3)), net.weights[1]], [np.zeros(3), net.biases[1]])
    found = mlp.check_gradients(net, [[1.0, -1.0]], [0], "cross_entropy")
    assert np.isnan(found["layers.0.weight"])
    assert np.isnan(found["layers.0.bias"])
    assert found["layers.1.weight"] < DIFFERENCE_RELATIVE


@pytest.mark.parametrize("activation", [name for name in HIDDEN if ACTIVATIONS[name].kinks])
@pytest.mark.parametrize("z", [1e-4, -1e-4])
def test_units_near_a_kink_are_approached_with_a_shorter_step(activation, z, backend):
    net = mlp.Network(1, [mlp.Dense(1, activation)], device=backend.name, precision="float64")
    net.set_parameters([[[1.0]]], [[z - 1]])
    assert worst(net, "mse", y=[[0.5]], X=[[1.0]]) < DIFFERENCE_RELATIVE


@pytest.mark.parametrize("loss", [mlp.MAE(), mlp.Huber(), mlp.Huber(delta=0.2)])
@pytest.mark.parametrize("side", [-1, 1])
def test_errors_near_a_kink_of_the_loss(loss, side, backend):
    net = mlp.Network(1, [mlp.Dense(1)], device=backend.name, precision="float64")
    net.set_parameters([[[1.0]]], [[0.5]])
    for kink in loss.kinks:
        y = [[1.5 - kink + side * 1e-4]]
        assert worst(net, loss, y=y, X=[[1.0]]) < DIFFERENCE_RELATIVE


def test_slope_along_a_direction_is_the_gradient_times_it(backend):
    net = network(4, [(7, "tanh"), (3, "softmax")], backend)
    X, y = rows(6, 4), target("labels", 6, 3)
    direction = rows(4, 7, seed=9)
    slope = slope_along(net, X, y, "cross_entropy", "weight", 0, direction)
    expected = (net.gradients(X, y, "cross_entropy").weights[0] * direction).sum()
    assert difference(slope, expected) < DIFFERENCE_RELATIVE


@pytest.mark.parametrize("activation", HIDDEN)
def test_a_wrong_derivative_is_caught(activation, monkeypatch):
    row = ACTIVATIONS[activation]
    wrong = replace(row, derivative=lambda saved: 1.01 * row.derivative(saved) + 0.001)
    net = network(4, [(7, activation), (6, activation), (3, "softmax")], get_backend("numpy"))
    assert worst(net, "cross_entropy") < DIFFERENCE_RELATIVE
    monkeypatch.setitem(ACTIVATIONS, activation, wrong)
    assert worst(net, "cross_entropy") > 1e-3


def test_a_wrong_weight_gradient_is_caught_in_its_layer(monkeypatch):
    reference = get_backend("numpy")
    right = type(reference).linear_grads

    def wrong(self, x, delta, dW, db):
        right(self, x, delta, dW, db)
        if dW.shape == (7, 6):
            dW[0, 0] += 0.01

    monkeypatch.setattr(type(reference), "linear_grads", wrong)
    net = network(4, [(7, "tanh"), (6, "tanh"), (3, "softmax")], reference)
    found = mlp.check_gradients(net, rows(6, 4), target("labels", 6, 3), "cross_entropy")
    assert found.pop("layers.1.weight") > 1e-3
    assert max(found.values()) < DIFFERENCE_RELATIVE


def test_large_parameters_are_checked_with_larger_steps():
    """Weights and a bias around 1e7: beside them a step of 3e-4 measures rounding alone."""
    net = mlp.Network(3, [mlp.Dense(8, "tanh"), mlp.Dense(1)], device="numpy", precision="float64")
    net.set_parameters([net.weights[0], 1e7 * net.weights[1]], [net.biases[0], net.biases[1] + 3e7])
    X = np.random.default_rng(0).normal(size=(6, 3))
    errors = mlp.check_gradients(net, X, net.forward(X) + 1e5, "mse")
    assert max(errors.values()) < 1e-7


def test_gradients_that_are_not_numbers_are_wrong(monkeypatch):
    right = NumpyBackend.linear_grads

    def spoiled(self, x, delta, dW, db):
        right(self, x, delta, dW, db)
        dW[...] = np.nan

    monkeypatch.setattr(NumpyBackend, "linear_grads", spoiled)
    net = mlp.Network(3, [mlp.Dense(2)], device="numpy")
    errors = mlp.check_gradients(net, np.ones((2, 3)), np.zeros((2, 2)), "mse")
    assert errors["layers.0.weight"] == np.inf
