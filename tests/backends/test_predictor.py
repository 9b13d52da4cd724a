"""Prediction with whole networks against the layers' formulas, one after the other, in float64."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS
from mlp.backends import numba_predict
from tests.backends.conftest import in_bfloat16
from tests.conftest import needs_bfloat16
from tests.problems import rows
from tests.tolerances import assert_close, assert_close_in_norm

SECONDS = 60  # after which something that should have ended hangs
ROWS = (1, 2, 127, 128, 129, 1000)
LAYERS = [mlp.Dense(33, "gelu", dropout=0.5), mlp.Dense(127, "relu"), mlp.Dense(3, "softmax")]


def made(device, layers=LAYERS, inputs=31, precision="float64", threads=None, seed=0):
    net = mlp.Network(
        inputs, layers, device=device, precision=precision, seed=seed, threads=threads
    )
    rng = np.random.default_rng(seed)
    net.set_parameters(net.weights, [rng.standard_normal(b.shape) for b in net.biases])
    return net


def formulas(net, X, operand=np.asarray):
    """Each layer's, with what the network holds; nothing is dropped."""
    a = X
    for W, b, layer in zip(net.weights, net.biases, net.spec.layers, strict=True):
        z = operand(a) @ operand(W) + b
        a = ACTIVATIONS[layer.activation].forward(z)
    return a


def predicted(net, X):
    """What a predictor of all layers writes into an array full of NaN."""
    backend = net.backend
    predict = backend.predictor(net.layers(), net.parameters.flat)
    out = backend.from_host(np.full((len(X), net.spec.outputs), np.nan), net.dtype)
    predict(backend.from_host(X, net.dtype), out)
    return backend.to_host(out)


@pytest.fixture
def as_many_threads_as_allowed(monkeypatch):
    """However small the work is."""
    monkeypatch.setattr(numba_predict, "WORTH_A_THREAD", 1e-9)


@pytest.fixture(params=["numpy", "cpu-1", "cpu-2", "cpu-3"])
def where(request, as_many_threads_as_allowed) -> dict:
    """A device, and how many threads it has."""
    name, _, threads = request.param.partition("-")
    return {"device": name, "threads": int(threads) if threads else None}


@pytest.mark.parametrize("count", ROWS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_number_of_rows(where, count, precision):
    net = made(precision=precision, **where)
    X = rows(count, 31).astype(net.dtype)
    expected = formulas(made("numpy"), X.astype(np.float64))
    assert_close(predicted(net, X), expected, net.dtype, terms=127)


@pytest.mark.parametrize(
    ("inputs", "widths"), [(1, (1,)), (5, (3,)), (3, (1, 31)), (130, (300, 1, 40)), (7, (9,) * 8)]
)
@pytest.mark.parametrize("activation", ["identity", "tanh", "silu"])
def test_every_depth(where, inputs, widths, activation):
    net = made(layers=[mlp.Dense(o, activation) for o in widths], inputs=inputs, **where)
    X = rows(260, inputs)
    assert_close(predicted(net, X), formulas(net, X), net.dtype, terms=300)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(where, activation):
    net = made(layers=[mlp.Dense(9, "relu"), mlp.Dense(5, activation)], **where)
    X = rows(40, 31)
    assert_close(predicted(net, X), formulas(net, X), net.dtype, terms=31)


@pytest.mark.parametrize("device", ["numpy", pytest.param("cpu", marks=needs_bfloat16)])
def test_bfloat16(device):
    net = made(device, precision="bfloat16")
    X = rows(200, 31).astype(np.float32)
    assert_close_in_norm(predicted(net, X), formulas(net, X.astype(float), in_bfloat16))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.usefixtures("as_many_threads_as_allowed")
def test_the_same_bits_for_every_number_of_threads(precision):
    X = rows(1000, 31)
    one, *others = (predicted(made("cpu", precision=precision, threads=n), X) for n in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_changed_parameters_are_seen(where):
    net = made(**where)
    X = rows(140, 31)
    predict = net.backend.predictor(net.layers(), net.parameters.flat)
    out = net.backend.zeros((140, 3), net.dtype)
    for seed in (1, 2):
        net.set_parameters(made("numpy", seed=seed).weights, net.biases)
        predict(net.backend.from_host(X, net.dtype), out)
        assert_close(net.backend.to_host(out), formulas(net, X), net.dtype, terms=127)


@pytest.mark.parametrize("counts", [(1, 1000), (1000, 1), (129, 128, 5, 700)])
def test_calls_of_any_size_follow_each_other(where, counts):
    net = made(**where)
    for count in counts:
        X = rows(count, 31)
        assert_close(net.forward(X), formulas(net, X), net.dtype, terms=127)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("as_many_threads_as_allowed")
def test_two_callers_at_once(threads):
    net = made("cpu", threads=threads)
    batches = [rows(300, 31, seed) for seed in range(2)]
    expected = [net.forward(X) for X in batches]
    together = threading.Barrier(2, timeout=SECONDS)

    def predict(number):
        found = []
        for _ in range(50):
            together.wait()
            found.append(net.forward(batches[number]))
        return found

    with ThreadPoolExecutor(2) as pool:
        for found, right in zip(pool.map(predict, range(2)), expected, strict=True):
            for outputs in found:
                np.testing.assert_array_equal(outputs, right)
