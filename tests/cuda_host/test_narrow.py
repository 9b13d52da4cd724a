"""Chains of narrow layers on the host, forward and back, against float64, layer by layer.

What a layer is expected to make is computed from what the layer before it left on the tape, so that
the rounding of one does not hide a mistake in the next.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.narrow import narrow_delta, narrow_forward
from mlp_kernels.cuda.narrow_plan import DeltaPlan, ForwardPlan, NarrowLayer, plan_deltas
from mlp_kernels.cuda.tiles import Device
from tests.cuda_host.arrays import (
    BFLOAT16,
    FLOAT32,
    Room,
    assert_same_bits_in_every_order,
    get,
    put,
    run_all,
)
from tests.cuda_host.build import build_all
from tests.cuda_host.memory import empty, guarded
from tests.cuda_host.narrow_chains import KINDS, Chain

pytestmark = pytest.mark.usefixtures("everywhere")

kinds = pytest.mark.parametrize("kind", KINDS)
# Widths from the inputs on, and rows.
CASES = [
    ((1, 3, 1), 1),
    ((17, 64, 3, 64, 1), 33),
    ((64, 64, 16), 300),
    ((33, 1, 50), 33),
    ((100, 128, 17), 33),
    ((128, 1, 128, 31), 300),
    ((65, 9, 17), 70),
]
cases = pytest.mark.parametrize(("widths", "B"), CASES, ids=str)


def results(chain: Chain) -> list[np.ndarray]:
    return [chain.tape, chain.gradients]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """All that these tests run, so that it is compiled on all processors at once."""
    launches = []
    for kind in KINDS:
        for widths in ((9, 9, 9), (65, 9, 9)):
            chain = Chain.of(kind, widths, 1)
            launches += [chain.forward(), chain.forward(empty((1, 9), np.float32))]
            launches += chain.back(Room(), accumulate=True)
    for kind in ("float32", "bfloat16"):
        chain = all_activations(kind, 1)
        launches += [chain.forward(), *chain.back(Room(), accumulate=False)]
    build_all(launch.kernel for launch in launches)


def all_activations(kind: str, B: int) -> Chain:
    """A layer of each; the first has no part in the chain but its derivative."""
    names = [*ELEMENTWISE, "identity"]
    return Chain.of(kind, [9] * len(names), B, names, dropped=0.0)


@kinds
@cases
def test_forward(kind, widths, B):
    chain = Chain.of(kind, widths, B, unit=1 if B == 33 else 128)
    run_all([chain.forward()])
    chain.assert_forward()


@kinds
@cases
@pytest.mark.parametrize("accumulate", [True, False], ids=["accumulating", "deltas"])
def test_back(kind, widths, B, accumulate):
    if accumulate and max(widths) == 128 and KINDS[kind] == FLOAT32:
        return  # more than a block's shared memory, so it is never asked for
    chain, room = Chain.of(kind, widths, B, unit=1 if B == 33 else 128), Room()
    run_all([chain.forward(), *chain.back(room, accumulate)])
    chain.assert_back(accumulate)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_every_activation(kind):
    chain = all_activations(kind, 20)
    run_all([chain.forward(), *chain.back(Room(), accumulate=False)])
    chain.assert_forward()
    chain.assert_back(accumulate=False)


@kinds
def test_same_bits_in_every_order_of_threads_and_blocks(kind):
    def make(room):
        # Two blocks have five tiles of rows between them forward, and three back.
        chain = Chain.of(kind, (17, 64, 10), 150)
        forward = chain.forward(processors=1, warps=4)
        back = chain.back(room, accumulate=True, processors=1)
        assert forward.grid[0] == back[0].grid[0] == 2
        return [forward, *back], results(chain)

    assert_same_bits_in_every_order(make)


@kinds
def test_blocks_that_take_turns(kind):
    """Many rows for a single block, with either number of warps."""
    for warps in (4, 8):
        chain = Chain.of(kind, (20, 33, 5), 700)
        run_all([chain.forward(processors=1, warps=warps)])
        run_all(chain.back(Room(), True, processors=1, warps=warps))
        chain.assert_forward()
        chain.assert_back(accumulate=True)


@kinds
def test_the_output_in_an_array_of_its_own(kind):
    """In float32 whatever the layers before it are in; even where nothing is on the tape."""
    chain = Chain.of(kind, (33, 40, 7), 65)
    output = empty((65, 7), np.float32)
    run_all([chain.forward(output)])
    chain.assert_forward(output=output)
    predicted = empty((65, 7), np.float32)
    layers = [replace(layer, a=None, saved=None) for layer in chain.chained]
    x = guarded(chain.on_tape(layers[0].x, 33), np.float32)
    run_all([narrow_forward(
        chain.device(), guarded, x, chain.weights, chain.parameters, layers, None, predicted
    )])  # fmt: skip
    np.testing.assert_array_equal(predicted, output)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_weights_that_are_not_all_there_at_once(kind):
    found = []
    for resident in (True, False):
        chain = Chain.of(kind, (33, 100, 7, 128), 150)
        plan = ForwardPlan.of(chain.device(), chain.weights.dtype, chain.chained)
        assert plan.resident
        launch = chain.forward(processors=1, warps=4, resident=resident)
        run_all([launch])
        found.append(chain.tape.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_first_layer_of_a_network_has_none_below(kind):
    chain = Chain.of(kind, (33, 20, 7), 65)
    untouched = chain.layers[0]
    run_all([chain.forward(), *chain.back(Room(), accumulate=True, below=False)])
    chain.assert_back(accumulate=True, below=False)
    assert np.isnan(get(chain.view(untouched.delta, 33))).all()
    assert np.isnan(chain.gradients[untouched.b : untouched.b + 33]).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_deltas_that_are_not_asked_for_change_no_gradient(kind):
    found = []
    for asked in (True, False):
        chain = Chain.of(kind, (33, 20, 16, 7), 65)
        run_all([chain.forward()])
        if not asked:
            *inner, last = chain.layers
            chain.layers = [*(replace(layer, delta=None) for layer in inner), last]
        run_all(chain.back(Room(), accumulate=True))
        found.append(chain.gradients.tobytes())
    assert found[0] == found[1]


def test_a_launch_can_be_repeated():
    chain = Chain.of("bfloat16", (33, 20, 7), 65)
    launches = [chain.forward(), *chain.back(Room(), accumulate=True)]
    run_all(launches)
    before = [array.tobytes() for array in results(chain)]
    run_all(launches)
    assert [array.tobytes() for array in results(chain)] == before


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_overflow_beside_a_layer_stays_there(kind):
    """An infinite input is 0 after a ReLU where its weights are negative, whatever the padding."""
    chain = Chain.of(kind, (5, 3, 2), 2, ["relu"] * 3, dropped=0.0)
    first = chain.chained[0]
    x = chain.view(first.x, 5)
    x[0] = put(np.full(5, np.inf), x.dtype)
    W = chain.weights[first.W : first.W + 15]
    W[...] = put(np.full(15, -1.0), W.dtype)
    run_all([chain.forward()])
    second = chain.chained[1]
    np.testing.assert_array_equal(get(chain.view(first.a, 3))[0], 0)
    assert np.isfinite(get(chain.view(second.a, 2))).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_deltas_that_overflow_stay_infinite(kind):
    """They are not made NaN by what lies beside a layer."""
    chain = Chain.of(kind, (5, 1, 2), 2, ["identity"] * 3, dropped=0.0)
    last = chain.layers[-1]
    delta = chain.view(last.delta, 2)
    delta[0] = put([np.inf, 1.0], delta.dtype)
    run_all([chain.forward(), *chain.back(Room(), accumulate=True)])
    assert np.isinf(get(chain.view(chain.layers[0].delta, 5))[0]).all()
    assert np.isfinite(get(chain.view(chain.layers[0].delta, 5))[1]).all()


# --- plans ----------------------------------------------------------------------------------------


def of_widths(*widths: int) -> list[NarrowLayer]:
    return [NarrowLayer(i, o, "relu", 0, 0) for i, o in pairwise(widths)]


def test_what_a_plan_says_fits_and_covers_all_layers():
    for shared in (64, 99, 163, 227):
        for tf32, dtype in ((False, FLOAT32), (True, FLOAT32), (True, BFLOAT16)):
            device = Device((9, 0), 132, tf32=tf32, shared=shared * 1024)
            for width in (16, 33, 64, 128):
                layers = of_widths(*[width] * 21)
                forward = ForwardPlan.of(device, dtype, layers)
                assert forward is None or forward.shared <= device.shared
                plans = plan_deltas(device, dtype, layers, below=False)
                if plans is None:
                    continue
                assert all(plan.shared <= device.shared for plan in plans)
                assert all(plan.stop - plan.start > 1 or plan.start == 0 for plan in plans)
                covered = [i for plan in plans[::-1] for i in range(plan.start, plan.stop)]
                assert covered == list(range(20))


def test_gradients_are_summed_on_the_way_where_they_fit():
    """Four layers of 64 on a device with 227 KiB: everything in one launch."""
    layers = of_widths(64, 64, 64, 64, 64, 1)
    for dtype in (FLOAT32, BFLOAT16):
        device = Device((9, 0), 132, tf32=True, shared=227 * 1024)
        (plan,) = plan_deltas(device, dtype, layers, below=False)
        assert plan.accumulate
        assert plan.warps == 8


def test_few_rows_are_shared_out():
    chain = Chain.of("bfloat16", (17, 64, 10), 150)
    for processors, grid, block in ((1, 1, 256), (132, 3, 128)):
        launch, _ = chain.back(Room(), True, processors=processors, warps=8)
        assert (launch.grid[0], launch.block[0]) == (grid, block)
    assert chain.forward().grid[0] == 5


def test_nothing_is_launched_for_nothing():
    chain = Chain.of("float32", (5, 3), 2)
    plan = DeltaPlan(0, 1, 4, accumulate=False, shared=0)
    assert not narrow_delta(
        chain.device(), Room(), guarded, chain.view(chain.layers[-1].delta, 3), chain.weights,
        chain.chained, None, False, chain.tape, chain.gradients, plan,
    )  # fmt: skip
