"""The two classic walk-throughs, against their numbers typed in here and against plain NumPy."""

import numpy as np
import pytest

from mlp.backends.protocol import Backend
from mlp.errors import InvalidSetting
from mlp.explain import explain_example
from mlp.explain.examples import matrix_network, relu_network, sigmoid_network
from mlp.network import Network
from mlp.spec import Dense

# Numbers printed to 8 decimals are right to half a unit of the last, and rounding of the sum.
PRINTED = {"rtol": 0, "atol": 0.5e-8 + 1e-12}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_derivative(x):
    return x * (1 - x)


# --- one node per layer, ReLU -------------------------------------------------------------------


def test_relu_walk_through(backend: Backend) -> None:
    values = explain_example("relu", backend.name).values
    first, second = values["layers"]
    assert first["a"] == [6.0]
    assert second["z"] == second["a"] == [3.0]
    assert values["loss"] == 2.0
    assert second["dW"] == [[12.0]]
    assert first["dW"] == [[2.0]]
    m1, m2 = (layer["W"][0][0] for layer in values["updated"])
    assert m1 == pytest.approx(2.8, rel=1e-15)
    assert m2 == pytest.approx(-0.7, rel=1e-15)


def test_relu_walk_through_has_no_biases() -> None:
    walk = explain_example("relu")
    assert [layer["b"] for layer in walk.values["updated"]] == [[0.0], [0.0]]
    text = walk.text()
    assert "db" not in text
    assert "b :=" not in text
    assert "L = 1/2 · (3 - 1)² = 2" in text
    assert "W := 0.5 - 0.1·12 = -0.7" in text
    assert "δ = (2·0.5)·1 = 1" in text


def test_the_relu_dies_after_its_first_step() -> None:
    net = relu_network()
    net.set_parameters([[[2.8]], [[-0.7]]], [[0.0], [0.0]])
    after = net.gradients([[2.0]], [1.0], "half_squared_error")
    assert after.loss == 0.5
    assert not any(dW.any() for dW in after.weights)


def test_binary_cross_entropy_as_the_walk_through_writes_it(backend: Backend) -> None:
    net = Network(1, [Dense(1, "sigmoid")], device=backend.name, precision="float64")
    net.set_parameters([[[0.7]]], [[-0.2]])
    for x, y in ((1.5, 1.0), (1.5, 0.0), (-3.0, 0.25)):
        y_hat = sigmoid(0.7 * x - 0.2)
        expected = -y * np.log(y_hat) - (1 - y) * np.log(1 - y_hat)
        found = net.gradients([[x]], [y], "binary_cross_entropy")
        assert found.loss == pytest.approx(expected, rel=1e-13)
        # dL/dŷ · F'(z) with both factors written out, though the network merges them
        slope = -y / y_hat + (1 - y) / (1 - y_hat)
        assert found.deltas[0][0, 0] == pytest.approx(slope * y_hat * (1 - y_hat), rel=1e-12)


def test_ten_nodes_on_ten(backend: Backend) -> None:
    net = matrix_network(backend.name)
    A = np.arange(1, 11)[:, None] / 10
    w = np.array([[((3 * i + 5 * j) % 7 - 3) / 10 for j in range(1, 11)] for i in range(1, 11)])
    b = np.arange(1, 11) / 100
    nodes = []
    for i in range(10):
        z = b[i]
        for j in range(10):
            z += w[i, j] * A[j, 0]
        nodes.append(z)
    np.testing.assert_allclose(w @ A + b[:, None], np.array(nodes)[:, None], rtol=0, atol=1e-15)
    np.testing.assert_allclose(net.forward(A.T)[0], nodes, rtol=0, atol=1e-15)
    found = net.gradients(A.T, np.zeros((1, 10)), "half_squared_error")
    delta = np.array(nodes) / 10  # dL/dz_i of 1/(2·10) Σ z_i²
    # ∂L/∂w_ij = δ_i a_j; a layer's W is w transposed
    np.testing.assert_allclose(found.weights[0].T, delta[:, None] * A.T, rtol=0, atol=1e-15)
    values = explain_example("matrix", backend.name).values["columns"]
    assert values["dL/dw_11"] == pytest.approx(delta[0] * A[0, 0], rel=1e-12)
    assert values["largest_difference"] < 1e-15
    np.testing.assert_allclose(values["Z"], nodes, rtol=0, atol=1e-15)


def test_two_layer_formulas_in_column_notation(backend: Backend) -> None:
    """δ₂ = ∂L/∂ŷ F'(z₂), ∂L/∂W₂ = δ₂ a₁ᵀ, δ₁ = (W₂ᵀ δ₂) ⊙ g'(z₁), ∂L/∂W₁ = δ₁ xᵀ."""
    net = Network(3, [Dense(4, "tanh"), Dense(2)], device=backend.name, precision="float64", seed=5)
    W1, W2 = (W.T for W in net.weights)
    x, y = np.array([[0.3], [-1.2], [0.7]]), np.array([[0.5], [-0.25]])
    a1 = np.tanh(W1 @ x)
    y_hat = W2 @ a1
    delta2 = 2 * (y_hat - y) / 2
    delta1 = (W2.T @ delta2) * (1 - np.tanh(W1 @ x) ** 2)
    found = net.gradients(x.T, y.T, "mse")
    np.testing.assert_allclose(found.weights[1].T, delta2 @ a1.T, rtol=1e-13)
    np.testing.assert_allclose(found.weights[0].T, delta1 @ x.T, rtol=1e-13)


# --- the 2-2-1 sigmoid notebook -----------------------------------------------------------------


def test_notebook_forward_and_gradients(backend: Backend) -> None:
    values = explain_example("sigmoid", backend.name).values
    hidden, output = values["layers"]
    np.testing.assert_allclose(hidden["a"], [0.55724785, 0.62010643], **PRINTED)
    np.testing.assert_allclose(output["a"], [0.67932855], **PRINTED)
    assert values["loss"] == pytest.approx(0.00042731, abs=0.5e-8)
    right = values["notebook"]["correct"]
    np.testing.assert_allclose(right["dE/dy"], [-0.04134291], **PRINTED)
    np.testing.assert_allclose(output["dW"], [[-0.00501868], [-0.0055848]], **PRINTED)


def test_correct_values_from_the_initial_weights(backend: Backend) -> None:
    values = explain_example("sigmoid", backend.name).values
    expected = {
        "dE/dh": [-0.0045031, -0.00540372],
        "W1": [0.20005555, 0.40006365, 0.10003333, 0.30003819],
        "W2": [0.50050187, 0.60055848],
        "b1": [0.1001111, 0.2001273],
        "b2": [0.10090062],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(values["notebook"]["correct"][name], numbers, **PRINTED)
    first, second = values["updated"]
    np.testing.assert_allclose(np.ravel(first["W"]), expected["W1"], **PRINTED)
    np.testing.assert_allclose(np.ravel(second["W"]), expected["W2"], **PRINTED)
    np.testing.assert_allclose(first["b"], expected["b1"], **PRINTED)
    np.testing.assert_allclose(second["b"], expected["b2"], **PRINTED)


def initial() -> dict[str, np.ndarray]:
    return {
        "w1": np.array([[0.2, 0.4], [0.1, 0.3]]),
        "w2": np.array([[0.5], [0.6]]),
        "b1": np.array([0.1, 0.2]),
        "b2": np.array([0.1]),
    }


def notebook(training_cell):
    """The notebook's cells in its own words; `training_cell` changes the variables in place."""
    v = initial()
    X, t, lr = np.array([0.5, 0.3]), np.array([0.7]), 0.1
    h = sigmoid(np.dot(X, v["w1"]) + v["b1"])
    y = sigmoid(np.dot(h, v["w2"]) + v["b2"])
    training_cell(v, X, t, h, y, lr)
    left = {name: value.copy() for name, value in v.items()}
    grad_E_y = 2 * (y - t)
    grad_E_W2 = grad_E_y * sigmoid_derivative(y) * h.reshape(-1, 1)
    grad_E_h = grad_E_y * sigmoid_derivative(y) * v["w2"].T
    grad_E_W1 = grad_E_h * sigmoid_derivative(h) * X.reshape(-1, 1)
    printed = {
        "h": h, "y": y, "E": np.square(y - t), "dE/dy": grad_E_y, "dE/dW2": grad_E_W2,
        "dE/dh": grad_E_h, "dE/dW1": grad_E_W1,
        "W1": v["w1"] - lr * grad_E_W1,
        "W2": v["w2"] - lr * grad_E_W2,
        "b1": v["b1"] - lr * grad_E_h * sigmoid_derivative(h),
        "b2": v["b2"] - lr * grad_E_y * sigmoid_derivative(y),
    }  # fmt: skip
    return printed, left


def cell_as_printed(v, X, t, h, y, lr) -> None:
    update(v, X, h, 2 * (y - t) * sigmoid_derivative(y), lr)


def cell_as_run(v, X, t, h, y, lr) -> None:
    update(v, X, h, np.square(y - t) * sigmoid_derivative(y), lr)


def update(v, X, h, d_predicted_output, lr) -> None:
    error_hidden_layer = d_predicted_output.dot(v["w2"].T)
    d_hidden_layer = error_hidden_layer * sigmoid_derivative(h)
    v["w2"] += h.reshape(-1, 1).dot(d_predicted_output.reshape(1, -1)) * lr
    v["w1"] += X.reshape(-1, 1).dot(d_hidden_layer.reshape(1, -1)) * lr
    v["b2"] += np.sum(d_predicted_output, axis=0) * lr
    v["b1"] += np.sum(d_hidden_layer, axis=0) * lr


PAGE = {
    "h": [0.55724785, 0.62010643],
    "y": [0.67932855],
    "E": [0.00042731],
    "dE/dy": [-0.04134291],
    "dE/dW2": [[-0.00501868], [-0.0055848]],
    "dE/dh": [[-0.00450314, -0.00540377]],
    "dE/dW1": [[-0.00055551, -0.00063649], [-0.00033331, -0.0003819]],
    "W1": [[0.20005613, 0.40006431], [0.10003368, 0.30003858]],
    "W2": [[0.50050706], [0.60056425]],
    "b1": [[0.10011357, 0.20012976]],
    "b2": [0.10090993],
}


def test_every_printed_number_follows_from_the_left_over_state() -> None:
    printed, left = notebook(cell_as_run)
    np.testing.assert_allclose(
        left["w1"], [[0.20000057, 0.40000066], [0.10000034, 0.30000039]], **PRINTED
    )
    np.testing.assert_allclose(left["w2"], [[0.50000519], [0.60000577]], **PRINTED)
    np.testing.assert_allclose(left["b1"], [0.10000246, 0.20000246], **PRINTED)
    np.testing.assert_allclose(left["b2"], [0.10000931], **PRINTED)
    values = explain_example("sigmoid").values["notebook"]
    for name, numbers in PAGE.items():
        np.testing.assert_allclose(printed[name], numbers, **PRINTED)
        assert np.shape(printed[name]) == np.shape(numbers)
        ours = np.reshape(values["from_left_over_state"][name], np.shape(numbers))
        np.testing.assert_allclose(ours, printed[name], rtol=1e-14)
        np.testing.assert_array_equal(values["printed"][name], np.ravel(numbers))
    for name, numbers in left.items():
        found = values["left_over_state"][name.upper() if name[0] == "w" else name]
        np.testing.assert_allclose(found, np.ravel(numbers), rtol=1e-15)


def test_the_printed_training_cell_leads_elsewhere() -> None:
    printed, _ = notebook(cell_as_printed)
    np.testing.assert_allclose(printed["W2"], [[0.5], [0.6]], rtol=1e-15)
    assert not np.allclose(printed["dE/dh"], PAGE["dE/dh"], **PRINTED)


def test_the_printed_update_undone_shows_other_weights() -> None:
    before = np.array(PAGE["W2"]) + 0.1 * np.array(PAGE["dE/dW2"])
    np.testing.assert_allclose(before, [[0.50000519], [0.60000577]], rtol=0, atol=1e-8)
    text = explain_example("sigmoid").text()
    assert "0.50000519 and 0.60000577" in text


def test_the_printed_training_cell_climbs(backend: Backend) -> None:
    """The cell repeated in plain NumPy, as printed; and the gradient followed."""
    values = explain_example("sigmoid", backend.name).values["notebook"]["errors"]

    def errors_of(cell) -> list[float]:
        v, X, t = initial(), np.array([0.5, 0.3]), np.array([0.7])
        errors = []
        for _ in range(101):
            h = sigmoid(X @ v["w1"] + v["b1"])
            y = sigmoid(h @ v["w2"] + v["b2"])
            errors.append(((y - t) ** 2).item())
            cell(v, X, t, h, y)
        return errors

    def step(v, X, t, h, y, lr) -> None:
        d_output = 2 * (y - t) * sigmoid_derivative(y)
        d_hidden = d_output.dot(v["w2"].T) * sigmoid_derivative(h)
        v["w2"] += np.outer(h, d_output) * lr
        v["w1"] += np.outer(X, d_hidden) * lr
        v["b2"] += d_output * lr
        v["b1"] += d_hidden * lr

    found = {
        "cell": errors_of(lambda *args: cell_as_printed(*args, 0.1)),
        "ascent": errors_of(lambda *args: step(*args, 0.1)),
        "descent": errors_of(lambda *args: step(*args, -0.1)),
    }
    for name, errors in found.items():
        for steps in (0, 1, 10, 100):
            assert values[str(steps)][name] == pytest.approx(errors[steps], rel=1e-9)
        assert np.all(np.diff(errors) < 0 if name == "descent" else np.diff(errors) > 0)


def test_the_printed_training_cell_mixes_up_b1(backend: Backend) -> None:
    """Against central differences of the error by b1, in plain NumPy."""
    slopes = []
    for unit in range(2):
        errors = []
        for h in (1e-5, -1e-5):
            v = initial()
            v["b1"][unit] += h
            y = sigmoid(sigmoid(np.array([0.5, 0.3]) @ v["w1"] + v["b1"]) @ v["w2"] + v["b2"])
            errors.append(((y - 0.7) ** 2).item())
        slopes.append((errors[0] - errors[1]) / 2e-5)
    b1 = explain_example("sigmoid", backend.name).values["notebook"]["b1_after_one_step"]
    start = np.array([0.1, 0.2])
    np.testing.assert_allclose(b1["ascent"], start + 0.1 * np.array(slopes), rtol=1e-9)
    np.testing.assert_allclose(b1["cell"], start + 0.1 * sum(slopes), rtol=1e-9)
    _, left = notebook(cell_as_printed)
    np.testing.assert_allclose(b1["cell"], left["b1"], rtol=1e-15)


def test_examples_leave_their_network_alone() -> None:
    from mlp.explain.notebook import INITIAL, errata

    net = sigmoid_network()
    errata(net)
    np.testing.assert_array_equal(net.weights[0], INITIAL.W1)
    np.testing.assert_array_equal(net.biases[1], INITIAL.b2)


def test_unknown_example() -> None:
    with pytest.raises(InvalidSetting, match=r"unknown example 'sigmoind'; did you mean 'sigmoid'"):
        explain_example("sigmoind")
    with pytest.raises(InvalidSetting, match="unknown device"):
        explain_example("relu", "gpu")
