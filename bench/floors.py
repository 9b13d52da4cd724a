"""The least time that an operation can take: its FLOPs and fewest bytes over measured ceilings.

The formulas of kernels/README.md, the only place in code that states them. Sizes: B rows, I inputs
and O outputs of a layer, P parameters, N rows of the data. Bytes of a number: `s` where products
read it (activations, deltas, compute copies of weights), `t` where it is summed (parameters,
gradients, biases, the last layer's outputs, the loss). Both are 4 in float32 and tf32; in bfloat16
s is 2. Each array counts once, read or written.
"""

# ruff: noqa: E741 - I and O are inputs and outputs everywhere in this project

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bench.cases import Case

LABEL = 8  # bytes of a label, of a row number, of a key
OPERAND_BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2}
SUM_BYTES = 4


@dataclass(frozen=True)
class Ceilings:
    """What a device reached in the same run.

    Attributes:
        flops: per second, of the best large matrix product in a precision.
        bytes: per second, read and written, of a large copy.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Work:
    """What an operation, or several, must do at least."""

    name: str
    flops: float
    bytes: float

    def floor(self, ceilings: Ceilings) -> float:
        """Seconds: of arithmetic or of memory, whichever is longer."""
        return max(self.flops / ceilings.flops, self.bytes / ceilings.bytes)


# --- operations of the contract -------------------------------------------------------------------
# `c` is the cost of an activation, or of its derivative, per element.


def gather_rows(B: int, I: int, s: int, source: int | None = None) -> Work:
    """Rows of `source` bytes a number (default s) into rows of s bytes."""
    return Work("gather_rows", 0, B * I * (s + (source or s)) + LABEL * B)


def copy(count: int, source: int, out: int) -> Work:
    """So many numbers, converted on the way where the types differ."""
    return Work("copy", 0, count * (source + out))


def linear_forward(
    B: int, I: int, O: int, s: int, t: int, c: float = 1, saved: bool = False, result: int = 0
) -> Work:
    """`result`: bytes of a number of a, s unless given; `saved`: z is stored as well as a."""
    outputs = B * O * (result or s) * (2 if saved else 1)
    return Work(
        "linear_forward", 2 * B * I * O + B * O * (1 + c), (B * I + I * O) * s + O * t + outputs
    )


def linear_delta(B: int, I: int, O: int, s: int, t: int, c: float = 1) -> Work:
    """With the bias gradient (I,) of the layer below."""
    return Work(
        "linear_delta", 2 * B * I * O + B * I * (2 + c), (B * O + I * O + 2 * B * I) * s + I * t
    )


def linear_grads(B: int, I: int, O: int, s: int, t: int) -> Work:
    return Work("linear_grads", 2 * B * I * O, (B * I + B * O) * s + I * O * t)


def column_sums(B: int, O: int, s: int, t: int) -> Work:
    return Work("column_sums", B * O, B * O * s + O * t)


def activation_delta(B: int, O: int, s: int, c: float = 1) -> Work:
    return Work("activation_delta", B * O * (1 + c), 3 * B * O * s)


def loss(B: int, O: int, s: int, t: int, labels: bool = True) -> Work:
    """Outputs of t bytes, deltas of s; targets are labels (B,), or numbers (B, O) like outputs."""
    target = LABEL * B if labels else B * O * t
    return Work("loss", B * O * (10 if labels else 5), B * O * (s + t) + target)


def adam(P: int, t: int, maxima: bool = False, copy: int = 0) -> Work:
    """`maxima`: AMSGrad; `copy`: bytes of a number of the 16-bit copy, where there is one."""
    return Work("adam", 17 * P, (9 if maxima else 7) * P * t + P * copy)


def sgd(P: int, t: int, velocity: bool = False, copy: int = 0) -> Work:
    return Work("sgd", (9 if velocity else 4) * P, (5 if velocity else 3) * P * t + P * copy)


def rmsprop(P: int, t: int, states: int = 1, copy: int = 0) -> Work:
    """`states`: 1, and 1 more for each of mean and velocity."""
    return Work("rmsprop", 11 * P, (3 + 2 * states) * P * t + P * copy)


def adagrad(P: int, t: int, copy: int = 0) -> Work:
    return Work("adagrad", 10 * P, 5 * P * t + P * copy)


def lion(P: int, t: int, copy: int = 0) -> Work:
    return Work("lion", 12 * P, 5 * P * t + P * copy)


def penalty(P: int, t: int) -> Work:
    return Work("penalty", 4 * P, 3 * P * t)


def decay(P: int, t: int) -> Work:
    return Work("decay", P, 2 * P * t)


def clip_norm(P: int, t: int) -> Work:
    return Work("clip_norm", 2 * P, P * t)


def begin_epoch(N: int) -> Work:
    return Work("begin_epoch", 20 * N, 56 * N)


def begin_step(B: int) -> Work:
    return Work("begin_step", 0, 16 * B)


# --- steps ----------------------------------------------------------------------------------------


def parameters(widths: tuple[int, ...]) -> int:
    return sum(i * o + o for i, o in pairwise(widths))


def operations(case: Case) -> list[Work]:
    """A training step of the case, or a call that predicts, operation by operation.

    ReLU saves nothing of its own; softmax and sigmoid belong to the loss, when training.
    """
    s, t, B = OPERAND_BYTES[case.precision], SUM_BYTES, case.batch
    layers = list(pairwise(case.widths))
    last = len(layers) - 1
    forward = [
        linear_forward(B, i, o, s, t, result=t if layer == last else s)
        for layer, (i, o) in enumerate(layers)
    ]
    if case.kind == "predict":
        return forward if s == t else [copy(B * case.widths[0], t, s), *forward]
    first = [begin_step(B), gather_rows(B, case.widths[0], s, source=t)]
    outputs = case.widths[-1]
    backward = [loss(B, outputs, s, t), column_sums(B, outputs, s, t)]
    for layer, (i, o) in reversed(list(enumerate(layers))):
        backward.append(linear_grads(B, i, o, s, t))
        if layer:
            backward.append(linear_delta(B, i, o, s, t))
    update = adam(parameters(case.widths), t, copy=s if s != t else 0)
    return [*first, *forward, *backward, update]


def whole(case: Case) -> Work:
    """The step or call as if it were one operation, with all that lies within it on chip.

    A step reads its rows and labels, and reads and writes parameters and both moments of Adam; a
    call reads rows and parameters and writes probabilities. What even the best fusion must do.
    """
    s, t, B = OPERAND_BYTES[case.precision], SUM_BYTES, case.batch
    count = parameters(case.widths)
    flops = case.flops_per_row * B
    if case.kind == "predict":
        return Work("call", flops, B * (case.widths[0] + case.widths[-1]) * t + count * s)
    return Work("step", flops, B * (case.widths[0] * t + LABEL) + 6 * count * t)


def summed(works: Iterable[Work], ceilings: Ceilings) -> float:
    """Seconds of operations one after the other, each at its floor."""
    return sum(work.floor(ceilings) for work in works)


@dataclass(frozen=True)
class Floor:
    """The least seconds of a step, or of a call that predicts, by the run's own ceilings.

    Attributes:
        arithmetic, memory: of its FLOPs, and of the bytes that even one kernel for all must move.
        by_operation: of its operations one after the other, each at its own floor.
    """

    arithmetic: float
    memory: float
    by_operation: float

    @property
    def seconds(self) -> float:
        return max(self.arithmetic, self.memory)

    @classmethod
    def of(cls, case: Case, ceilings: Ceilings) -> Floor:
        work = whole(case)
        return cls(
            work.flops / ceilings.flops,
            work.bytes / ceilings.bytes,
            summed(operations(case), ceilings),
        )
