"""What the compiled backend is not made for raises; nothing becomes slow or wrong in silence."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.activations import ACTIVATIONS
from mlp.backends import get_backend
from mlp.errors import InvalidInput, InvalidSetting
from mlp.losses import FORMS

cpu = get_backend("cpu")


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def forward(x, W, b, a, saved=None, activation="relu"):
    cpu.linear_forward(x, W, b, activation, a, saved)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((ones(4, 6)[:, ::2], ones(3, 2), ones(2), ones(4, 2)), "C-contiguous"),
        ((ones(4, 3), ones(2, 3).T, ones(2), ones(4, 2)), "C-contiguous"),
        ((ones(4, 3), ones(3, 2, dtype=np.float64), ones(2), ones(4, 2)), "one dtype"),
        ([ones(*shape, dtype=np.float16) for shape in ((4, 3), (3, 2), (2,), (4, 2))], "float16"),
        ([ones(*shape, dtype=np.int64) for shape in ((4, 3), (3, 2), (2,), (4, 2))], "int64"),
        (([[1.0]], ones(1, 1), ones(1), ones(1, 1)), "list"),
        ((ones(4, 3), ones(4, 2), ones(2), ones(4, 2)), r"W \(I, O\)"),
        ((ones(4, 3), ones(3, 2), ones(2), ones(3, 2)), r"x must be \(B, I\)"),
        ((ones(4, 3), ones(3, 2), ones(3), ones(4, 2)), r"b must be \(O,\)"),
        ((ones(4, 3), ones(3, 2), ones(2), ones(4, 2), ones(3, 2)), "saved"),
        ((ones(4, 3), ones(3, 2), ones(2, 1), ones(4, 2)), "linear_forward"),
    ],
)
def test_layer(arrays, message):
    with pytest.raises(InvalidInput, match=message):
        forward(*arrays)


@pytest.mark.parametrize("index", [[3], [-1]])
def test_row_number_outside_the_data(index):
    with pytest.raises(InvalidInput, match="outside"):
        cpu.gather_rows(ones(3, 2), np.array(index), ones(1, 2))


def test_gather_into_another_dtype():
    with pytest.raises(InvalidInput, match="one dtype"):
        cpu.gather_rows(ones(3, 2), np.array([1]), ones(1, 2, dtype=np.float64))


@pytest.mark.parametrize(
    ("form", "target", "message"),
    [
        ("softmax_cross_entropy", np.array([0, 3]), "outside"),
        ("cross_entropy", np.array([0, -1]), "outside"),
        ("cross_entropy", ones(2), "int64"),
        ("cross_entropy", ones(2, 2), r"\(B, O\)"),
        ("cross_entropy", np.array([0, 1, 2]), r"\(B, O\)"),
        ("cross_entropy", ones(2, 3, dtype=np.float64), "one dtype"),
        ("mse", ones(2, 2), r"\(B, O\)"),
        ("mse", np.array([0, 1]), "loss"),
    ],
)
def test_target(form, target, message):
    with pytest.raises(InvalidInput, match=message):
        cpu.loss(form, ones(2, 3), target, None, 0.0, ones(2, 3), np.zeros(2))


def test_flat_buffers_of_two_sizes():
    with pytest.raises(InvalidInput, match="one size"):
        cpu.lion(ones(3), ones(3), ones(4), np.zeros(3), 0.9, 0.99, 0.0)


ROWS = np.arange(4)


def test_batch_outside_the_epoch():
    with pytest.raises(InvalidInput, match="no such batch"):
        cpu.begin_step(np.array([0, 0, 1, 0]), np.ones(2), np.ones(3), ROWS, ROWS[:2], 2)
    with pytest.raises(InvalidInput, match="no such batch"):
        cpu.begin_step(np.array([0, 0, 0, 0]), np.ones(2), np.ones(3), ROWS, ROWS[:2], 3)


def test_unknown_names():
    with pytest.raises(InvalidSetting, match="rleu"):
        forward(ones(1, 1), ones(1, 1), ones(1), ones(1, 1), activation="rleu")
    with pytest.raises(InvalidSetting, match="mes"):
        cpu.loss("mes", ones(1, 1), ones(1, 1), None, 0.0, ones(1, 1), np.zeros(2))


def test_kernels_know_the_names_of_the_tables():
    from mlp_kernels.cpu import activations, losses

    saved_z = {name for name, row in ACTIVATIONS.items() if row.saves == "z"}
    codes = activations.ACTIVATIONS
    assert set(codes) == set(ACTIVATIONS)
    assert {name for name, code in codes.items() if code >= activations.FIRST_FROM_Z} == saved_z
    assert set(losses.FORMS) == set(FORMS)


def test_sums_and_scalars_of_another_precision():
    single = np.zeros(3, np.float32)
    with pytest.raises(InvalidInput, match="C-contiguous float64"):
        cpu.loss("mse", ones(2, 3), ones(2, 3), None, 0.0, ones(2, 3), single[:2])
    with pytest.raises(InvalidInput, match="C-contiguous float64"):
        cpu.decay(ones(3), single, 0.1)
