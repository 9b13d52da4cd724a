"""How weights are drawn: their spread, their shape, and the same bits for the same seed."""

import math

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS
from mlp.initializers import INITIALIZERS, initial_weights

FAN_IN, FAN_OUT = 300, 200
VARIANCE = {
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "he_uniform": 2 / FAN_IN,
    "he_normal": 2 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
}
SUITS = {
    "he_normal": {"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus"},
    "lecun_normal": {"selu"},
    "glorot_uniform": {"identity", "sigmoid", "tanh", "softmax"},
}


def draw(name: str, fan_in: int = FAN_IN, fan_out: int = FAN_OUT, seed: int = 3, layer: int = 0):
    return initial_weights(name, "tanh", seed, layer, fan_in, fan_out)


def test_the_tests_know_every_initializer():
    assert set(INITIALIZERS) == {*VARIANCE, "orthogonal", "zeros"}


@pytest.mark.parametrize("name", VARIANCE)
def test_variance(name):
    W = draw(name)
    assert W.shape == (FAN_IN, FAN_OUT)
    assert W.dtype == np.float64
    # A sample variance of 60,000 draws strays by 0.6% (normal) of its mean.
    assert W.var() == pytest.approx(VARIANCE[name], rel=0.025)
    assert abs(W.mean()) < 4 * math.sqrt(VARIANCE[name] / W.size)
    limit = math.sqrt(3 * VARIANCE[name])
    if name.endswith("uniform"):
        assert 0.999 * limit < np.abs(W).max() <= limit
    else:
        assert np.abs(W).max() > 1.5 * limit, "normal draws are not truncated"


@pytest.mark.parametrize(("fan_in", "fan_out"), [(40, 40), (50, 20), (20, 50), (1, 9), (9, 1)])
def test_orthogonal(fan_in, fan_out):
    W = draw("orthogonal", fan_in, fan_out)
    assert W.shape == (fan_in, fan_out)
    assert W.flags.c_contiguous
    product = W.T @ W if fan_in >= fan_out else W @ W.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-13)


def test_orthogonal_is_drawn_uniformly():
    # Without the sign correction Q[0, 0] would have one sign whatever the seed.
    corners = [draw("orthogonal", 3, 3, seed=seed)[0, 0] for seed in range(400)]
    assert abs(np.mean(corners)) < 4 * math.sqrt(1 / 3 / 400)
    assert np.var(corners) == pytest.approx(1 / 3, rel=0.2)


def test_zeros():
    assert not draw("zeros").any()


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - {"zeros"}))
def test_same_seed_same_bits_and_each_layer_its_own(name):
    assert draw(name).tobytes() == draw(name).tobytes()
    assert draw(name).tobytes() != draw(name, seed=4).tobytes()
    assert draw(name).tobytes() != draw(name, layer=1).tobytes()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_takes_what_suits_the_activation(activation):
    (expected,) = (name for name, activations in SUITS.items() if activation in activations)
    auto = initial_weights("auto", activation, 1, 2, 5, 4)
    named = initial_weights(expected, activation, 1, 2, 5, 4)
    assert auto.tobytes() == named.tobytes()


def test_a_network_starts_with_them_and_zero_biases(backend):
    layers = [mlp.Dense(5, "relu"), mlp.Dense(4, "tanh", initializer="orthogonal"), mlp.Dense(3)]
    for precision in ("float64", "float32"):
        net = mlp.Network(6, layers, device=backend.name, precision=precision, seed=8)
        expected = [
            initial_weights("he_normal", "relu", 8, 0, 6, 5),
            initial_weights("orthogonal", "tanh", 8, 1, 5, 4),
            initial_weights("glorot_uniform", "identity", 8, 2, 4, 3),
        ]
        for W, b, drawn in zip(net.weights, net.biases, expected, strict=True):
            np.testing.assert_array_equal(W, drawn.astype(precision))
            assert not b.any()
