"""Floors: against numbers counted by hand, and against the formulas of kernels/README.md."""

import re
from pathlib import Path

import pytest

from bench import floors
from bench.cases import GPU_CASES, Case
from bench.floors import Ceilings, Floor, Work

README = Path(__file__).parents[2] / "kernels" / "README.md"
SIZES = {"B": 7, "I": 5, "O": 3, "P": 11, "N": 13, "s": 4, "c": 2}
B, I, O, P, N, s, c = SIZES.values()  # noqa: E741

# operation -> (what the table's first formulas say, what its second ones do)
STATED = {
    "gather_rows": (floors.gather_rows(B, I, s),),
    "linear_forward": (
        floors.linear_forward(B, I, O, s, s, c),
        floors.linear_forward(B, I, O, s, s, c, saved=True),
    ),
    "linear_delta": (floors.linear_delta(B, I, O, s, s, c),),
    "linear_grads": (floors.linear_grads(B, I, O, s, s),),
    "column_sums": (floors.column_sums(B, O, s, s),),
    "activation_delta": (floors.activation_delta(B, O, s, c),),
    "loss": (floors.loss(B, O, s, s), floors.loss(B, O, s, s, labels=False)),
    "sgd": (floors.sgd(P, s), floors.sgd(P, s, velocity=True)),
    "rmsprop": (floors.rmsprop(P, s), floors.rmsprop(P, s, states=2)),
    "adagrad": (floors.adagrad(P, s),),
    "adam": (floors.adam(P, s), floors.adam(P, s, maxima=True)),
    "lion": (floors.lion(P, s),),
    "penalty": (floors.penalty(P, s),),
    "decay": (floors.decay(P, s),),
    "clip_norm": (floors.clip_norm(P, s),),
    "begin_epoch": (floors.begin_epoch(N),),
    "begin_step": (floors.begin_step(B),),
}
# Where a second formula is what is added to the first.
ADDED = {"linear_forward", "rmsprop"}


def value(formula: str) -> float:
    """Of "2BIO + BO(1 + c(g'))": letters and numbers side by side are multiplied."""
    plain = re.sub(r"c\(g'?\)", "c", formula)
    product = re.sub(r"(?<=[\w)])(?=[A-Za-z(])", "*", plain)
    assert re.fullmatch(r"[\w\s*+()]+", product), formula
    return eval(product, {}, SIZES)


def table() -> dict[str, list[str]]:
    """Operation -> its cells, of the table of the contract's operations."""
    text = README.read_text(encoding="utf-8").split("| bytes | FLOPs |", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {row[0].strip("`"): row for row in rows}


def test_the_table_has_every_operation() -> None:
    assert set(table()) == set(STATED)


@pytest.mark.parametrize("operation", STATED)
def test_formulas_are_the_tables(operation: str) -> None:
    *_, of_bytes, of_flops = table()[operation]
    bytes_, flops = (re.findall(r"`([^`]+)`", cell) for cell in (of_bytes, of_flops))
    works = STATED[operation]
    first = value(bytes_[0])
    assert works[0].name == operation
    assert works[0].bytes == first
    if len(works) > 1:
        assert works[1].bytes == (first if operation in ADDED else 0) + value(bytes_[1])
    counts = [value(flop) for flop in flops] or [0]
    if operation == "loss":  # of values, then of labels
        counts.reverse()
    assert [work.flops for work in works][: len(counts)] == counts


def test_bytes_by_hand_in_bfloat16() -> None:
    # x 2 x 3 and W 3 x 4 in 2 bytes, b 4 in 4 bytes, a 2 x 4 in 2 bytes, or in 4 in the last layer.
    assert floors.linear_forward(2, 3, 4, 2, 4).bytes == 12 + 24 + 16 + 16
    assert floors.linear_forward(2, 3, 4, 2, 4, result=4).bytes == 12 + 24 + 16 + 32
    # delta 2 x 4, W 3 x 4, saved and out 2 x 3 in 2 bytes, db 3 in 4 bytes.
    assert floors.linear_delta(2, 3, 4, 2, 4).bytes == 16 + 24 + 12 + 12 + 12
    # x and delta in 2 bytes, dW 3 x 4 in 4.
    assert floors.linear_grads(2, 3, 4, 2, 4).bytes == 12 + 16 + 48
    # 5 parameters, their gradient and two moments: seven times 4 bytes, and a copy of 2.
    assert floors.adam(5, 4, copy=2).bytes == 5 * (28 + 2)
    # Outputs in 4 bytes, deltas in 2, labels in 8.
    assert floors.loss(2, 4, 2, 4).bytes == 32 + 16 + 16
    # Rows read in 4 bytes and written in 2, row numbers in 8.
    assert floors.gather_rows(2, 3, 2, source=4).bytes == 24 + 12 + 16


def test_the_longer_of_both_is_the_floor() -> None:
    work = Work("x", flops=100, bytes=30)
    assert work.floor(Ceilings(flops=10, bytes=10)) == 10
    assert work.floor(Ceilings(flops=1000, bytes=10)) == 3
    assert floors.summed([work, work], Ceilings(1000, 10)) == 6


CASE = Case("small", "train", (3, 4, 2), rows=8, batch=4)
PARAMETERS = 3 * 4 + 4 + 4 * 2 + 2


def test_a_step_by_hand() -> None:
    assert [work.name for work in floors.operations(CASE)] == [
        "begin_step", "gather_rows", "linear_forward", "linear_forward", "loss", "column_sums",
        "linear_grads", "linear_delta", "linear_grads", "adam",
    ]  # fmt: skip
    whole = floors.whole(CASE)
    assert whole.flops == 4 * (6 * (12 + 8) - 2 * 12)
    # Four rows of 3 numbers, four labels; parameters and both moments read and written.
    assert whole.bytes == 4 * (3 * 4 + 8) + 6 * 4 * PARAMETERS
    # At a ceiling of bytes that nothing reaches, arithmetic is the floor, operation by operation.
    products = sum(work.flops for work in floors.operations(CASE) if work.name.startswith("linear"))
    # Beside the products: bias and ReLU of 4 x 4 and 4 x 2, delta's three per number of 4 x 4.
    assert products == whole.flops + 2 * 4 * (4 + 2) + 3 * 4 * 4


def test_a_call_by_hand() -> None:
    case = Case("rows", "predict", (3, 4, 2), rows=8, batch=4, precision="bfloat16")
    whole = floors.whole(case)
    assert whole.flops == 4 * 2 * (12 + 8)
    assert whole.bytes == 4 * (3 + 2) * 4 + 2 * PARAMETERS
    names = [work.name for work in floors.operations(case)]
    assert names == ["copy", "linear_forward", "linear_forward"]


def test_floor_of_a_case() -> None:
    floor = Floor.of(CASE, Ceilings(flops=1.0, bytes=2.0))
    assert (floor.arithmetic, floor.memory) == (384, (80 + 6 * 4 * PARAMETERS) / 2)
    assert floor.seconds == 384
    assert floor.by_operation > floor.seconds


@pytest.mark.parametrize("case", GPU_CASES.values(), ids=GPU_CASES)
def test_no_fusion_is_below_the_whole(case: Case) -> None:
    """Operations one by one do all of the arithmetic, and move all the bytes, of the whole."""
    works = floors.operations(case)
    whole = floors.whole(case)
    assert sum(work.flops for work in works) >= whole.flops
    assert sum(work.bytes for work in works) >= whole.bytes
