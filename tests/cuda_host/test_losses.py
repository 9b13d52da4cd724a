"""The loss kernels on the host, in every form, against `mlp.losses.FORMS` in float64."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.losses import FORMS
from mlp_kernels.cuda import losses
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NAMES,
    Room,
    assert_close,
    assert_same_bits_in_every_order,
    draw,
    get,
    in_blocks,
    put,
    run_all,
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded

pytestmark = pytest.mark.usefixtures("everywhere")

BEFORE = (2.0, 3.0)
PARAMETER = 0.7
# Of these each case has the rows of up to 2, or of 3 and 4 numbers, and all longer ones: so many
# kernels are compiled.
SHAPES = [(1, 1), (300, 2), (3, 3), (33, 4), (127, 31), (31, 32), (32, 127)]
# (output, delta, weighted, loss scale or None): the forms take them in turn.
KINDS = [
    (FLOAT32, FLOAT32, True, None),
    (FLOAT64, FLOAT64, False, None),
    (FLOAT32, BFLOAT16, False, 8.0),
    (FLOAT32, FLOAT16, True, 1024.0),
]
TARGETS = [(form, True) for form in losses.CLASS_FORMS] + [(form, False) for form in FORMS]
CASES = [(*targets, KINDS[i % 4]) for i, targets in enumerate(TARGETS)]
SHAPES_OF = {
    case: [s for s in SHAPES if s[1] > 4 or (s[1] > 2) == i % 2] for i, case in enumerate(CASES)
}
each_case = pytest.mark.parametrize(
    ("form", "labels", "kind"), CASES,
    ids=["-".join((f, "labels" if s else "rows", NAMES[k[1]])) for f, s, k in CASES],
)  # fmt: skip


def inputs(form, labels, rows, width):
    """(output, target) in the form's domain."""
    output, target = draw(rows, width, scale=2.0), draw(rows, width, seed=1)
    if form in ("cross_entropy", "binary_cross_entropy"):
        output = get(put(np.clip(np.abs(output) / 4, 0.0078125, 0.99), BFLOAT16))
    if "cross_entropy" in form:
        target = np.clip(np.abs(target) / 4, 0, 1)
    if labels:
        target = np.random.default_rng(rows).integers(0, width, rows)
    return output, target


def launches(form, kind, output, target, weight=None, parameter=PARAMETER, room=None):
    """(launches, delta, totals)."""
    number, delta_number, _, scale = kind
    delta, totals = empty(output.shape, delta_number), guarded(BEFORE, FLOAT64)
    on_device = guarded(target) if target.ndim == 1 else put(target, number)
    made = losses.loss(
        form, put(output, number), on_device, None if weight is None else put(weight, number),
        parameter, delta, totals, room or Room(), None if scale is None else guarded([scale, 0.0]),
    )  # fmt: skip
    return made, delta, totals


def weights_of(kind, rows):
    return np.abs(draw(rows, seed=2)) if kind[2] else None


def expected(form, kind, output, target, weight=None, parameter=PARAMETER):
    """(delta, totals) in float64."""
    value, gradient = FORMS[form](output, target, parameter)
    w = np.ones(len(output)) if weight is None else weight
    share = w / w.sum() * (kind[3] or 1.0)
    return gradient * share[:, None], [BEFORE[0] + w @ value, BEFORE[1] + w.sum()]


def check(form, kind, output, target, weight=None, parameter=PARAMETER, blocks=None):
    room = Room()
    made, delta, totals = launches(form, kind, output, target, weight, parameter, room)
    run_all(made if blocks is None else [in_blocks(launch, blocks) for launch in made])
    room.assert_left_as_found()
    truth, sums = expected(form, kind, output, target, weight, parameter)
    terms, scale = output.shape[1], float(np.abs(truth).max())
    assert_close(delta, truth, compute=kind[0], terms=terms, scale=scale)
    assert_close(totals, sums, compute=kind[0], terms=terms, scale=max(np.abs(sums)))


@pytest.fixture(scope="module", autouse=True)
def compiled():
    kernels = []
    for form, labels, kind in CASES:
        for rows, width in SHAPES_OF[form, labels, kind]:
            given = inputs(form, labels, rows, width)
            made, *_ = launches(form, kind, *given, weights_of(kind, rows))
            kernels += [launch.kernel for launch in made]
    build_all(kernels)


@each_case
def test_loss(form, labels, kind):
    for rows, width in SHAPES_OF[form, labels, kind]:
        given = inputs(form, labels, rows, width)
        check(form, kind, *given, weights_of(kind, rows))


@pytest.mark.parametrize("form", losses.CLASS_FORMS)
def test_no_smoothing(form):
    check(form, KINDS[1], *inputs(form, True, 33, 31), None, 0.0)


@pytest.mark.parametrize(
    ("form", "labels", "kind"),
    [("softmax_cross_entropy", True, KINDS[1]), ("sigmoid_cross_entropy", False, KINDS[1])],
)
def test_clipped_values(form, labels, kind):
    output, target = inputs(form, labels, 33, 31)
    check(form, kind, 4 * output, target, None, -0.01)


def test_many_rows_and_long_ones():
    for form, kind, rows, width in [
        ("mse", KINDS[1], 1000, 31), ("softmax_cross_entropy", KINDS[3], 3, 5000),
    ]:  # fmt: skip
        check(form, kind, *inputs(form, False, rows, width), weights_of(kind, rows))


def test_few_blocks_take_turns():
    check("mae", KINDS[0], *inputs("mae", False, 700, 31), weights_of(KINDS[0], 700), blocks=2)


@pytest.mark.parametrize("kind", KINDS[2:], ids=["alone", "weighted"])
def test_same_bits_in_every_order(kind):
    given = inputs("softmax_cross_entropy", False, 300, 31)

    def make(room):
        weight = weights_of(kind, 300)
        made, *results = launches("softmax_cross_entropy", kind, *given, weight, room=room)
        assert made[-1].grid[0] > 2
        return made, results

    assert_same_bits_in_every_order(make)


@pytest.mark.parametrize("form", ["softmax_cross_entropy", "poisson"])
def test_no_weight_at_all_is_no_gradient(form):
    output, target = inputs(form, False, 33, 3)
    if form == "poisson":
        output[4, 1] = 1e3  # an infinite gradient
    made, delta, totals = launches(form, KINDS[0], output, target, np.zeros(33))
    run_all(made)
    assert (delta == 0).all()
    assert totals[1] == BEFORE[1]
    assert totals[0] == BEFORE[0] or form == "poisson"


@each_case
def test_nan_is_passed_on(form, labels, kind):
    output, target = inputs(form, labels, 5, 31)
    output[2, 1] = np.nan
    made, delta, totals = launches(form, kind, output, target, np.ones(5) if kind[2] else None)
    run_all(made)
    nan = np.isnan(get(delta))
    assert nan[2, 1]
    assert not nan[[0, 1, 3, 4]].any()
    assert np.isnan(totals[0])
    assert totals[1] == BEFORE[1] + 5


EXTREMES = np.repeat([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], 3)


@pytest.mark.parametrize(
    "form", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "mae", "huber"]
)
def test_extreme_outputs(form):
    output = np.stack([EXTREMES, EXTREMES[::-1]])
    target = np.tile(np.eye(21)[0], (2, 1))
    check(form, KINDS[0], output, target, np.ones(2))


@pytest.mark.parametrize("form", ["cross_entropy", "binary_cross_entropy"])
def test_probabilities_of_exactly_0_and_1(form):
    output, target = np.repeat([[0.0, 1.0, 0.5]], 6, 1), np.repeat([[1.0, 0.0, 0.5]], 6, 1)
    check(form, KINDS[0], output, target, np.ones(1))


@pytest.mark.parametrize("form", ["mae", "huber"])
def test_gradient_at_the_kinks(form):
    output = np.repeat([[0.0, PARAMETER, -PARAMETER]], 6, 1)
    check(form, KINDS[0], output, np.zeros((1, 18)), np.ones(1))


def test_what_does_not_fit_is_refused():
    output, totals = empty((3, 4), FLOAT32), empty(2, FLOAT64)
    labels, half, weight = guarded([0, 1, 2]), empty((3, 4), FLOAT16), empty(3, FLOAT64)
    with pytest.raises(ValueError, match=r"target must be of shape \(3, 4\)"):
        losses.loss("mse", output, labels, None, 0.0, output, totals, Room())
    with pytest.raises(ValueError, match="no form of a loss"):
        losses.loss("hinge", output, output, None, 0.0, output, totals, Room())
    with pytest.raises(TypeError, match="output must be of float32 or float64"):
        losses.loss("mse", half, half, None, 0.0, half, totals, Room())
    with pytest.raises(TypeError, match="weight must be of float32"):
        losses.loss("mse", output, output, weight, 0.0, output, totals, Room())
