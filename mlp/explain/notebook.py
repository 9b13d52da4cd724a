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


def earlier_cell(state: State) -> State:
    """The training cell as it stood when it was run, before it was edited into what is printed.

    It multiplies by the error (y - t)² itself where the chain rule has 2 (y - t), adds where it
    should subtract, and sums the hidden deltas over both units for b1.
    """
    h, y = state.forward()
    delta_2 = np.square(y - T) * y * (1 - y)
    delta_1 = delta_2 @ state.W2.T * h * (1 - h)
    return State(
        W1=state.W1 + RATE * np.outer(X, delta_1),
        b1=state.b1 + RATE * delta_1.sum(),
        W2=state.W2 + RATE * np.outer(h, delta_2),
        b2=state.b2 + RATE * delta_2.sum(),
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


def errors_by_direction(net: Network, steps: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Steps -> the error after as many steps down the gradient, and up it as the cell goes.

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
    return {count: (down, up) for count, (down, up) in found.items()}


def errata(net: Network) -> tuple[tuple[Section, Section], dict[str, object]]:
    """What the page gets wrong, in two sections, and the numbers behind them."""
    errors = errors_by_direction(net, (0, 1, 10, 100))
    state = earlier_cell(INITIAL)
    right, left = correct(net), manual_cells(state, *INITIAL.forward())
    values: dict[str, object] = {
        "errors": {str(n): {"descent": down, "ascent": up} for n, (down, up) in errors.items()},
        "printed": PRINTED,
        "correct": right,
        "from_left_over_state": left,
        "left_over_state": {
            name: getattr(state, name).ravel().tolist() for name in ("W1", "b1", "W2", "b2")
        },
    }
    return (_ascent_section(errors), _state_section(right, left)), values


def _ascent_section(errors: dict[int, tuple[float, float]]) -> Section:
    text = (
        "It updates with `w += gradient * lr`. The gradient points to where the error grows, so "
        "learning takes the step against it, `-=`. Here is the error after repeating the cell:",
    )
    table = Table(
        ("steps", "error with -=", "error with +="),
        tuple((str(n), f"{down:.8f}", f"{up:.8f}") for n, (down, up) in errors.items()),
    )
    return Section(f"{TITLE}, 1: the training cell climbs", text, (table,))


def _state_section(right: Numbers, left: Numbers) -> Section:
    # The printed update undone: printed weights + rate * printed gradient = the weights before.
    before = [w + RATE * g for w, g in zip(PRINTED["W2"], PRINTED["dE/dW2"], strict=True)]
    text = (
        "Undo the last cell with its own numbers: the printed W2 plus lr times the printed dE/dW2 "
        f"is {before[0]:.8f} and {before[1]:.8f}, where the notebook starts from 0.5 and 0.6. So "
        "the cells after the training cell did not see the initial weights.",
        "Nor did they see what the training cell on the page leaves behind: it adds the very "
        "dE/dW2 that the last cell subtracts, so the last cell would print 0.5 and 0.6.",
        "What fits is an earlier version of the training cell. It took (y - t)² y (1 - y) for δ, "
        "where the chain rule has 2 (y - t) y (1 - y); it used `+=`; and it added the sum of both "
        "hidden deltas to both entries of b1. From the state that it leaves, with h and y as "
        "they were, every printed digit follows:",
    )
    rows = tuple(
        (_entry_name(name, i, len(printed)), *(f"{column[name][i]:.8f}" for column in columns))
        for columns in ((PRINTED, right, left),)
        for name, printed in PRINTED.items()
        for i in range(len(printed))
    )
    header = ("", "printed", "from the initial weights", "from the state left behind")
    return Section(
        f"{TITLE}, 2: some numbers belong to other weights", text, (Table(header, rows),)
    )


def _entry_name(name: str, i: int, count: int) -> str:
    if count == 4:
        return f"{name}_{i // 2 + 1}{i % 2 + 1}"
    return name if count == 1 else f"{name}_{i + 1}"
