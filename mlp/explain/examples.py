"""Small networks whose every number fits on a page, worked out in full in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlp.errors import unknown_name
from mlp.explain import notebook
from mlp.explain.notation import dot, factor
from mlp.explain.report import Line, Section, Step, Walk
from mlp.explain.walk import build_walk
from mlp.losses import get_loss
from mlp.network import Network
from mlp.spec import Dense

RATE = 0.1


def explain_example(name: str, device: str = "numpy") -> Walk:
    """A worked example.

    Args:
        name: "relu", one node per layer and whole numbers; "sigmoid", a 2-2-1 network, and what is
            wrong on the page that it comes from; "matrix", one layer of 10 nodes on 10, node by
            node and as a matrix product.
        device: where the network computes.

    Raises:
        InvalidSetting: no such example, or no such device.
        BackendUnavailable: the device cannot compute in float64 here.
    """
    if name not in EXAMPLES:
        raise unknown_name("example", name, EXAMPLES)
    return EXAMPLES[name](device)


def relu_network(device: str = "numpy") -> Network:
    """a1 = m1 x, ŷ = ReLU(m2 a1) with m1 = 3, m2 = 0.5; its biases are 0."""
    net = Network(1, [Dense(1), Dense(1, "relu")], device=device, precision="float64")
    net.set_parameters([[[3.0]], [[0.5]]], [[0.0], [0.0]])
    return net


def sigmoid_network(device: str = "numpy") -> Network:
    """The 2-2-1 network with the notebook's initial weights."""
    net = Network(2, [Dense(2, "sigmoid"), Dense(1, "sigmoid")], device=device, precision="float64")
    start = notebook.INITIAL
    net.set_parameters([start.W1, start.W2], [start.b1, start.b2])
    return net


def matrix_network(device: str = "numpy") -> Network:
    """One layer, 10 nodes on 10: w_ij from node j to node i is a tenth of -3, ..., 3."""
    net = Network(10, [Dense(10)], device=device, precision="float64")
    i, j = np.indices((10, 10)) + 1
    columns = ((3 * i + 5 * j) % 7 - 3) / 10
    # The column notation keeps w_ij in row i; here a layer's W has a column per node.
    net.set_parameters([columns.T], [np.arange(1, 11) / 100])
    return net


def _relu(device: str) -> Walk:
    intro = (
        "One node per layer and no biases: a1 = m1 x, ŷ = ReLU(m2 a1), L = (ŷ - y)² / 2.",
        "x = 2, y = 1. m1 = 3 is the only weight W of layer 1, m2 = 0.5 that of layer 2.",
    )
    return build_walk(
        relu_network(device), np.array([[2.0]]), np.array([1.0]), get_loss("half_squared_error"),
        title="The one-node ReLU walk-through", intro=intro, learning_rate=RATE, digits=8,
        bias=False,
    )  # fmt: skip


def _sigmoid(device: str) -> Walk:
    net = sigmoid_network(device)
    intro = (
        "Two inputs, two hidden units, one output, sigmoids throughout; the error is (y - t)², "
        "here L = (a - y)²: the notebook's y is the output a, and its t the target y.",
    )
    walk = build_walk(
        net, notebook.X[None], notebook.T, get_loss("mse"),
        title="The 2-2-1 sigmoid notebook", intro=intro, learning_rate=notebook.RATE, digits=8,
    )  # fmt: skip
    wrong, values = notebook.errata(net)
    return Walk(
        walk.title, (*walk.sections, *wrong), {**walk.values, "notebook": values}, walk.digits
    )


def _matrix(device: str) -> Walk:
    net = matrix_network(device)
    a = np.arange(1, 11) / 10
    intro = (
        "Ten nodes with outputs a_1 to a_10 feed ten more, each of which sums all of them. "
        "What comes before the first ten plays no part: their outputs are the row x here.",
        "In columns: Z = W A + b, with w_ij from node j to node i. In rows, as everywhere else in "
        "this package: z = x W + b, where x is A written as a row and W is the transpose.",
    )
    walk = build_walk(
        net, a[None], np.zeros((1, 10)), get_loss("half_squared_error"),
        title="Ten nodes on ten, as a matrix", intro=intro, learning_rate=RATE, digits=8,
    )  # fmt: skip
    columns, values = _column_section(net, a, np.array(walk.values["layers"][0]["delta"]))
    set_up, *rest = walk.sections
    return Walk(
        walk.title, (set_up, columns, *rest), {**walk.values, "columns": values}, walk.digits
    )


def _column_section(
    net: Network,
    a: np.ndarray[tuple[int], np.dtype[np.float64]],
    delta: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[Section, dict[str, object]]:
    """Node-by-node sums against Z = W A + b, and dL/dw_11 = δ_1 a_1."""
    W, b = net.weights[0].T, net.biases[0]  # w_ij in row i, as the columns have it
    sums = [sum(float(W[i, j] * a[j]) for j in range(10)) + float(b[i]) for i in range(10)]
    Z = W @ a[:, None] + b[:, None]
    gap = float(np.abs(Z[:, 0] - sums).max())
    lines = tuple(
        Line(f"z_{i + 1}", f"{dot(W[i], a, 8)} + {factor(float(b[i]), 8)}", sums[i])
        for i in range(2)
    )
    gradient = float(delta[0] * a[0])
    steps = (
        Step("Node by node", "z_i = w_i1 a_1 + w_i2 a_2 + … + w_i10 a_10 + b_i", lines, 8),
        Step("All at once", "Z = W A + b", (Line("Zᵀ", "", tuple(map(float, Z[:, 0]))),)),
        Step(
            "One weight's gradient",
            "dL/dw_11 = dL/dz_1 · dz_1/dw_11 = δ_1 a_1",
            (Line("dL/dw_11", f"{delta[0]:.8g}·{a[0]:.8g}", gradient),),
        ),
    )
    values: dict[str, object] = {
        "sums": sums, "Z": Z[:, 0].tolist(), "dL/dw_11": gradient, "largest_difference": gap,
    }  # fmt: skip
    return Section("The same layer in columns", (), steps), values


EXAMPLES: dict[str, Callable[[str], Walk]] = {
    "relu": _relu,
    "sigmoid": _sigmoid,
    "matrix": _matrix,
}
