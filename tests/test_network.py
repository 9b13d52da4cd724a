"""What can be asked of a network: outputs, predictions, parameters."""

import copy
import pickle

import numpy as np
import pytest

import mlp
from mlp.data.placing import BLOCK_ROWS
from mlp.errors import InvalidInput
from tests.problems import difference, network, rows
from tests.tolerances import FLOAT64_RELATIVE, assert_close

FORMULAS = {
    "identity": lambda z: z,
    "relu": lambda z: z * (z > 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


def by_hand(net: mlp.Network, X: np.ndarray) -> np.ndarray:
    a = np.asarray(X, float)
    for W, b, layer in zip(net.weights, net.biases, net.spec.layers, strict=True):
        a = FORMULAS[layer.activation](a @ W.astype(float) + b.astype(float))
    return a


# --- forward --------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["identity", "sigmoid", "softmax"])
@pytest.mark.parametrize("count", [1, 2, 33, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 7])
def test_forward(count, output, backend, precision):
    net = network(5, [(9, "relu"), (6, "tanh"), (3, output)], backend, precision.name)
    X = rows(count, 5).astype(precision)
    found = net.forward(X)
    assert found.dtype == precision
    assert_close(found, by_hand(net, X), precision, terms=20)


def test_a_single_row_counts_as_one_of_a_batch(backend):
    net = network(4, [(3, "tanh"), (2, "softmax")], backend)
    X = rows(5, 4)
    assert net.forward(X[2]).shape == (1, 2)
    assert difference(net.forward(X[2])[0], net.forward(X)[2]) < FLOAT64_RELATIVE
    assert difference(net.forward(X[2].tolist()), net.forward(X[2:3])) == 0


def test_a_network_of_one_number(backend):
    net = network(1, [(1, "identity")], backend)
    ((W,),), (b,) = net.weights[0], net.biases[0]
    assert difference(net.forward([[2.0], [-1.0]]), [[2 * W + b], [b - W]]) < FLOAT64_RELATIVE


def test_forward_ignores_dropout(backend):
    layers = [(30, "tanh"), (2, "identity")]
    plain = network(4, layers, backend)
    dropping = network(4, [mlp.Dense(30, "tanh", dropout=0.9), (2, "identity")], backend)
    assert difference(dropping.forward(rows(6, 4)), plain.forward(rows(6, 4))) == 0


def test_rows_of_any_layout_and_type_give_the_same(backend):
    net = network(4, [(3, "tanh"), (2, "identity")], backend)
    X = np.round(rows(7, 4) * 5)
    expected = net.forward(X)
    same = (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.astype(int), X.tolist())
    for other in (*same, X.astype("float32"), X.astype(">f8")):
        assert difference(net.forward(other), expected) == 0


# --- parameters -----------------------------------------------------------------------------------


def test_set_parameters(backend, precision):
    net = network(2, [(3, "tanh"), (1, "identity")], backend, precision.name)
    W, b = [rows(2, 3), rows(3, 1)], [rows(1, 3)[0], rows(1, 1)[0]]
    net.set_parameters([w.tolist() for w in W], b)
    for found, given in zip([*net.weights, *net.biases], [*W, *b], strict=True):
        np.testing.assert_array_equal(found, given.astype(precision))


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ([np.ones((2, 3))], [np.ones(3), np.ones(1)], "weights has 1 arrays for 2 layers"),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3)], "biases has 1 arrays for 2 layers"),
        ([np.ones((3, 2)), np.ones((3, 1))], [np.ones(3), np.ones(1)], r"weights\[0\] has shape"),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3), np.ones(2)], r"biases\[1\] has shape"),
        (
            [np.ones((2, 3)), [[1], [np.nan], [1]]], [np.ones(3), np.ones(1)],
            r"weights\[1\] has numbers that are not finite in float64",
        ),
        ([[[1, 2, 3], [1, 2]], np.ones((3, 1))], [np.ones(3), np.ones(1)], r"weights\[0\]"),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3), ["x"]], r"biases\[1\]"),
    ],
)  # fmt: skip
def test_set_parameters_changes_nothing_when_it_refuses(weights, biases, message, backend):
    net = network(2, [(3, "tanh"), (1, "identity")], backend)
    before = [*net.weights, *net.biases]
    with pytest.raises(InvalidInput, match=message):
        net.set_parameters(weights, biases)
    for now, then in zip([*net.weights, *net.biases], before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_host_copies_cannot_be_mistaken_for_the_parameters(backend):
    net = network(2, [(3, "tanh"), (1, "identity")], backend)
    kept = net.weights[0]
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1
    net.set_parameters([np.zeros((2, 3)), np.zeros((3, 1))], net.biases)
    assert kept.any()


def test_repr_names_the_shape(backend):
    net = network(4, [(8, "tanh"), (3, "softmax")], backend)
    expected = f"Network(4 → 8 tanh → 3 softmax; 67 parameters, float64 on {backend.name})"
    assert repr(net) == expected


# --- predict --------------------------------------------------------------------------------------


def through(outputs, activation: str, backend) -> mlp.Network:
    """A network whose input rows are its output layer's z."""
    net = mlp.Network(outputs, [mlp.Dense(outputs, activation)], device=backend.name)
    net.set_parameters([np.eye(outputs)], [np.zeros(outputs)])
    return net


def test_softmax_predicts_the_label_of_the_largest(backend):
    net = through(3, "softmax", backend)
    Z = [[0, 1, 2], [5, 1, 2], [0, 3, 2]]
    assert net.predict(Z).tolist() == [2, 0, 1]
    net.classes = ("cat", "dog", "eel")
    assert net.predict(Z).tolist() == ["eel", "cat", "dog"]
    assert net.predict(Z[0]).tolist() == ["eel"]


@pytest.mark.parametrize("loss", [None, "binary_cross_entropy", "cross_entropy"])
def test_one_sigmoid_predicts_a_label(loss, backend):
    net = through(1, "sigmoid", backend)
    net.loss = loss
    assert net.predict([[-0.1], [0.0], [0.1]]).tolist() == [0, 1, 1]
    net.classes = ("no", "yes")
    assert net.predict([[-0.1], [0.1]]).tolist() == ["no", "yes"]


def test_several_sigmoids_predict_each_answer(backend):
    found = through(3, "sigmoid", backend).predict([[-1, 1, 2], [1, -1, -2]])
    assert found.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert found.dtype.kind == "i"


def test_a_sigmoid_trained_on_values_predicts_values(backend):
    net = through(1, "sigmoid", backend)
    net.loss = "mse"
    assert net.predict([[0.0]]).tolist() == [0.5]


def test_other_outputs_are_values(backend):
    assert through(1, "identity", backend).predict([[1.5], [-2]]).tolist() == [1.5, -2]
    assert through(2, "relu", backend).predict([[1.5, -2]]).tolist() == [[1.5, 0]]


def test_poisson_predicts_counts(backend):
    net = through(1, "identity", backend)
    net.loss = "poisson"
    np.testing.assert_allclose(net.predict([[0.0], [np.log(3)]]), [1, 3], rtol=1e-6)


def test_every_method_takes_raw_rows_when_there_is_preprocessing(backend):
    net = network(3, [(4, "tanh"), (2, "softmax")], backend)
    X, y = 3 * rows(9, 3) + 5, np.arange(9) % 2
    scaler = mlp.Standardizer.fit(X)
    scaled = scaler.transform(X)
    outputs, loss = net.forward(scaled), net.gradients(scaled, y, "cross_entropy").loss
    net.preprocessing = scaler
    assert difference(net.forward(X), outputs) == 0
    assert net.gradients(X, y, "cross_entropy").loss == loss
    net.classes = ("a", "b")
    labels = np.array(["a", "b"])[y]
    assert net.gradients(X, labels, "cross_entropy").loss == loss


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_pickles_train_like_the_original(duplicate, backend):
    original = mlp.Network(
        3, [mlp.Dense(5, "tanh"), mlp.Dense(2, "softmax")], device=backend.name, seed=2
    )
    original.classes, original.loss = ("a", "b"), mlp.CrossEntropy(label_smoothing=0.1)
    made = duplicate(original)
    assert (made.classes, made.loss, made.spec) == (original.classes, original.loss, original.spec)
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.array(["a", "b"] * 10)
    before = original.weights
    for net in (made, original):
        mlp.Trainer(net, "cross_entropy", batch_size=8).fit(X, y, 3)
        if net is made:
            np.testing.assert_array_equal(original.weights[0], before[0])
    np.testing.assert_array_equal(made.weights[1], original.weights[1])
    assert np.abs(made.weights[1] - before[1]).max() > 0


def test_a_target_scaler_is_between_the_user_and_the_outputs(backend, tmp_path):
    net = mlp.Network(3, [mlp.Dense(2)], device=backend.name, precision="float64")
    X, y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(12.0).reshape(6, 2) ** 2
    plain = net.gradients(X, (y - y.mean(axis=0)) / y.std(axis=0), "mse")
    net.target_scaler = mlp.Standardizer.fit(y)
    found = net.gradients(X, y, "mse")
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    np.testing.assert_allclose(found.weights[0], plain.weights[0], rtol=1e-12)
    expected = net.forward(X) * y.std(axis=0) + y.mean(axis=0)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)
    net.save(tmp_path / "a.safetensors")
    loaded = mlp.load(tmp_path / "a.safetensors", device=backend.name)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    # Of an odd number of rows: signs that balance would leave no gradient to compare with.
    assert max(mlp.check_gradients(net, X[:5], y[:5], "mae").values()) < 1e-7
