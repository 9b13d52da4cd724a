"""Update kernels on the host, against recurrences on one number at a time and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mlp.backends.numpy import NumpyBackend
from mlp.backends.protocol import FIRST_LOSS_SCALE, GOOD_STEPS_TO_DOUBLE
from mlp_kernels.cuda import optimizers
from tests.backends.test_update import LR, SCALE, STEPS, UPDATES, VARIANTS
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
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import DEVICE, empty, guarded
from tests.cuda_host.run import run

pytestmark = pytest.mark.usefixtures("everywhere")

RULES = {"sgd": optimizers.Sgd, "rmsprop": optimizers.Rmsprop, "adagrad": optimizers.Adagrad,
         "adam": optimizers.Adam, "lion": optimizers.Lion}  # fmt: skip
SKIPPED = 2
SIZES = [1, 3, 33, 1030]
WEIGHT_DECAY = 0.4
L1, L2 = 0.3, 0.7
# Whether gradients are unscaled, penalised, clipped; "steps" is a penalty with a factor in each.
PARTS = [(i & 1, i & 2, i & 4) for i in range(1, 8)]
OF_STEPS = [(0, "steps", 0), (1, "steps", 4)]
SCALES = [2.0, 1.5, 1.0, 1.0, 3.0, 0.5]
# (number type, type of the copy or None, whether weights decay first), taken in turn.
KINDS = [
    (FLOAT32, None, False), (FLOAT32, BFLOAT16, True), (FLOAT64, None, True),
    (FLOAT32, FLOAT16, False),
]  # fmt: skip
CASES = [(*variant, KINDS[i % 4]) for i, variant in enumerate(VARIANTS)]
each_number = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=NAMES.get)


def scalars(skip=0.0):
    return guarded([LR, SCALE, skip])


def counters(t=1):
    """Of update t: with some steps skipped before."""
    return guarded([9, t + SKIPPED, 5, SKIPPED], np.int64)


def rule_of(operation, state, settings):
    """The rule, its absent states None."""
    return RULES[operation](*(state.get(name) for name in UPDATES[operation][1]), *settings)


class Updated:
    """The arrays of a variant, of some size, and the launch of one of its updates."""

    def __init__(self, operation, kept, settings, kind, size, start=None, before=0.0):
        self.number, copy, self.decays = kind
        p = draw(size) if start is None else start
        self.p = put(p, self.number)
        self.state = {name: put(np.full(size, before), self.number) for name in kept}
        self.copy = None if copy is None else empty(size, copy)
        self.rule = rule_of(operation, self.state, settings)
        self.weights_end = (2 * size + 2) // 3

    def launch(self, g, t, skip=0.0):
        return optimizers.update(
            self.rule, self.p, g, scalars(skip), counters(t), copies=self.copy,
            weights_end=self.weights_end, weight_decay=WEIGHT_DECAY if self.decays else 0.0,
        )  # fmt: skip

    def arrays(self):
        return [a for a in (self.p, *self.state.values(), self.copy) if a is not None]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    launches = [Updated(*case, 3).launch(empty(3, case[3][0]), 1) for case in CASES]
    launches += [prepared(draw(3), draw(2), FLOAT32, *parts)[0] for parts in PARTS + OF_STEPS]
    launches.append(prepared(draw(3), draw(2), FLOAT64, *OF_STEPS[0])[0])
    launches += [prepared(draw(3), draw(2), FLOAT64, *parts)[0] for parts in PARTS[::3]]
    launches += [optimizers.decay(empty(3, t), scalars(), 0.1) for t in (FLOAT32, FLOAT64)]
    build_all(launch.kernel for launch in launches)


@pytest.mark.parametrize(("operation", "kept", "settings", "kind"), CASES)
def test_update(operation, kept, settings, kind):
    recurrence = UPDATES[operation][0]
    for size in SIZES:
        made = Updated(operation, kept, settings, kind, size)
        expected = get(made.p).tolist()
        plain = [dict.fromkeys(kept, 0.0) for _ in range(size)]
        for t in range(1, STEPS + 1):
            g = draw(size, scale=2.0**-t, seed=t)
            given = put(g, made.number)
            run(made.launch(given, t))
            np.testing.assert_array_equal(get(given), g)  # gradients are only read
            if made.decays:
                end = made.weights_end
                shrunk = [(1 - LR * WEIGHT_DECAY) * p for p in expected[:end]]
                expected = shrunk + expected[end:]
            expected = [
                recurrence(p_i, SCALE * g_i, s, t, *settings)
                for p_i, g_i, s in zip(expected, g.tolist(), plain, strict=True)
            ]
        assert_close(made.p, expected, terms=STEPS)
        for name in kept:
            assert_close(made.state[name], [s[name] for s in plain], terms=STEPS)
        if made.copy is not None:
            np.testing.assert_array_equal(get(made.copy), get(put(get(made.p), made.copy.dtype)))


def test_same_bits_in_every_order():
    def make(_):
        made = [Updated(*case, 1030) for case in CASES]
        gradients = [put(draw(1030, seed=1), each.number) for each in made]
        launches = [each.launch(g, 1) for each, g in zip(made, gradients, strict=True)]
        return launches, [array for each in made for array in each.arrays()]

    assert_same_bits_in_every_order(make)


def test_few_blocks_and_arrays_that_begin_at_odd_places():
    case = CASES[13]  # all states of Adam, and a copy
    assert case[1] == ("m", "v", "v_max")
    whole, few = Updated(*case, 2099), Updated(*case, 2099)
    g = put(draw(2099, seed=1), whole.number)
    run(whole.launch(g, 1))
    run(in_blocks(few.launch(g, 1), 1))
    shifted = Updated(*case, 2100, np.append(0, get(Updated(*case, 2099).p)))
    rule = type(shifted.rule)(*(a[1:] for a in shifted.rule[:3]), *shifted.rule[3:])
    run(optimizers.update(
        rule, shifted.p[1:], g, scalars(), counters(), copies=shifted.copy[1:],
        weights_end=whole.weights_end, weight_decay=WEIGHT_DECAY,
    ))  # fmt: skip
    for one, two, three in zip(whole.arrays(), few.arrays(), shifted.arrays(), strict=True):
        np.testing.assert_array_equal(two, one)
        np.testing.assert_array_equal(three[1:], one)


@pytest.mark.parametrize(("operation", "kept", "settings", "kind"), CASES[1::4])
def test_a_skipped_update_changes_nothing(operation, kept, settings, kind):
    made = Updated(operation, kept, settings, kind, 33, before=1.0)
    before = [array.tobytes() for array in made.arrays()]
    run(made.launch(put(draw(33, seed=1), made.number), 1, skip=1.0))
    assert [array.tobytes() for array in made.arrays()] == before


@pytest.mark.parametrize(("operation", "kept", "settings", "kind"), CASES)
def test_nan_gradient_makes_that_parameter_nan(operation, kept, settings, kind):
    made = Updated(operation, kept, settings, kind, 33, np.ones(33), before=1.0)
    gradients = np.where(np.arange(33) == 7, np.nan, 0.125)
    run(made.launch(put(gradients, made.number), 2))
    np.testing.assert_array_equal(np.isnan(made.p), np.arange(33) == 7)


@pytest.mark.parametrize(("operation", "kept", "settings", "kind"), CASES)
def test_padding_stays_at_0(operation, kept, settings, kind):
    made = Updated(operation, kept, settings, kind, 5, np.zeros(5))
    run(made.launch(put(np.zeros(5), made.number), 1))
    np.testing.assert_array_equal(made.p, np.zeros(5))


def test_centered_variance_just_below_0_counts_as_0():
    case = next(case for case in CASES if case[1] == ("square", "mean"))
    made = Updated("rmsprop", case[1], (1.0, 1e-2, 0.0, 0.0), case[3], 1, np.ones(1))
    made.state["square"][:], made.state["mean"][:] = 0.99, 1.0
    made.decays = False
    run(made.launch(put(np.zeros(1), made.number), 1))
    assert made.p == 1


# --- what comes before the update ---------------------------------------------------------------


def prepared(g, w, dtype, unscale=0, penalty=0, clip=0, *, room=None, scaling=None, share=0.1):
    """(launch, gradients, scaling, scalars, counters)."""
    made = [put(g, dtype), scaling if scaling is not None else guarded([4.0, 7.0]), scalars(),
            counters()]  # fmt: skip
    steps = {}
    if penalty == "steps":
        made += [guarded(SCALES), guarded(np.full(6, 7.0))]
        steps = {"penalty_scales": made[4], "penalty_values": made[5]}
    launch = optimizers.prepare(
        made[0], put(w, dtype), *made[2:4], room or Room(), scaling=made[1] if unscale else None,
        l1=L1 if penalty else 0.0, l2=L2 if penalty else 0.0,
        max_norm=share * np.sqrt((g * g).sum()) if clip else None, **steps,
    )  # fmt: skip
    return launch, *made


def reference(g, w, unscale, penalty, clip, share=0.1):
    """(gradients, gradient scale) of the NumPy backend in float64."""
    backend, result, numbers = NumpyBackend(), g / (4.0 if unscale else 1.0), np.array([LR, SCALE])
    if penalty:
        factor = SCALES[5] if penalty == "steps" else 1.0
        backend.penalty(w, result[: len(w)], factor * L1, factor * L2)
    if clip:
        backend.clip_norm(result, share * np.sqrt((g * g).sum()), numbers)
    return result, numbers[1]


@pytest.mark.parametrize("parts", PARTS)
def test_prepare(parts):
    for size in SIZES:
        g, w = draw(size), draw(1 + size // 2, seed=1)
        w[0] = 0.0
        room = Room()
        launch, result, scaling, numbers, count = prepared(g, w, FLOAT32, *parts, room=room)
        run(launch)
        room.assert_left_as_found()
        expected, scale = reference(g, w, *parts)
        assert_close(result, expected)
        assert_close(numbers, [LR, scale, 0.0], compute=FLOAT32)
        np.testing.assert_array_equal(scaling, [4.0, 8.0 if parts[0] else 7.0])
        np.testing.assert_array_equal(count, counters())


@pytest.mark.parametrize("parts", PARTS[::3])
def test_prepare_float64(parts):
    g, w = draw(127), draw(60, seed=1)
    launch, result, _, numbers, _ = prepared(g, w, FLOAT64, *parts)
    run(launch)
    expected, scale = reference(g, w, *parts)
    assert_close(result, expected)
    assert_close(numbers[1], scale)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("parts", OF_STEPS)
def test_prepare_with_penalties_of_steps(parts, dtype):
    for size in SIZES if dtype == FLOAT32 else SIZES[-1:]:
        g, w = draw(size), draw(1 + size // 2, seed=1)
        room = Room()
        launch, result, _, numbers, count, scales, values = prepared(g, w, dtype, *parts, room=room)
        run(launch)
        room.assert_left_as_found()
        expected, scale = reference(g, w, *parts)
        assert_close(result, expected)
        assert_close(numbers[1], scale, compute=dtype)
        value = (L1 * np.abs(w) + L2 / 2 * w * w).sum()
        assert_close(values, [7.0] * 5 + [value], compute=FLOAT64)
        np.testing.assert_array_equal(scales, SCALES)
        np.testing.assert_array_equal(count, counters())


def test_a_penalty_alone_needs_no_small_arrays():
    g, w = draw(127), draw(60, seed=1)
    result = put(g, FLOAT32)
    run(optimizers.prepare(result, put(w, FLOAT32), None, None, Room(), l1=L1, l2=L2))
    assert_close(result, reference(g, w, 0, 1, 0)[0])


def test_prepare_in_every_order():
    g = np.random.default_rng(0).standard_normal(5000)

    def make(room):
        launch, *results = prepared(g, g[:3000], FLOAT32, 1, 1, 1, room=room)
        assert launch.grid[0] > 2
        return [launch], results

    assert_same_bits_in_every_order(make)


def test_few_blocks_take_turns():
    g, w = draw(5000), draw(3000, seed=1)
    launch, result, _, numbers, _ = prepared(g, w, FLOAT32, 1, 1, 1)
    run(in_blocks(launch, 2))
    expected, scale = reference(g, w, 1, 1, 1)
    assert_close(result, expected)
    assert_close(numbers[1], scale, compute=FLOAT32)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("clip", [0, 1])
def test_gradients_that_are_not_finite_skip_the_step(bad, clip):
    for place in (0, 400, 1029):
        g = draw(1030)
        g[place] = bad
        launch, _, scaling, numbers, count = prepared(g, draw(3), FLOAT32, 1, 0, clip)
        run(launch)
        np.testing.assert_array_equal(scaling, [2.0, 0.0])
        np.testing.assert_array_equal(count, [9, 1 + SKIPPED, 5, SKIPPED + 1])
        assert numbers[2] == 1


def test_loss_scale_doubles_after_enough_good_steps():
    scaling = guarded([FIRST_LOSS_SCALE, GOOD_STEPS_TO_DOUBLE - 2.0])
    for expected in [
        (FIRST_LOSS_SCALE, GOOD_STEPS_TO_DOUBLE - 1),
        (2 * FIRST_LOSS_SCALE, 0),
        (2 * FIRST_LOSS_SCALE, 1),
    ]:
        run(prepared(draw(33), draw(3), FLOAT32, 1, scaling=scaling)[0])
        np.testing.assert_array_equal(scaling, expected)


def test_clip_norm_of_large_gradients_of_small_ones_and_of_nan():
    for g, max_norm, expected in [
        (np.full(100, 1e30), 1e29, 0.01), (np.ones(3), 1e3, 1.0), (np.array([np.nan, 1]), 1.0, 1.0)
    ]:  # fmt: skip
        numbers, array = scalars(), put(g, FLOAT32)
        run(optimizers.prepare(array, array[:1], numbers, counters(), Room(), max_norm=max_norm))
        assert_close(numbers, [LR, expected, 0.0], compute=FLOAT32)


@each_number
def test_decay(dtype):
    for size in SIZES:
        weights = guarded(put(draw(size), dtype), alignment=DEVICE)
        run(optimizers.decay(weights, scalars(skip=1.0), 0.4))
        np.testing.assert_array_equal(weights, draw(size))
        run(optimizers.decay(weights, scalars(), 0.4))
        assert_close(weights, draw(size) * (1 - LR * 0.4))


def test_what_does_not_fit_is_refused():
    p, other = empty(33, FLOAT32), empty(32, FLOAT32)
    rule = optimizers.Lion(p, 0.9, 0.99, 0.0)
    with pytest.raises(ValueError, match=r"gradients must be of shape \(33,\)"):
        optimizers.update(rule, p, other, scalars(), counters())
    with pytest.raises(ValueError, match=r"state 0 must be of shape \(33,\)"):
        optimizers.update(rule._replace(m=other), p, p, scalars(), counters())
    with pytest.raises(TypeError, match="must be of float32"):
        optimizers.update(rule, p, empty(33, FLOAT64), scalars(), counters())
    with pytest.raises(ValueError, match=r"weights_end must be in 0\.\.33"):
        optimizers.update(rule, p, p, scalars(), counters(), weights_end=34)
    of_steps = {"l2": 0.1, "penalty_scales": empty(4, FLOAT64)}
    with pytest.raises(ValueError, match="penalties of steps need counters"):
        optimizers.prepare(p, p, None, None, Room(), **of_steps)
    with pytest.raises(ValueError, match="both factors and values"):
        optimizers.prepare(p, p, None, counters(), Room(), **of_steps)
    with pytest.raises(ValueError, match="a norm need scalars"):
        optimizers.prepare(p, p, None, None, Room(), max_norm=1.0)
    with pytest.raises(ValueError, match=r"scalars must be of shape \(3,\)"):
        optimizers.decay(p, empty(2, FLOAT64), 0.1)
