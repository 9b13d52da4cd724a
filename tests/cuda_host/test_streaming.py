"""Rows too many for the device: training on chunks of them is, bit for bit, training on all."""

from __future__ import annotations

import numpy as np
import pytest

import mlp
from mlp import streaming
from mlp.backends.cuda import stream as cuda_stream
from mlp.backends.cuda.backend import CupyBackend
from mlp.backends.cuda.device import CudaDevice
from mlp.data import blocks as data_blocks
from mlp.errors import InvalidInput
from mlp.step import EpochPlan
from tests.cuda_host.runs import assert_same_network, classifier, counted, digits, machine
from tests.data.test_windows import expected_order
from tests.problems import rows, target

ROWS, BATCH, ROW_BYTES = 203, 20, 64 * 4  # 11 batches, the last of 3 rows
SMALL, LARGE = 74_000, 2**30  # the rows alone take 51,968 bytes
EPOCHS = 2


class Chunks(mlp.Callback):
    """Notes how many chunks an epoch is fed in."""

    count = 0

    def on_fit_start(self, trainer):
        if trainer.step.stream is not None:
            self.count = -(-trainer.step.batches // trainer.step.stream._batches)


@pytest.fixture
def in_chunks_of(monkeypatch):
    """Sets how many batches are in a chunk; as many as there is room for, otherwise."""

    def batches(count):
        monkeypatch.setattr(cuda_stream, "CHUNK_BYTES", count * BATCH * ROW_BYTES)

    return batches


def fit(
    memory, lazy=True, network=classifier, X=None, y=None, callbacks=(), plan=None, blocks=False,
    **data,
):  # fmt: skip
    """(trainer, number of chunks) on a machine with so much memory."""
    digits_X, digits_y = digits(ROWS)
    chunks = Chunks()
    with machine(memory=memory, lazy=lazy):
        net = network()
        loss = "mse" if y is not None and y.dtype.kind == "f" else "cross_entropy"
        trainer = mlp.Trainer(net, loss, mlp.Adam(5e-3), BATCH, seed=3, l2=0.1, plan=plan)
        trainer._slice = 100  # of batches, so that no wait of the trainer's helps
        trainer.fit(
            digits_X if X is None else X,
            None if blocks else digits_y if y is None else y,
            EPOCHS,
            callbacks=[chunks, *callbacks], **data,
        )  # fmt: skip
        trainer.parameters_at_the_end = mlp.Network.from_state(net.state(), "numpy")
        trainer.copies_at_the_end = net.backend.to_host(net.compute.flat)
    return trainer, chunks.count


def assert_same_run(ours, theirs):
    assert ours.streams
    assert not theirs.streams
    for key in set(theirs.history) - {"seconds"}:
        assert ours.history[key] == theirs.history[key]
    assert_same_network(ours.parameters_at_the_end, theirs.parameters_at_the_end)
    np.testing.assert_array_equal(ours.copies_at_the_end, theirs.copies_at_the_end)


def small(**settings):
    return classifier("cuda", hidden=8, **settings)


def raw():
    """A network that standardises."""
    net = small()
    net.preprocessing = mlp.Standardizer.fit(digits(ROWS)[0])
    return net


def of_values():
    net = mlp.Network(64, [mlp.Dense(6, "tanh"), mlp.Dense(2)], device="cuda", seed=0)
    net.preprocessing = mlp.Standardizer.fit(digits(ROWS)[0])
    net.target_scaler = mlp.Standardizer.fit(target("values", ROWS, 2))
    return net


@pytest.mark.parametrize("lazy", [True, False], ids=["late", "at once"])
@pytest.mark.parametrize(("batches", "chunks"), [(1, 11), (2, 6), (3, 4), (4, 3), (10, 2), (11, 1)])
def test_any_number_of_chunks(batches, chunks, lazy, in_chunks_of):
    in_chunks_of(batches)
    # Two chunks of so many must fit, while the rows are said not to.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CupyBackend, "has_room_for", lambda *_: False)
        streamed, count = fit(LARGE, lazy, small)
    assert count == chunks
    assert_same_run(streamed, fit(LARGE, True, small)[0])


@pytest.mark.parametrize("lazy", [True, False], ids=["late", "at once"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("network", [small, raw, of_values])
def test_a_device_without_room_for_the_rows(network, weighted, lazy):
    X, _ = digits(ROWS)
    data = {"X": X, "y": target("values", ROWS, 2) if network is of_values else None}
    if weighted:
        data["sample_weight"] = np.random.default_rng(0).random(ROWS)
    streamed, chunks = fit(SMALL, lazy, network, **data)
    assert chunks > 2
    assert_same_run(streamed, fit(LARGE, lazy, network, **data)[0])


@pytest.mark.parametrize("precision", ["float64", "bfloat16", "float16"])
def test_other_precisions(precision):
    def network():
        return small(precision=precision)

    memory = 2 * SMALL if precision == "float64" else SMALL
    assert_same_run(fit(memory, network=network)[0], fit(LARGE, network=network)[0])


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8"])
def test_rows_of_any_type(dtype):
    X = (digits(ROWS)[0] * 16).astype(dtype)
    assert_same_run(fit(SMALL, network=raw, X=X)[0], fit(LARGE, network=raw, X=X)[0])


def test_rows_mapped_from_a_file(tmp_path):
    X, _ = digits(ROWS)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert_same_run(fit(SMALL, network=raw, X=mapped)[0], fit(LARGE, network=raw, X=X)[0])


def test_plans():
    """The order and the weights of an epoch, and its penalties."""
    rng, seen = np.random.default_rng(0), []
    weights, orders, scale = rng.random((2, ROWS)), [rng.permutation(ROWS), None], rng.random(11)
    settings = {
        "network": small, "sample_weight": rng.random(ROWS),
        "plan": lambda epoch: EpochPlan(orders[epoch], [None, weights[1]][epoch], scale),
        "callbacks": [lambda trainer: seen.append(trainer.step.penalties)],
    }  # fmt: skip
    streamed, _ = fit(SMALL, **settings)
    assert_same_run(streamed, fit(LARGE, **settings)[0])
    np.testing.assert_array_equal(seen[:2], seen[2:])
    assert np.min(seen) > 0


def test_validation_and_callbacks():
    X, y = digits(ROWS + 20)
    data = {"X": X[:ROWS], "y": y[:ROWS], "validation": (X[ROWS:], y[ROWS:])}
    streamed, _ = fit(SMALL, network=small, callbacks=[mlp.EarlyStopping(patience=1)], **data)
    whole, _ = fit(LARGE, network=small, callbacks=[mlp.EarlyStopping(patience=1)], **data)
    assert_same_run(streamed, whole)
    assert len(streamed.history["validation_score"]) > 1


def test_validation_rows_that_do_not_fit(monkeypatch):
    X, y = digits(1000)
    monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 10 * X[:1].nbytes)
    data = {"X": X[:ROWS], "y": y[:ROWS], "validation": (X, y)}
    streamed, _ = fit(SMALL, network=small, **data)
    whole, _ = fit(LARGE, network=small, **data)
    assert_same_network(streamed.parameters_at_the_end, whole.parameters_at_the_end)
    for key in ("validation_loss", "validation_score"):
        np.testing.assert_allclose(streamed.history[key], whole.history[key], rtol=1e-6)


def test_rows_in_blocks(monkeypatch):
    """Windows of a few blocks are fed to the device as they are to the processor."""
    X, y = digits(ROWS)
    window = 31
    monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 9 * X[:1].nbytes)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", window * (ROW_BYTES + 8))
    monkeypatch.setattr(streaming, "LEAST_WINDOW_BYTES", 1)
    source = mlp.ArrayBlocks(X, y)
    ours, chunks = fit(SMALL, X=source, network=small, blocks=True)

    def plan(epoch):
        return EpochPlan(order=expected_order(source.sizes, window, 3, epoch))

    assert chunks > 2
    assert_same_run(ours, fit(LARGE, network=small, plan=plan)[0])


def test_epochs_at_once_and_several_calls():
    found = []
    for memory in (SMALL, LARGE):
        with machine(memory=memory):
            net = small()
            trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(5e-3), BATCH, seed=3)
            trainer._epochs = 3
            trainer.fit(*digits(ROWS), 3)
            trainer.fit(*digits(ROWS), 2)
            assert trainer.streams == (memory == SMALL)
            found.append((trainer.history["loss"], net.weights))
    assert found[0][0] == found[1][0]
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_stream_waits_for_the_copies_alone():
    """An epoch downloads nothing, allocates nothing, and never waits for the steps."""
    with machine(memory=SMALL), counted() as counts:
        net = small()
        trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(5e-3), BATCH, seed=3)
        per_epoch = []

        def note(trainer):
            per_epoch.append(dict(counts))
            counts.clear()

        trainer.fit(*digits(ROWS), 3, callbacks=[note])
    for counts_of_epoch in per_epoch[1:]:
        assert counts_of_epoch["graphs"] == 11
        assert counts_of_epoch["allocations"] <= 2
        assert counts_of_epoch["downloads"] <= 2


def test_the_device_is_given_back():
    with machine(memory=SMALL) as cupy:
        net = small()
        trainer = mlp.Trainer(net, "cross_entropy", mlp.Adam(5e-3), BATCH, seed=3)
        trainer.fit(*digits(ROWS), 1)
        kept = sum(cupy.machine.used)
        trainer.fit(*digits(ROWS), 1)
        assert trainer.streams
        assert sum(cupy.machine.used) == kept < SMALL / 3


WAITS = {
    "the host for the copies": ("wait_on_host", lambda device, event: True),
    "the copies for the steps": ("wait", lambda device, event, stream=None: stream is not None),
    "the steps for the copies": ("wait", lambda device, event, stream=None: stream is None),
}


@pytest.mark.parametrize("missing", WAITS)
def test_a_missing_wait_would_show(missing, monkeypatch, in_chunks_of):
    """The stand-in's streams are as late as can be, and each of the three waits is needed."""
    in_chunks_of(2)
    whole, _ = fit(LARGE, network=small)
    name, skipped = WAITS[missing]
    wait = getattr(CudaDevice, name)

    def other_waits(*arguments):
        if not skipped(*arguments):
            wait(*arguments)

    monkeypatch.setattr(CudaDevice, name, other_waits)
    try:
        streamed, _ = fit(SMALL, network=small)
    except mlp.TrainingDiverged:
        return
    assert streamed.history["loss"] != whole.history["loss"]


def test_rows_that_are_not_finite():
    X, y = digits(ROWS)
    X[201, 3] = np.nan
    with pytest.raises(InvalidInput, match="X holds nan at row 201, column 3"):
        fit(SMALL, network=small, X=X, y=y)


# --- prediction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_prediction_in_parts(precision):
    X = rows(1000, 64).astype(np.float32)
    found = {}
    for memory in (SMALL, LARGE):
        with machine(memory=memory) as cupy:
            net = small(precision=precision)
            before = sum(cupy.machine.used)
            found[memory] = net.forward(X), net.predict(X), net.predict(list(X[:3]))
            assert sum(cupy.machine.used) - before < SMALL / 4 or memory == LARGE
    for ours, theirs in zip(found[SMALL], found[LARGE], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_target_beyond_the_precision_is_refused_before_training():
    X, _ = digits(ROWS)
    with machine(), pytest.MonkeyPatch.context() as patch:
        net = of_values()
        net.target_scaler = None
        before = net.weights
        patch.setattr(CupyBackend, "has_room_for", lambda *_: False)
        with pytest.raises(InvalidInput, match="y has numbers that are not finite in float32"):
            mlp.Trainer(net, "mse").fit(X, np.full((ROWS, 2), 1e300), 1)
        for a, b in zip(before, net.weights, strict=True):
            np.testing.assert_array_equal(a, b)
