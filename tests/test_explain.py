"""Walks of any network: their numbers against NumPy and finite differences, their text by eye."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS
from mlp.backends.protocol import Backend
from mlp.data.preprocessing import Standardizer
from mlp.errors import InvalidInput, InvalidSetting
from mlp.explain import EXAMPLES, explain_example, explain_row
from mlp.explain.formulas import LOSS_TEXTS
from mlp.explain.notation import bare, dot, entry, largest, number, vector
from mlp.losses import LOSSES, CrossEntropy, Huber
from mlp.network import Network
from mlp.spec import Dense

X = np.random.default_rng(3).normal(size=(5, 3))
LABELS = [0, 2, 1, 1, 0]
ROWS = np.random.default_rng(4).normal(size=(5, 3))
SHARES = np.random.default_rng(5).random((5, 3))

# loss -> (targets, output activations that it can follow)
CASES = {
    "half_squared_error": (ROWS, ["identity", "tanh", "softmax"]),
    "mse": (ROWS, ["identity", "sigmoid", "softmax"]),
    "mae": (ROWS, ["identity", "selu"]),
    "huber": (ROWS, ["identity", "silu"]),
    "binary_cross_entropy": (SHARES, ["sigmoid", "softmax"]),
    "cross_entropy": (LABELS, ["softmax", "sigmoid"]),
    "poisson": (np.floor(SHARES * 9), ["identity"]),
}
PAIRS = [(loss, activation) for loss, (_, found) in CASES.items() for activation in found]


def network(activation: str, hidden: str = "tanh", device: str = "numpy") -> Network:
    layers = [Dense(4, hidden), Dense(3, activation)]
    net = Network(3, layers, device=device, precision="float64", seed=2)
    net.set_parameters(net.weights, [[0.1, -0.2, 0.3, -0.4], [0.05, -0.05, 0.02]])
    return net


def steps_of(document: dict) -> list[dict]:
    return [part for section in document["sections"] for part in section["parts"]]


def evaluate(numbers: str) -> float:
    """The value of a line's formula in numbers, as a reader with a calculator would find it."""
    functions = {
        "σ": lambda z: 1 / (1 + np.exp(-z)),
        "h": lambda e: e * e / 2 if abs(e) <= 1 else abs(e) - 0.5,
        **{name: getattr(np, name) for name in ("exp", "log", "tanh", "sign", "clip")},
        **{
            name: lambda z, row=row: row.forward(np.array([z]))[0]
            for name, row in ACTIVATIONS.items()
            if name != "tanh"
        },
        "max": max,
        "abs": abs,
    }
    text = numbers.replace("·", "*").replace("²", "**2").replace("[", "(").replace("]", ")")
    while "|" in text:
        text = text.replace("|", "abs(", 1).replace("|", ")", 1)
    return float(eval(text, {"__builtins__": {}}, functions))


def test_every_loss_has_a_text_and_a_case() -> None:
    assert set(LOSS_TEXTS) == set(CASES) == set(LOSSES)


@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_each_line_is_true(loss: str, activation: str) -> None:
    """What is printed left of "=" and right of it agree, to what the printed digits allow."""
    walk = explain_row(network(activation), X, CASES[loss][0], loss, 1, 0.1)
    checked = 0
    for step in steps_of(walk.to_json()):
        for line in step["lines"]:
            if line["numbers"] and "Σ" not in line["numbers"]:
                expected = evaluate(line["numbers"])
                assert line["value"] == pytest.approx(expected, rel=3e-3, abs=6e-5), line
                checked += 1
    assert checked > 30


@pytest.mark.parametrize("hidden", [name for name in ACTIVATIONS if name != "softmax"])
def test_each_line_is_true_for_every_activation(hidden: str) -> None:
    walk = explain_row(network("identity", hidden), X, ROWS, "mse", 2)
    for step in steps_of(walk.to_json()):
        for line in step["lines"]:
            if line["numbers"]:
                assert line["value"] == pytest.approx(
                    evaluate(line["numbers"]), rel=3e-3, abs=6e-5
                ), line


@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_values_are_the_networks_own(loss: str, activation: str, backend: Backend) -> None:
    net, y = network(activation, device=backend.name), CASES[loss][0]
    values = explain_row(net, X, y, loss, 3, learning_rate=0.5).values
    found = net.gradients(X[3:4], y[3:4], loss)
    x = X[3]
    for i, layer in enumerate(values["layers"]):
        z = x @ net.weights[i] + net.biases[i]
        np.testing.assert_allclose(layer["z"], z, rtol=1e-13)
        np.testing.assert_array_equal(layer["a"], found.activations[i][0])
        np.testing.assert_array_equal(layer["delta"], found.deltas[i][0])
        np.testing.assert_array_equal(layer["dW"], found.weights[i])
        np.testing.assert_array_equal(layer["db"], found.biases[i])
        updated = values["updated"][i]
        np.testing.assert_allclose(updated["W"], net.weights[i] - 0.5 * found.weights[i])
        np.testing.assert_allclose(updated["b"], net.biases[i] - 0.5 * found.biases[i])
        x = found.activations[i][0]
    assert values["loss"] == found.loss
    assert values["check"]["relative_difference"] < 1e-9


def test_check_names_the_largest_gradient() -> None:
    net = network("identity")
    found = net.gradients(X[:1], ROWS[:1], "mse")
    top = max((g.ravel() for g in (*found.weights, *found.biases)), key=lambda g: abs(g).max())
    check = explain_row(net, X, ROWS, "mse", 0).values["check"]
    assert check["analytic"] == top[abs(top).argmax()]
    h, where = 1e-5, check["parameter"]
    kind, layer = where[0], int(where[-1]) - 1
    place = tuple(int(c) - 1 for c in where.split()[0][2:])

    def loss_at(distance: float) -> float:
        W, b = [w.copy() for w in net.weights], [v.copy() for v in net.biases]
        (W if kind == "W" else b)[layer][place] += distance
        output = np.tanh(X[0] @ W[0] + b[0]) @ W[1] + b[1]
        return float(((output - ROWS[0]) ** 2).mean())

    slope = (loss_at(h) - loss_at(-h)) / (2 * h)
    assert check["analytic"] == pytest.approx(slope, rel=1e-7)
    assert check["numeric"] == pytest.approx(slope, rel=1e-7)


def test_a_kink_has_no_slope_to_compare_with() -> None:
    net = Network(1, [Dense(1)], device="numpy", precision="float64")
    net.set_parameters([[[2.0]]], [[0.0]])
    walk = explain_row(net, [[1.0]], [2.0], "mae", 0)
    assert walk.values["check"]["numeric"] is None
    assert "kink" in walk.text()
    json.dumps(walk.to_json(), allow_nan=False)


def test_matched_forms_say_why() -> None:
    text = explain_row(network("softmax"), X, LABELS, "cross_entropy", 0).text()
    assert "δ_k = dL/dz_k = a_k - t_k" in text
    assert "The t_j sum to 1." in text
    text = explain_row(network("softmax"), X, SHARES, "cross_entropy", 0).text()
    assert "δ_k = dL/dz_k = a_k Σ_j t_j - t_k" in text
    assert "sum to 1" not in text
    text = explain_row(network("sigmoid"), X, SHARES, "binary_cross_entropy", 0).text()
    assert "δ_k = dL/dz_k = (a_k - y_k) / O" in text
    assert "which cancels" in text


def test_label_smoothing_and_hubers_bound() -> None:
    values = explain_row(network("softmax"), X, LABELS, CrossEntropy(0.3), 1).values
    np.testing.assert_allclose(values["target"], [0.1, 0.1, 0.8])
    p = np.array(values["layers"][1]["a"])
    assert values["loss"] == pytest.approx(-np.log(p) @ [0.1, 0.1, 0.8])
    text = explain_row(network("identity"), X, ROWS * 3, Huber(0.25), 0).text()
    assert "Huber's bound, 0.25" in text
    assert "clip(" in text


def wide() -> Network:
    net = Network(30, [Dense(40, "relu", dropout=0.5), Dense(12, "softmax")], device="numpy")
    rows = np.random.default_rng(6).normal(3, 2, size=(50, 30))
    net.preprocessing = Standardizer.fit(rows)
    net.classes = tuple(f"kind {k:02d}" for k in range(12))
    return net


def test_wide_layers_are_shortened() -> None:
    net, rows = wide(), np.full((2, 30), 2.5)
    walk = explain_row(net, rows, ["kind 03", "kind 07"], "cross_entropy", 1, 0.1)
    text = walk.text()
    assert len(text.splitlines()) < 150
    flat = " ".join(text.split())
    assert "… 37 more" in text
    assert "(27 more terms)" in flat
    assert "… 1197 more" in text
    assert "Dropout is left out" in text
    assert "Standardised" in text
    assert "class kind 07" in text
    layer = walk.values["layers"][0]
    scaled = (2.5 - net.preprocessing.mean) / net.preprocessing.scale
    np.testing.assert_allclose(layer["x"], scaled, rtol=1e-6)
    # the units shown are the ones with the largest |δ|, all the way through
    top = sorted(np.argsort(-np.abs(layer["delta"]))[:3] + 1)
    for name in ("z", "a", "δ"):
        assert all(f"    {name}_{j} = " in text for j in top)
    # the ellipsis stands for the true rest: the total is the whole sum
    z = layer["z"][top[0] - 1]
    assert f"= {number(z, 5)} z_" in flat


@pytest.mark.parametrize("width", [60, 88, 120])
def test_text_keeps_to_its_width(width: int) -> None:
    walk = explain_row(wide(), np.ones((1, 30)), ["kind 00"], "cross_entropy", 0, 0.1)
    lines = walk.text(width).splitlines()[2:]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_fit_and_go_to_json(name: str) -> None:
    walk = explain_example(name)
    assert max(map(len, walk.text().splitlines())) <= 88
    document = json.loads(json.dumps(walk.to_json(), allow_nan=False))
    assert document["title"] == walk.title
    assert len(document["sections"]) == len(walk.sections)


def test_yes_no_classes() -> None:
    net = Network(2, [Dense(1, "sigmoid")], device="numpy", precision="float64")
    net.set_parameters([[[1.0], [2.0]]], [[0.5]])
    net.classes = ("no", "yes")
    text = explain_row(net, [[1, 1], [-1, -1]], ["yes", "yes"], "binary_cross_entropy", 0).text()
    assert "The target is y = 1: class yes." in text
    assert "how likely class yes is" in text
    assert "that is right" in text
    text = explain_row(net, [[1, 1], [-1, -1]], ["yes", "yes"], "binary_cross_entropy", 1).text()
    assert "The network says class no; the row's class is yes." in text


def test_class_names_that_do_not_fit_the_outputs_are_left_out() -> None:
    net = Network(3, [Dense(1, "sigmoid")], device="numpy")
    assert explain_row(net, X, [0] * 5, "cross_entropy", 0).values["label"] == "0"
    net.classes = ("a", "b")
    walk = explain_row(net, X, ["a"] * 5, "cross_entropy", 0)
    assert walk.values["label"] is None
    net = Network(3, [Dense(3, "sigmoid")], device="numpy")
    net.classes = ("a", "b", "c")
    text = explain_row(net, X, SHARES, "binary_cross_entropy", 0).text()
    assert "(class b)" in text
    assert "The network says" not in text


def test_saturated_outputs() -> None:
    """A probability of exactly 0 where the class is: the loss is that of z, and finite."""
    net = Network(1, [Dense(2, "softmax")], device="numpy")
    net.set_parameters([[[500.0, -500.0]]], [[0.0, 0.0]])
    walk = explain_row(net, [[1.0]], [1], "cross_entropy", 0)
    assert walk.values["loss"] == 1000
    assert "It is computed from z" in walk.text()
    json.dumps(walk.to_json(), allow_nan=False)


def test_no_rate_no_update() -> None:
    walk = explain_row(network("identity"), X, ROWS, "mse", 0)
    assert "Gradient descent" not in walk.text()
    assert "updated" not in walk.values


def test_the_network_is_left_as_it_is() -> None:
    net = network("softmax")
    before = [*map(np.copy, (*net.weights, *net.biases))]
    explain_row(net, X, LABELS, "cross_entropy", 0, 0.1)
    for old, new in zip(before, (*net.weights, *net.biases), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("row", [-1, 5, 1.5, "0", True, None])
def test_row_must_exist(row: object) -> None:
    with pytest.raises(InvalidInput, match="row must be a whole number from 0 to 4"):
        explain_row(network("identity"), X, ROWS, "mse", row)


def test_bad_arguments() -> None:
    net = network("identity")
    with pytest.raises(InvalidInput, match="y has 4 rows, but X has 5"):
        explain_row(net, X, ROWS[:4], "mse", 0)
    with pytest.raises(InvalidInput, match="features"):
        explain_row(net, X[:, :2], ROWS, "mse", 0)
    with pytest.raises(InvalidSetting, match="unknown loss"):
        explain_row(net, X, ROWS, "msee", 0)
    with pytest.raises(InvalidSetting, match="needs probabilities"):
        explain_row(net, X, LABELS, "cross_entropy", 0)
    with pytest.raises(InvalidSetting, match="learning_rate"):
        explain_row(net, X, ROWS, "mse", 0, learning_rate=-1)


def test_one_row_may_be_given_bare() -> None:
    net = network("identity")
    bare_row = explain_row(net, X[0], ROWS[0], "mse", 0)
    assert bare_row.to_json() == explain_row(net, X[:1], ROWS[:1], "mse", 0).to_json()


def test_numbers_on_paper() -> None:
    assert number(0.0, 8) == number(-0.0, 8) == "0"
    assert number(0.1 + 0.2, 8) == "0.3"
    assert number(-2.5e-7, 8) == "-2.5e-7"
    assert number(3e9, 5) == "3e9"
    for value in (1 / 3, 123.456789, -9.87654321e-5, 1e-12):
        assert abs(Fraction(number(value, 8)) - Fraction(value)) <= Fraction(abs(value)) / 1000
    assert dot(np.array([-0.5, 2]), np.array([-1.0, 0.25]), 4) == "-0.5·(-1) + 2·0.25"
    assert dot(np.ones(5), np.ones(5), 4) == "1·1 + 1·1 + 1·1 + … (2 more terms)"
    assert bare("(a) - (b)") == "(a) - (b)"
    assert bare("((a))") == "(a)"
    assert entry(0, 1, (2, 2)) == "_12"
    assert entry(0, 1, (10, 2)) == "_1,2"
    assert largest(np.array([1.0, -5, 2, 0, 3])) == (1, 2, 4)
    assert vector([1.0] * 11, 3) == "[1, 1, 1, 1, … 7 more]"


def test_import_stays_light() -> None:
    code = "import sys, mlp.explain; print({'numba', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
