"""The flat buffer: where each array lies, and that the padding between them stays 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlp
from mlp.optimizers import OPTIMIZERS
from mlp.parameters import Layout, ParameterBuffer
from tests.problems import network, rows, target

SPEC = mlp.NetworkSpec.of(5, [mlp.Dense(7, "tanh"), mlp.Dense(1), mlp.Dense(64), mlp.Dense(3)])


def padding(layout: Layout) -> np.ndarray:
    """True for the elements of a flat buffer that belong to no array."""
    free = np.ones(layout.size, bool)
    for view in [*layout.weights(free), *layout.biases(free)]:
        view[...] = False
    return free


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_view_starts_on_a_multiple_of_256_bytes(dtype, backend):
    layout = Layout.of(SPEC, np.dtype(dtype))
    buffer = ParameterBuffer(backend, layout, np.dtype(dtype))
    # Each element holds its place, so what a view shows says where in the buffer it lies.
    places = np.arange(layout.size)
    assert layout.size <= 2048  # float16 holds such numbers exactly
    backend.copy(backend.from_host(places, np.dtype(dtype)), buffer.flat)
    expected = [*layout.weights(places), *layout.biases(places)]
    for view, shown in zip([*buffer.weights, *buffer.biases], expected, strict=True):
        np.testing.assert_array_equal(backend.to_host(view), shown)
        assert shown.flat[0] * np.dtype(dtype).itemsize % 256 == 0
    assert layout.size * np.dtype(dtype).itemsize % 256 == 0
    assert [W.shape for W in buffer.weights] == [(5, 7), (7, 1), (1, 64), (64, 3)]
    assert [b.shape for b in buffer.biases] == [(7,), (1,), (64,), (3,)]


@given(widths=st.lists(st.integers(1, 70), min_size=2, max_size=5))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_weights_first_in_order_without_overlap(widths):
    spec = mlp.NetworkSpec.of(widths[0], [mlp.Dense(units) for units in widths[1:]])
    layout = Layout.of(spec, np.dtype("float32"))
    # Number every element by writing its place, then read the places back through the views.
    places = np.arange(layout.size)
    weights, biases = layout.weights(places), layout.biases(places)
    seen = np.concatenate([view.ravel() for view in [*weights, *biases]])
    assert len(seen) == len(set(seen.tolist())) == spec.parameter_count
    np.testing.assert_array_equal(seen, np.sort(seen))
    assert max(W.max() for W in weights) < layout.weights_end <= min(b.min() for b in biases)
    assert layout.weights_end == layout.bias_offsets[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_padding_stays_0_with_every_optimizer(name, precision, backend):
    settings = {"rmsprop": {"centered": True, "momentum": 0.5}, "sgd": {"momentum": 0.5}}
    optimizer = OPTIMIZERS[name](lr=0.01, weight_decay=0.1, **settings.get(name, {}))
    net = network(5, [mlp.Dense(7, "tanh", dropout=0.3), (3, "identity")], backend, precision.name)
    trainer = mlp.Trainer(
        net, "mse", optimizer, 4, l1=0.01, l2=0.01, weight_decay=0.01, clip_norm=0.1
    )
    trainer.fit(rows(11, 5), target("values", 11, 3), epochs=3)
    free = padding(net.layout)
    assert free.any()
    flat = net.backend.to_host(net.parameters.flat)
    assert not flat[free].any()
    assert (flat[~free] != 0).all()
    assert not net.backend.to_host(trainer.step.gradients.flat)[free].any()
    for state in trainer.step.state.values():
        assert not net.backend.to_host(state)[free].any()


def test_decay_and_penalties_reach_the_weights_alone(backend):
    # Inputs and targets of 0 leave every gradient 0 where the biases are 0: what moves is decay.
    net = mlp.Network(
        3, [mlp.Dense(2, "tanh"), mlp.Dense(2)], device=backend.name, precision="float64"
    )
    start = net.weights
    trainer = mlp.Trainer(net, "mse", mlp.SGD(lr=0.5), weight_decay=0.1, l2=0.2)
    trainer.fit(np.zeros((4, 3)), np.zeros((4, 2)), epochs=1)
    for W, before in zip(net.weights, start, strict=True):
        # The penalty's gradient is taken before the decay: W (1 - 0.5 * 0.1) - 0.5 * 0.2 W.
        np.testing.assert_allclose(W, before * (0.95 - 0.1), rtol=1e-14)
    for b in net.biases:
        assert not b.any()
