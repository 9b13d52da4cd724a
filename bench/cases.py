"""What is measured: networks, data and settings, the same for every peer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal


@dataclass(frozen=True)
class Case:
    """One network, one set of rows, and what is done with them.

    Attributes:
        name: as on the command line and in the tables.
        kind: "train", with Adam on the cross-entropy, or "predict", probabilities of each row.
        widths: inputs, then each layer's outputs; ReLU between the layers. One output makes two
            classes (a sigmoid), more outputs as many classes (a softmax).
        rows: rows N of the data; when training a multiple of `batch`.
        batch: rows of a training step, or of one call that predicts.
        epochs: passes over the rows in one lap; a measurement is one lap or more.
        data: "teacher" (made) or "digits" (real), see `bench.data`.
        precision: "float32"; or products of operands rounded to "tf32" or "bfloat16", with float32
            weights and sums.
        learning_rate: of Adam.
    """

    name: str
    kind: Literal["train", "predict"]
    widths: tuple[int, ...]
    rows: int
    batch: int
    epochs: int = 1
    data: Literal["teacher", "digits"] = "teacher"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.rows % self.batch:
            raise ValueError(f"{self.name}: {self.rows} rows are no multiple of {self.batch}")

    @property
    def binary(self) -> bool:
        return self.widths[-1] == 1

    @property
    def loss(self) -> str:
        return "binary_cross_entropy" if self.binary else "cross_entropy"

    @property
    def steps(self) -> int:
        """Steps of an epoch, or calls that predict all rows."""
        return self.rows // self.batch

    @property
    def flops_per_row(self) -> int:
        """Of the matrix products alone, for one row in one pass.

        A layer's product of I x O numbers costs 2 I O forward, as much for the weights' gradient,
        and as much for the delta below it, which the first layer does not need.
        """
        products = [i * o for i, o in pairwise(self.widths)]
        if self.kind == "predict":
            return 2 * sum(products)
        return 6 * sum(products) - 2 * products[0]

    @property
    def title(self) -> str:
        """As in "digits: 64-32-10, batch 32, 1,792 rows, 20 epochs"."""
        shape = "-".join(map(str, self.widths))
        precision = "" if self.precision == "float32" else f", {self.precision}"
        if self.kind == "predict":
            calls = "one row a call" if self.batch == 1 else f"{self.batch:,} rows a call"
            return f"{self.name}: {shape}, prediction, {calls}{precision}"
        rate = "" if self.learning_rate == 1e-3 else f", learning rate {self.learning_rate:g}"
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return (
            f"{self.name}: {shape}, batch {self.batch:,}, {self.rows:,} rows, "
            f"{epochs}{rate}{precision}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        return cls(**{**data, "widths": tuple(data["widths"])})


# fmt: off
_TRAINING = (
    Case("tiny", "train", (20, 64, 64, 1), rows=2048, batch=32, epochs=50),
    Case("digits", "train", (64, 32, 10), rows=1792, batch=32, epochs=50, data="digits"),
    Case("mnist", "train", (784, 256, 128, 10), rows=12800, batch=128, epochs=5),
    Case("wide", "train", (256, 1024, 1024, 1024, 10), rows=8192, batch=1024, epochs=3),
    # Four steps are within the first burst of loss that Adam at 1e-3 causes in a network so wide.
    Case("large", "train", (1024, 2048, 2048, 2048, 2048, 10), rows=4096, batch=2048, epochs=2,
         learning_rate=1e-4),
)
_PREDICTION = (
    Case("predict-1", "predict", (784, 256, 128, 10), rows=500, batch=1),
    Case("predict-1e6", "predict", (64, 128, 64, 10), rows=1_000_000, batch=1_000_000),
)
# fmt: on
SUFFIXES = {"float32": "", "tf32": "-tf32", "bfloat16": "-bf16"}


def _in(precision: str, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    name = SUFFIXES[precision]
    return tuple(
        replace(case, name=f"{case.name}{name}", precision=precision)  # type: ignore[arg-type]
        for case in cases
    )


def _named(*cases: Case) -> dict[str, Case]:
    return {case.name: case for case in cases}


CASES = _named(*_TRAINING, *_in("bfloat16", _TRAINING), *_PREDICTION)

# Of a GPU alone. Their rows take 128 MiB, as much as the largest level-2 cache of an NVIDIA GPU
# yet. Adam's rate falls with the width, as for `large`: else the first steps are a burst of loss.
# fmt: off
_GPU_TRAINING = (
    *_TRAINING,
    Case("narrow", "train", (64, 64, 64, 64, 64, 1), rows=2**19, batch=2**17, epochs=10),
    Case("mid", "train", (1024, *[1024] * 4, 10), rows=2**15, batch=8192, epochs=5,
         learning_rate=1e-4),
    Case("huge", "train", (1024, *[8192] * 4, 10), rows=2**15, batch=8192, learning_rate=1e-5),
)
_GPU_PREDICTION = (
    *_PREDICTION,
    *(Case(f"predict-{case.name}", "predict", case.widths, case.rows, case.batch)
      for case in _GPU_TRAINING[-3:]),
)
# fmt: on
GPU_CASES = _named(
    *(case for precision in SUFFIXES for case in _in(precision, _GPU_TRAINING)),
    *(case for precision in SUFFIXES for case in _in(precision, _GPU_PREDICTION)),
)
