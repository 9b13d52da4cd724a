"""The cases: FLOPs by hand, data that is the same for all, a loss by one function."""

import numpy as np
import pytest

import mlp
from bench.cases import CASES, GPU_CASES, SUFFIXES, Case
from bench.data import Problem, make_problem
from bench.reference import mean_loss, probabilities

SMALL = [
    Case("two", "train", (20, 8, 1), rows=64, batch=32),
    Case("ten", "train", (20, 8, 10), rows=64, batch=32),
    Case("digits", "train", (64, 8, 10), rows=64, batch=32, data="digits"),
]


def test_flops_of_training() -> None:
    # 20 x 64 + 64 x 64 + 64 x 1 = 5440 products forward, as many for the weights' gradients, and
    # for the deltas all but the first layer's 1280; two operations each.
    assert CASES["tiny"].flops_per_row == 2 * (5440 + 5440 + (5440 - 1280))
    assert CASES["digits"].flops_per_row == 6 * (64 * 32 + 32 * 10) - 2 * 64 * 32


def test_flops_of_prediction() -> None:
    assert CASES["predict-1e6"].flops_per_row == 2 * (64 * 128 + 128 * 64 + 64 * 10)


def test_every_case() -> None:
    for name, case in CASES.items():
        assert case.name == name
        assert case.rows % case.batch == 0
        assert Case.from_json(case.to_json()) == case
    training = {name for name, case in CASES.items() if case.kind == "train"}
    float32 = {name for name in training if CASES[name].precision == "float32"}
    assert training == float32 | {f"{name}-bf16" for name in float32}


def test_cases_of_a_gpu() -> None:
    for name, case in GPU_CASES.items():
        assert case.name == name
        assert Case.from_json(case.to_json()) == case
    # What is measured on a processor too is the same case there.
    assert all(GPU_CASES[name] == case for name, case in CASES.items())
    for kind in ("train", "predict"):
        names = {
            precision: {
                name.removesuffix(SUFFIXES[precision])
                for name, case in GPU_CASES.items()
                if (case.kind, case.precision) == (kind, precision)
            }
            for precision in SUFFIXES
        }
        assert names["float32"] == names["tf32"] == names["bfloat16"]
        assert {name.removeprefix("predict-") for name in names["float32"]} > {
            "narrow", "mid", "huge",
        }  # fmt: skip


@pytest.mark.parametrize("name", ["narrow", "mid", "huge"])
def test_rows_of_a_gpu_exceed_its_cache(name) -> None:
    case = GPU_CASES[name]
    assert 4 * case.rows * case.widths[0] >= 128 * 2**20
    assert len(set(case.widths[1:-1])) == 1
    assert len(case.widths) == 6


def test_rows_that_leave_a_smaller_batch() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        Case("odd", "train", (2, 1), rows=10, batch=4)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_problem(case: Case, tmp_path) -> None:
    problem = make_problem(case)
    assert problem.X.shape == (case.rows, case.widths[0])
    assert problem.X.dtype == np.float32
    assert set(problem.y[: case.batch]) == set(range(max(2, case.widths[-1])))
    assert [W.shape for W in problem.weights] == list(
        zip(case.widths, case.widths[1:], strict=False)
    )
    problem.save(tmp_path / "problem.npz")
    for copy in (Problem.load(tmp_path / "problem.npz"), make_problem(case)):
        np.testing.assert_array_equal(copy.X, problem.X)
        np.testing.assert_array_equal(copy.y, problem.y)
        parameters = problem.weights + problem.biases
        for found, wanted in zip(copy.weights + copy.biases, parameters, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_swap_keeps_rows_and_labels_together() -> None:
    case = SMALL[2]
    problem, digits = make_problem(case), mlp.data.sources.load_data("digits")
    pixels = {tuple(row): label for row, label in zip(digits.X / 16, digits.y, strict=True)}
    assert [pixels[tuple(row)] for row in problem.X.astype(float)] == problem.y.tolist()


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_reference_is_the_network(case: Case) -> None:
    problem = make_problem(case)
    last = mlp.Dense(case.widths[-1], "sigmoid" if case.binary else "softmax")
    network = mlp.Network(case.widths[0], [mlp.Dense(8, "relu"), last], device="numpy")
    network.set_parameters(problem.weights, problem.biases)
    p = probabilities(problem.X, problem.weights, problem.biases)
    np.testing.assert_allclose(p, network.forward(problem.X), rtol=1e-4, atol=1e-6)
    gradients = network.gradients(problem.X, problem.y, case.loss)
    assert mean_loss(p, problem.y) == pytest.approx(gradients.loss, rel=1e-4)


def test_loss_by_hand() -> None:
    labels = np.array([1, 0])
    two = np.array([[0.25], [0.5]])
    assert mean_loss(two, labels) == pytest.approx(-(np.log(0.25) + np.log(0.5)) / 2)
    assert mean_loss(np.array([[0.7, 0.3], [0.0, 1.0]]), labels) == pytest.approx(
        -(np.log(0.3) + np.log(1e-30)) / 2
    )
