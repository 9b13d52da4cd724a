"""Activations and losses against PyTorch's own functions and their autograd derivatives."""

import numpy as np
import pytest

import mlp
from mlp.activations import ACTIVATIONS, activation_backward
from tests.parity import torch_twin
from tests.parity.torch_twin import torch
from tests.problems import difference
from tests.tolerances import FLOAT64_RELATIVE

# Up to 6 the derivative 1 - a² of tanh, taken from a, still has 10 digits; further out it has
# fewer, as PyTorch's own has, so there only its size is compared.
NEAR = np.concatenate([np.linspace(-6, 6, 4001), [0.0, -1e-9, 1e-9, -1e-3, 1e-3]])
FAR = np.array([-700.0, -40.0, -20.5, -12.0, 12.0, 20.5, 40.0, 90.0])
ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if row.derivative is not None]


def torch_value_and_derivative(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    leaf = torch.tensor(z, requires_grad=True)
    a = torch_twin.ACTIVATIONS[name](leaf)
    a.sum().backward()
    return a.detach().numpy(), leaf.grad.numpy()


def ours(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    row = ACTIVATIONS[name]
    a = row.forward(z)
    return a, row.derivative(z if row.saves == "z" else a)


def test_every_activation_has_a_twin():
    assert set(torch_twin.ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_and_derivative(name):
    value, derivative = ours(name, NEAR)
    expected, slope = torch_value_and_derivative(name, NEAR)
    # Point by point, against numbers no smaller than 1e-3: erf's left tail cancels in PyTorch.
    np.testing.assert_allclose(value, expected, rtol=FLOAT64_RELATIVE, atol=FLOAT64_RELATIVE * 1e-3)
    np.testing.assert_allclose(
        derivative, slope, rtol=FLOAT64_RELATIVE, atol=FLOAT64_RELATIVE * 1e-3
    )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_far_out(name):
    value, derivative = ours(name, FAR)
    expected, slope = torch_value_and_derivative(name, FAR)
    assert difference(value, expected) < FLOAT64_RELATIVE
    assert difference(derivative, slope) < FLOAT64_RELATIVE


@pytest.mark.parametrize("outputs", [1, 2, 7])
def test_softmax_and_its_jacobian(outputs):
    rng = np.random.default_rng(3)
    z, gradient = 4 * rng.standard_normal((9, outputs)), rng.standard_normal((9, outputs))
    leaf = torch.tensor(z, requires_grad=True)
    a = torch.softmax(leaf, dim=1)
    a.backward(torch.tensor(gradient))
    probabilities = ACTIVATIONS["softmax"].forward(z)
    assert difference(probabilities, a.detach().numpy()) < FLOAT64_RELATIVE
    assert (
        difference(activation_backward("softmax", gradient, probabilities), leaf.grad)
        < FLOAT64_RELATIVE
    )


@pytest.mark.parametrize("size", [1.0, 30.0, 600.0])
def test_matched_losses_stay_exact_where_probabilities_round_to_0_and_1(size, backend):
    # A one-layer identity-weight network, so that X is z: far beyond where log(a) is -inf.
    z = size * np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, -0.25], [0.1, 0.2, 0.3]])
    for loss, activation, y in (
        (mlp.CrossEntropy(), "softmax", np.array([1, 0, 2])),
        (mlp.BinaryCrossEntropy(), "sigmoid", np.array([[0.0, 1, 1], [1, 0, 0.5], [0, 1, 0]])),
    ):
        net = mlp.Network(3, [mlp.Dense(3, activation)], device=backend.name, precision="float64")
        net.set_parameters([np.eye(3)], [np.zeros(3)])
        twin = torch_twin.Twin(net, loss)
        value = twin.loss(z, y)
        value.backward()
        found = net.gradients(z, y, loss)
        assert difference(found.loss, value.detach()) < FLOAT64_RELATIVE
        # Rows of a column may cancel; what is left then depends on the order of the sum.
        largest = np.abs(found.deltas[0]).max()
        error = np.abs(found.biases[0] - twin.biases[0].grad.numpy()).max()
        assert error < FLOAT64_RELATIVE * largest
        assert difference(found.deltas[0].sum(axis=0), twin.biases[0].grad) < FLOAT64_RELATIVE
