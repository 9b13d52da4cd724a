"""What the module of a peer supplies: a Training and a Prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.cases import Case
from bench.data import Array, Problem


class Timer(Protocol):
    """Two marks in the device's queue of work."""

    def start(self) -> None:
        """Sets the first mark behind all that is queued."""

    def stop(self) -> float:
        """Sets the second, waits for it, and returns the seconds between both on the device."""


class Training(Protocol):
    """A network, its optimizer and its rows, where the peer wants them.

    Args:
        case: network, batch size, learning rate, precision.
        problem: rows, labels and initial weights; the rows may be fewer than the case's.
        threads: of the processor, that the peer may use.
        device: "cpu" or "cuda".

    A `timer` of type Timer, where a peer has one, gives times by the device's own clock.
    """

    def __init__(self, case: Case, problem: Problem, threads: int, device: str) -> None: ...

    def reset(self) -> None:
        """Back to the initial weights, with a new optimizer; never timed."""

    def run(self, epochs: int) -> float:
        """Trains, shuffling the rows anew each epoch; returns the last epoch's mean loss.

        All work is done when it returns.
        """

    def parameters(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """W (I, O) and b (O,) of each layer, as they are now."""


class Prediction(Protocol):
    """A network that answers rows with probabilities, `case.batch` rows a call.

    Rows are where the network is; each call's answer is on the host when it returns.
    """

    def __init__(self, case: Case, problem: Problem, threads: int, device: str) -> None: ...

    def run(self) -> None:
        """Predicts all rows once; all work is done when it returns."""

    def probabilities(self) -> Array:
        """The answer (B, O) to the last call of `run`, for the last `case.batch` rows."""


class Module(Protocol):
    """The module of a peer."""

    Training: type[Training]
    Prediction: type[Prediction]
