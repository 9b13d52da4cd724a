"""Training on rows that are streamed: the same bits as training on them in memory, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import mlp
from mlp import streaming
from mlp.backends import host_stream
from mlp.data import blocks as blocks_module
from mlp.data.blocks import ArrayBlocks
from mlp.data.holdout import PartOfBlocks
from mlp.epoch_plan import EpochPlan
from mlp.errors import InvalidInput, InvalidSetting
from mlp.evaluation import Evaluator
from mlp.losses import get_loss
from tests.data.test_windows import expected_order
from tests.problems import rows, target

ROWS, COLUMNS, BATCH, EPOCHS = 1003, 7, 20, 3
X = rows(ROWS, COLUMNS)
LABELS = target("labels", ROWS, 3)
VALUES = target("values", ROWS, 2)
W = np.random.default_rng(2).random(ROWS)
MB = 10**6

DEVICES = ["numpy", "cpu"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks, windows and chunks so small that the data has many of each."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 50 * COLUMNS * 8)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 7_000)
    monkeypatch.setattr(streaming, "LEAST_WINDOW_BYTES", 100)
    monkeypatch.setattr(streaming, "PIECE_BYTES", 17 * COLUMNS * 8)
    monkeypatch.setattr(host_stream, "CHUNK_BYTES", 3 * BATCH * COLUMNS * 4)


def network_of(device, kind, precision="float32"):
    last = mlp.Dense(3, "softmax") if kind == "labels" else mlp.Dense(2)
    layers = [mlp.Dense(8, "tanh", dropout=0.1), last]
    net = mlp.Network(COLUMNS, layers, device=device, precision=precision, seed=4)
    net.preprocessing = mlp.Standardizer.fit(X)
    return net


def fit(
    device, kind, data, *, precision="float32", epochs=EPOCHS, validation=None, weight=None,
    **settings,
):  # fmt: skip
    net = network_of(device, kind, precision)
    loss = "cross_entropy" if kind == "labels" else "mse"
    trainer = mlp.Trainer(net, loss, mlp.Adam(0.01), BATCH, seed=6, l2=1e-3, **settings)
    trainer.fit(*data, epochs, validation, sample_weight=weight)
    assert not threads()
    return trainer


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mlp-read")]


def assert_same_bits(ours, theirs):
    for key in set(theirs.history) - {"seconds"}:
        assert ours.history[key] == theirs.history[key], key
    for a, b in zip(ours.network.weights, theirs.network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def orders_of(source, trainer):
    """Epoch -> the order in which the trainer's stream visited the rows."""
    row_bytes = COLUMNS * 4 + (8 if trainer.loss.targets == "classes" else 2 * 4)
    row_bytes += 4 * source.weighted
    window = streaming.WINDOW_BYTES // row_bytes
    assert len(source.sizes) > 10
    assert sum(source.sizes) > 3 * window
    return lambda epoch: EpochPlan(order=expected_order(source.sizes, window, 6, epoch))


# --- the same as in memory ------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("kind", ["labels", "values"])
def test_blocks_train_to_the_bits_of_their_order(kind, weighted, device):
    y, weight = (LABELS if kind == "labels" else VALUES), (W if weighted else None)
    source = ArrayBlocks(X, y, weight)
    streamed = fit(device, kind, (source, None))
    assert streamed.streams
    net = network_of(device, kind)
    whole = mlp.Trainer(
        net, streamed.loss, mlp.Adam(0.01), BATCH, seed=6, l2=1e-3,
        plan=orders_of(source, streamed),
    )  # fmt: skip
    whole.fit(X, y, EPOCHS, sample_weight=weight)
    assert not whole.streams
    assert_same_bits(streamed, whole)


def test_the_processors_bits_do_not_depend_on_chunks_windows_in_memory_or_threads(monkeypatch):
    source = ArrayBlocks(X, LABELS)
    first = fit("cpu", "labels", (source, None))
    for chunk, piece in ((1, 1), (10**9, 10**9)):
        monkeypatch.setattr(host_stream, "CHUNK_BYTES", chunk)
        monkeypatch.setattr(streaming, "PIECE_BYTES", piece)
        assert_same_bits(fit("cpu", "labels", (source, None)), first)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_sparse_rows_train_to_the_bits_of_dense_ones(kind, device):
    thin = np.where(np.abs(X) > 1, X, 0)
    ours = fit(device, "labels", (kind(thin), LABELS), validation=(kind(thin[:90]), LABELS[:90]))
    theirs = fit(device, "labels", (thin, LABELS), validation=(thin[:90], LABELS[:90]))
    assert ours.streams
    assert not theirs.streams
    assert set(ours.history) == set(theirs.history)
    for key in ("loss", "validation_loss"):
        np.testing.assert_allclose(ours.history[key], theirs.history[key], rtol=1e-6)
    for a, b in zip(ours.network.weights, theirs.network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("weight", [None, W], ids=["even", "weighted"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_array_whose_copy_is_too_large(shuffle, weight):
    settings = {"shuffle": shuffle, "weight": weight}
    whole = fit("cpu", "labels", (X, LABELS), **settings)
    limit = streaming.PROCESS_BYTES + X.size * 4 - 1  # one byte too few for a float32 copy
    streamed = fit("cpu", "labels", (X, LABELS), memory_limit=limit, **settings)
    assert streamed.streams
    assert not whole.streams
    assert_same_bits(streamed, whole)
    assert not fit("cpu", "labels", (X, LABELS), memory_limit=limit + 1).streams


def test_an_array_that_is_used_as_it_is_needs_no_room():
    net = mlp.Network(COLUMNS, [mlp.Dense(2)], device="cpu")
    trainer = mlp.Trainer(net, "mse", memory_limit=1)
    trainer.fit(X.astype(np.float32), VALUES, 1)
    assert not trainer.streams


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_mapped_file_that_is_too_large(shuffle, tmp_path, monkeypatch):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(streaming, "window_bytes", lambda *_: streaming.WINDOW_BYTES)
    limit = streaming.PROCESS_BYTES + X.nbytes + X.size * 4 - 1  # a byte too few to copy it
    streamed = fit("cpu", "labels", (mapped, LABELS), shuffle=shuffle, memory_limit=limit)
    assert streamed.streams
    assert not fit("cpu", "labels", (mapped, LABELS), memory_limit=limit + 1).streams
    plan = orders_of(ArrayBlocks(X, LABELS), streamed) if shuffle else None
    assert_same_bits(streamed, fit("cpu", "labels", (X, LABELS), shuffle=shuffle, plan=plan))


def test_fewer_rows_than_a_batch_and_epochs_at_once():
    few = ArrayBlocks(X[:5], LABELS[:5])
    ours = fit("cpu", "labels", (few, None), epochs=2)
    assert ours.step.batches == 1
    many = fit("cpu", "labels", (few, None), epochs=40)
    assert many.history["loss"][:2] == ours.history["loss"]
    assert len(many.history["loss"]) == 40


def test_two_calls_of_fit():
    source = ArrayBlocks(X, LABELS)
    once = fit("cpu", "labels", (source, None), epochs=4)
    twice = fit("cpu", "labels", (source, None), epochs=2)
    twice.fit(source, None, 2)
    assert_same_bits(twice, once)


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "values", "yes_no"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "read again"])
def test_evaluation_in_blocks(kept, weighted, kind, monkeypatch):
    if not kept:
        monkeypatch.setattr(streaming, "KEPT_BYTES", 0)
    y = {"labels": LABELS, "values": VALUES, "yes_no": target("yes_no", ROWS, 2)}[kind]
    loss = {"labels": "cross_entropy", "values": "mse", "yes_no": "binary_cross_entropy"}[kind]
    last = {"labels": (3, "softmax"), "values": (2, "identity"), "yes_no": (2, "sigmoid")}[kind]
    net = mlp.Network(
        COLUMNS, [mlp.Dense(8, "tanh"), mlp.Dense(*last)], device="numpy", precision="float64"
    )
    weight = W if weighted else None
    reads = []
    source = ArrayBlocks(X, y, weight)
    monkeypatch.setattr(
        ArrayBlocks,
        "read",
        lambda self, *a, read=ArrayBlocks.read: reads.append(a) or read(self, *a),
    )
    ours = Evaluator(net, get_loss(loss), source, None)
    theirs = Evaluator(net, get_loss(loss), X, y, weight)
    found, expected = [ours(), ours()], theirs()
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0].loss, expected.loss, rtol=1e-13)
    np.testing.assert_allclose(found[0].score, expected.score, rtol=1e-11)
    assert len(reads) == 1 + len(source.sizes) * (1 if kept else 2)


def test_validation_rows_are_not_trained_on():
    """Rows held out have labels that only they have: learning from one would be seen."""
    out = PartOfBlocks(ArrayBlocks(X, LABELS), 0.3, 5, of_held_out=True)
    rest = PartOfBlocks(ArrayBlocks(X, LABELS), 0.3, 5, of_held_out=False)
    streamed = fit("cpu", "labels", (rest, None), validation=out)
    kept = np.concatenate([p.X for k in range(len(rest.sizes)) for p in rest.read(k, 100)])
    y = np.concatenate([p.y for k in range(len(rest.sizes)) for p in rest.read(k, 100)])
    v = np.concatenate([p.X for k in range(len(out.sizes)) for p in out.read(k, 100)])
    yv = np.concatenate([p.y for k in range(len(out.sizes)) for p in out.read(k, 100)])
    assert len(kept) + len(v) == ROWS
    net = network_of("cpu", "labels")
    whole = mlp.Trainer(
        net, "cross_entropy", mlp.Adam(0.01), BATCH, seed=6, l2=1e-3,
        plan=orders_of(rest, streamed),
    )  # fmt: skip
    whole.fit(kept, y, EPOCHS, (v, yv))
    np.testing.assert_allclose(
        streamed.history["validation_loss"], whole.history["validation_loss"], rtol=1e-6
    )
    assert streamed.history["loss"] == whole.history["loss"]


# --- errors ---------------------------------------------------------------------------------------


class Cursed(ArrayBlocks):
    """Blocks of which one cannot be read from the second time on."""

    error: BaseException = InvalidInput("block 7 is damaged")
    reads = 0

    def read(self, block, rows):
        if block == 7:
            self.reads += 1
            if self.reads > 1:
                raise self.error
        return super().read(block, rows)


@pytest.mark.parametrize("device", DEVICES)
def test_an_error_in_the_middle_of_a_run(device):
    source = Cursed(X, LABELS)
    with pytest.raises(InvalidInput, match="block 7 is damaged"):
        fit(device, "labels", (source, None))
    assert not threads()


def test_an_interrupt_ends_the_thread():
    def interrupt(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    net = network_of("cpu", "labels")
    trainer = mlp.Trainer(net, "cross_entropy", batch_size=BATCH)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(ArrayBlocks(X, LABELS), None, 3, callbacks=[interrupt])
    assert not threads()


def test_rows_that_cannot_be_used_are_named():
    broken = X.copy()
    broken[777, 3] = np.nan
    with pytest.raises(InvalidInput, match=r"X, rows 750 to 799: X \(whose row 0 is row 767 of"):
        fit("cpu", "labels", (ArrayBlocks(broken, LABELS), None))
    wrong = LABELS.copy()
    wrong[901] = 3
    with pytest.raises(
        InvalidInput, match=r"rows 900 to 949: y .*holds 3 at row 1;.*labels 0 to 2"
    ):
        fit("cpu", "labels", (ArrayBlocks(X, wrong), None))
    with pytest.raises(InvalidInput, match="sample weights must be finite numbers >= 0"):
        fit("cpu", "labels", (ArrayBlocks(X, LABELS, -W), None))
    with pytest.raises(InvalidInput, match="X has 6 features per row, but the network takes 7"):
        fit("cpu", "labels", (ArrayBlocks(X[:, 1:], LABELS), None))


def test_settings_that_cannot_be_used():
    source = ArrayBlocks(X, LABELS)
    with pytest.raises(InvalidInput, match="bring their own y"):
        fit("cpu", "labels", (source, LABELS))
    with pytest.raises(
        InvalidSetting, match='memory_limit must be a number of bytes, or like "2GB"'
    ):
        fit("cpu", "labels", (source, None), memory_limit="much")
    with pytest.raises(InvalidSetting, match="a memory limit of 100 MB is too small: about 400 MB"):
        fit("cpu", "labels", (source, None), memory_limit="100MB")
    in_order = EpochPlan(order=np.arange(ROWS))
    with pytest.raises(InvalidSetting, match="no plan of an epoch"):
        fit("cpu", "labels", (source, None), plan=lambda epoch: in_order)
    assert not threads()


def test_a_process_that_is_too_large_already(monkeypatch):
    monkeypatch.setattr(streaming, "resident_bytes", lambda: 900 * MB)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 128 * 2**20)
    with pytest.raises(InvalidSetting, match="the process holds 900 MB already"):
        fit("cpu", "labels", (ArrayBlocks(X, LABELS), None), memory_limit="1GB")


# --- memory ---------------------------------------------------------------------------------------

BOUNDED = """
import sys
import numpy as np
import mlp
from mlp import streaming
from mlp.data.blocks import npy_blocks
from mlp.data.memory import peak_bytes

streaming.WINDOW_BYTES = 8 * 2**20
X, y = sys.argv[1:]
net = mlp.Network(50, [mlp.Dense(2, "tanh"), mlp.Dense(1)], device="cpu")
trainer = mlp.Trainer(net, "mse", batch_size=4096)
few = np.load(X, mmap_mode="r")[:9000], np.load(y, mmap_mode="r")[:9000]
trainer.fit(*map(np.array, few), 1, validation=tuple(map(np.array, few)))
before = peak_bytes()
blocks = npy_blocks(X, y)
trainer.fit(blocks, None, 1, validation=(np.load(X, mmap_mode="r")[:9000], few[1]))
assert trainer.streams
print(peak_bytes() - before)
"""


def test_memory_does_not_grow_with_the_data(tmp_path):
    """200 MB through windows of 8 MiB: the process grows by less than 60 MB."""
    count, X, y = 500_000, tmp_path / "X.npy", tmp_path / "y.npy"
    mapped = np.lib.format.open_memmap(X, "w+", np.float64, (count, 50))
    for first in range(0, count, 50_000):
        mapped[first : first + 50_000] = np.random.default_rng(first).random((50_000, 50))
    del mapped
    np.save(y, np.arange(count) / count)
    assert X.stat().st_size >= 200 * MB
    root = Path(mlp.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(X), str(y)],
        capture_output=True, text=True, check=False, cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'kernels'}"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 60 * MB
