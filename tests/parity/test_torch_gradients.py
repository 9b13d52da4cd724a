"""Loss, gradients, deltas and activations of whole networks against PyTorch's autograd."""

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS
from mlp.losses import LOSSES
from tests.parity.torch_twin import Twin
from tests.problems import assert_all_close, difference, network, rows, target
from tests.tolerances import FLOAT64_RELATIVE

VALUE_LOSSES = (mlp.HalfSquaredError(), mlp.MSE(), mlp.MAE(), mlp.Huber(), mlp.Huber(delta=0.3))
# (loss, output activation, outputs, kind of target)
CASES = [
    *(
        (loss, activation, outputs, "values")
        for loss in VALUE_LOSSES
        for activation in ("identity", "tanh", "softplus", "sigmoid", "gelu")
        for outputs in (1, 3)
    ),
    *((loss, "softmax", 3, "values") for loss in VALUE_LOSSES),
    *(
        (mlp.Poisson(), activation, outputs, "counts")
        for activation in ("identity", "tanh")
        for outputs in (1, 4)
    ),
    *(
        (mlp.BinaryCrossEntropy(), "sigmoid", outputs, kind)
        for outputs in (1, 3)
        for kind in ("yes_no", "unit")
    ),
    (mlp.BinaryCrossEntropy(), "softmax", 3, "unit"),
    *(
        (mlp.CrossEntropy(label_smoothing=smoothing), activation, outputs, kind)
        for smoothing in (0.0, 0.1)
        for activation in ("softmax", "sigmoid")
        for outputs in (2, 5)
        for kind in ("labels", "one_hot", "soft")
    ),
]


def assert_same_as_autograd(net, loss, X, y, weight=None):
    found = net.gradients(X, y, loss, weight)
    twin = Twin(net, loss)
    zs, activations = twin.forward(X)
    for z in zs:
        z.retain_grad()
    # The same graph that Twin.loss builds, kept so that each z's gradient can be read.
    twin.forward = lambda _: (zs, activations)
    value = twin.loss(X, y, weight)
    value.backward()
    assert difference(found.loss, value.detach()) < FLOAT64_RELATIVE
    assert_all_close(found.activations, [a.detach() for a in activations], FLOAT64_RELATIVE)
    assert_all_close(found.deltas, [z.grad for z in zs], FLOAT64_RELATIVE)
    assert_all_close(found.weights, [W.grad for W in twin.weights], FLOAT64_RELATIVE)
    assert_all_close(found.biases, [b.grad for b in twin.biases], FLOAT64_RELATIVE)


def case_name(value) -> str | None:
    return f"{value.name}-{value.parameter:g}" if isinstance(value, mlp.Loss) else None


def test_every_loss_is_among_the_cases():
    assert {case[0].name for case in CASES} == set(LOSSES)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("loss", "activation", "outputs", "kind"), CASES, ids=case_name)
def test_losses(loss, activation, outputs, kind, weighted, backend):
    net = network(4, [(6, "tanh"), (outputs, activation)], backend)
    weight = None
    if weighted:
        weight = np.random.default_rng(2).random(13) * 3
        weight[4] = 0
    assert_same_as_autograd(net, loss, rows(13, 4), target(kind, 13, outputs), weight)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "softmax"])
def test_hidden_activations(activation, backend):
    net = network(5, [(33, activation), (31, activation), (2, "identity")], backend)
    assert_same_as_autograd(net, mlp.MSE(), 2 * rows(17, 5), target("values", 17, 2))


@pytest.mark.parametrize(
    ("inputs", "widths", "batch"),
    [(1, (1,), 1), (3, (2,), 1), (1, (1, 1, 1), 2), (7, (5, 4, 3, 2, 3), 32), (127, (65, 3), 33)],
)
def test_shapes(inputs, widths, batch, backend):
    layers = [*((units, "tanh") for units in widths[:-1]), (widths[-1], "softmax")]
    net = network(inputs, layers, backend)
    y = target("labels", batch, widths[-1])
    assert_same_as_autograd(net, mlp.CrossEntropy(), rows(batch, inputs), y)
