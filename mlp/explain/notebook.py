"""The 2-2-1 sigmoid notebook: its cells in plain NumPy, what they print, and where that is wrong.

x is (2,), t (1,), W1 (2, 2), b1 (2,), W2 (2, 1), b2 (1,), as in the notebook. E = (y - t)².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mlp.activations import sigmoid
from mlp.backends.protocol import HostArray
from mlp.explain.report import Section, Table
from mlp.network import Network

Numbers: TypeAlias = dict[str, list[float]]

TITLE = "What the printed page gets wrong"

RATE = 0.1
X = np.array([0.5, 0.3])
T = np.array([0.7])

# What the page shows below its cells, in order.
PRINTED: Numbers = {
    "h": [0.55724785, 0.62010643],
    "y": [0.67932855],
    "E": [0.00042731],
    "dE/dy": [-0.04134291],
    "dE/dW2": [-0.00501868, -0.0055848],
    "dE/dh": [-0.00450314, -0.00540377],
    "dE/dW1": [-0.00055551, -0.00063649, -0.00033331, -0.0003819],
    "W1": [0.20005613, 0.40006431, 0.10003368, 0.30003858],
    "W2": [0.50050706, 0.60056425],
    "b1": [0.10011357, 0.20012976],
    "b2": [0.10090993],
}


@dataclass(frozen=True)
class State:
    """The notebook's variables."""

    W1: HostArray
    b1: HostArray
    W2: HostArray
    b2: HostArray

    def forward(self) -> tuple[HostArray, HostArray]:
        """H (2,) and y (1,)."""
        h = sigmoid(X @ self.W1 + self.b1)
        return h, sigmoid(h @ self.W2 + self.b2)


INITIAL = State(
    np.array([[0.2, 0.4], [0.1, 0.3]]), np.array([0.1, 0.2]),
    np.array([[0.5], [0.6]]), np.array([0.1]),
)  # fmt: skip


def training_cell(state: State, *, as_printed: bool) -> State:
    """One run of the notebook's training cell, faults and all.

    It adds where it should subtract. Its d_hidden is (2,), one row and not a batch, so that
    `np.sum(d_hidden, axis=0)` is one number for both entries of b1.

    Args:
        as_printed: with 2 (y - t) as the error's derivative, as on the page; else with (y - t)²
            in its place, as the cell stood when it was run.
    """
    h, y = state.forward()
    delta_2 = (2 * (y - T) if as_printed else np.square(y - T)) * y * (1 - y)
    delta_1 = delta_2 @ state.W2.T * h * (1 - h)
    return State(
        W1=state.W1 + RATE * np.outer(X, delta_1),
        b1=state.b1 + RATE * np.sum(delta_1, axis=0),
        W2=state.W2 + RATE * np.outer(h, delta_2),
        b2=state.b2 + RATE * np.sum(delta_2, axis=0),
    )


def manual_cells(state: State, h: HostArray, y: HostArray) -> Numbers:
    """The two cells after the training cell: gradients by hand, and the update by subtraction.

    h and y are passed in: the notebook runs no new forward pass before these cells.
    """
    delta_2 = 2 * (y - T) * y * (1 - y)
    dh = delta_2 @ state.W2.T
    delta_1 = dh * h * (1 - h)
    dW1, dW2 = np.outer(X, delta_1), np.outer(h, delta_2)
    found = {
        "h": h, "y": y, "E": np.square(y - T), "dE/dy": 2 * (y - T),
        "dE/dW2": dW2, "dE/dh": dh, "dE/dW1": dW1,
        "W1": state.W1 - RATE * dW1, "W2": state.W2 - RATE * dW2,
        "b1": state.b1 - RATE * delta_1, "b2": state.b2 - RATE * delta_2,
    }  # fmt: skip
    return {name: values.ravel().tolist() for name, values in found.items()}


def correct(net: Network) -> Numbers:
    """What the manual cells should print: the network's own gradients, from its own weights."""
    g = net.gradients(X, T, "mse")
    (W1, W2), (b1, b2) = net.weights, net.biases
    y, delta_2 = g.activations[1][0], g.deltas[1][0]
    found = {
        "h": g.activations[0], "y": y, "E": np.array([g.loss]), "dE/dy": 2 * (y - T),
        "dE/dW2": g.weights[1], "dE/dh": W2 @ delta_2, "dE/dW1": g.weights[0],
        "W1": W1 - RATE * g.weights[0], "W2": W2 - RATE * g.weights[1],
        "b1": b1 - RATE * g.biases[0], "b2": b2 - RATE * g.biases[1],
    }  # fmt: skip
    return {name: np.ravel(values).tolist() for name, values in found.items()}


def errors_by_direction(net: Network, steps: tuple[int, ...]) -> dict[int, list[float]]:
    """Steps -> the error after as many steps down the gradient, up it, and of the printed cell.

    The network is used as a scratch pad, and has its own parameters back at the end.
    """
    start = net.weights, net.biases
    found: dict[int, list[float]] = {count: [] for count in steps}
    for sign in (-1, 1):
        net.set_parameters(*start)
        for done in range(max(steps) + 1):
            g = net.gradients(X, T, "mse")
            if done in found:
                found[done].append(g.loss)
            net.set_parameters(
                [W + sign * RATE * dW for W, dW in zip(net.weights, g.weights, strict=True)],
                [b + sign * RATE * db for b, db in zip(net.biases, g.biases, strict=True)],
            )
    net.set_parameters(*start)
    state = INITIAL
    for done in range(max(steps) + 1):
        if done in found:
            found[done].append(float(np.square(state.forward()[1] - T)[0]))
        state = training_cell(state, as_printed=True)
    return found


def errata(net: Network) -> tuple[tuple[Section, ...], dict[str, object]]:
    """What the page gets wrong, fault by fault, and the numbers behind it."""
    errors = errors_by_direction(net, (0, 1, 10, 100))
    state = training_cell(INITIAL, as_printed=False)
    right, left = correct(net), manual_cells(state, *INITIAL.forward())
    cell = training_cell(INITIAL, as_printed=True).b1.tolist()
    ascent = (INITIAL.b1 + RATE * net.gradients(X, T, "mse").biases[0]).tolist()
    values: dict[str, object] = {
        "errors": {
            str(n): dict(zip(("descent", "ascent", "cell"), found, strict=True))
            for n, found in errors.items()
        },
        "printed": PRINTED,
        "correct": right,
        "from_left_over_state": left,
        "left_over_state": {
            name: getattr(state, name).ravel().tolist() for name in ("W1", "b1", "W2", "b2")
        },
        "b1_after_one_step": {"cell": cell, "ascent": ascent},
    }
    return (
        _ascent_section(errors),
        _bias_section(cell, ascent),
        _state_section(right, left),
    ), values


def _ascent_section(errors: dict[int, list[float]]) -> Section:
    text = (
        "It updates with `w += gradient * lr`. The gradient points to where the error grows, so "
        "learning takes the step against it, `-=`. The error after a number of steps:",
    )
    table = Table(
        ("steps", "down the gradient", "up the gradient", "the cell as printed"),
        tuple((str(n), *(f"{error:.8f}" for error in found)) for n, found in errors.items()),
    )
    return Section(f"{TITLE}, 1: the training cell climbs", text, (table,))


def _bias_section(cell: list[float], ascent: list[float]) -> Section:
    text = (
        "That the cell's column is not quite the one before it has a reason: b1. "
        "`np.sum(d_hidden_layer, axis=0)` adds up the rows of a batch, but here d_hidden_layer is "
        "one row, of shape (2,), and what is added up is its two units. Both entries of b1 get "
        "both gradients. After one step:",
    )
    rows = tuple(
        (name, *(f"{value:.8f}" for value in values))
        for name, values in (("the cell as printed", cell), ("up the gradient", ascent))
    )
    table = Table(("", "b1_1", "b1_2"), rows)
    return Section(f"{TITLE}, 2: the training cell mixes up b1", text, (table,))


def _state_section(right: Numbers, left: Numbers) -> Section:
    # The printed update undone: printed weights + rate * printed gradient = the weights before.
    before = [w + RATE * g for w, g in zip(PRINTED["W2"], PRINTED["dE/dW2"], strict=True)]
    text = (
        "Undo the last cell with its own numbers: the printed W2 plus lr times the printed dE/dW2 "
        f"is {before[0]:.8f} and {before[1]:.8f}, where the notebook starts from 0.5 and 0.6. So "
        "the cells after the training cell did not see the initial weights.",
        "Nor did they see what the training cell on the page leaves behind: it adds the very "
        "dE/dW2 that the last cell subtracts, so the last cell would print 0.5 and 0.6.",
        "What fits is the same cell with one difference: (y - t)² in the place of its derivative "
        "2 (y - t). From the state that this leaves, with h and y still those of the initial "
        "weights, every printed digit follows:",
    )
    rows = tuple(
        (_entry_name(name, i, len(printed)), *(f"{column[name][i]:.8f}" for column in columns))
        for columns in ((PRINTED, right, left),)
        for name, printed in PRINTED.items()
        for i in range(len(printed))
    )
    header = ("", "printed", "from the initial weights", "from the state left behind")
    return Section(
        f"{TITLE}, 3: some numbers belong to other weights", text, (Table(header, rows),)
    )


def _entry_name(name: str, i: int, count: int) -> str:
    if count == 4:
        return f"{name}_{i // 2 + 1}{i % 2 + 1}"
    return name if count == 1 else f"{name}_{i + 1}"
