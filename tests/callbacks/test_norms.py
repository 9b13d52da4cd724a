"""The norms of each layer, against plain NumPy; when they are taken, and on which rows."""

import numpy as np
import pytest
from scipy.sparse import csc_matrix

import mlp
from mlp.data.blocks import ArrayBlocks
from tests.callbacks.problem import X, Y, small_trainer
from tests.problems import rows, target


def test_the_norms_are_those_of_the_network_after_the_epoch():
    trainer, norms, seen = small_trainer(l2=0.5), mlp.NormsLog(X, Y, most_rows=23), []
    trainer.fit(X, Y, 2, callbacks=[norms, lambda t: seen.append((t.network.weights, t.epoch))])
    net, (last, epoch) = trainer.network, seen[-1]
    W, V = (w.astype(np.float64) for w in last)
    b, c = net.biases
    hidden = np.tanh(X @ W + b)
    z = hidden @ V + c
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta = (p - np.eye(3)[Y]) / len(X)
    dV = hidden.T @ delta
    dW = X.T @ (delta @ V.T * (1 - hidden**2))
    record = norms.records[-1]
    assert record.epoch == epoch == 2
    expected = {
        "weights": [np.sqrt((W**2).sum()), np.sqrt((V**2).sum())],
        "gradients": [np.sqrt((dW**2).sum()), np.sqrt((dV**2).sum())],
        "activations": [np.sqrt((hidden**2).mean()), np.sqrt((p**2).mean())],
    }
    for kind, values in expected.items():
        np.testing.assert_allclose(getattr(record, kind), values, rtol=1e-12)


@pytest.mark.parametrize(
    ("count", "rows_seen", "every"), [(23, 23, 10), (80, 32, 10), (640, 32, 3), (6400, 256, 2)]
)
def test_the_rows_looked_at_are_a_small_share(count, rows_seen, every, monkeypatch):
    trainer, seen = small_trainer(), []
    ask = trainer.network.gradients
    monkeypatch.setattr(
        trainer.network, "gradients", lambda X, *rest: seen.append(X) or ask(X, *rest)
    )
    data, labels = rows(count, 4), target("labels", count, 3)
    norms = mlp.NormsLog(data, labels)
    trainer.batch_size = count
    trainer.fit(data, labels, 201, callbacks=[norms])
    assert norms.every == every
    assert [r.epoch for r in norms.records] == sorted({*range(1, 202, every), 201})
    assert all(len(sample) == rows_seen for sample in seen)
    assert all(np.array_equal(sample, seen[0]) for sample in seen)
    assert len(np.unique(seen[0], axis=0)) == rows_seen
    assert np.isin(seen[0][:, 0], data[:, 0]).all()


def test_the_last_epoch_before_a_stop_is_looked_at():
    trainer, norms = small_trainer(), mlp.NormsLog(X, Y)
    trainer.fit(X, Y, 30, callbacks=[lambda t: t.epoch == 7 and t.stop("enough"), norms])
    assert [record.epoch for record in norms.records] == list(range(1, 8))
    norms.share = 1e-9
    trainer.fit(X, Y, 300, callbacks=[lambda t: t.epoch == 27 and t.stop("enough"), norms])
    assert [record.epoch for record in norms.records[7:]] == [8, 23, 27]  # every 300 // 20 epochs


def test_rows_with_their_weights():
    trainer, norms = small_trainer(), mlp.NormsLog(X, Y, np.arange(23), most_rows=23)
    trainer.fit(X, Y, 1, callbacks=[norms])
    found = trainer.network.gradients(X, Y, "cross_entropy", np.arange(23))
    expected = [np.linalg.norm(dW) for dW in found.weights]
    np.testing.assert_allclose(norms.records[0].gradients, expected, rtol=1e-12)


def as_array(rows):
    return rows.toarray() if hasattr(rows, "toarray") else np.stack([c.to_numpy() for c in rows], 1)


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "scipy", "list"])
def test_rows_of_any_kind(kind):
    expected, seen = mlp.NormsLog(X, Y, most_rows=23), []
    small_trainer().fit(X, Y, 1, callbacks=[expected])
    columns = {name: X[:, i] for i, name in enumerate("abcd")}
    same = {
        "pyarrow": lambda: pytest.importorskip("pyarrow").table(columns),
        "pandas": lambda: pytest.importorskip("pandas").DataFrame(columns),
        "scipy": lambda: csc_matrix(X),
        "list": X.tolist,
    }[kind]()
    trainer = small_trainer()
    ask = trainer.network.gradients

    def gradients(rows, *rest):
        seen.append(rows)
        return ask(rows if isinstance(rows, np.ndarray) else as_array(rows), *rest)

    trainer.network.gradients = gradients
    norms = mlp.NormsLog(same, Y.tolist(), most_rows=23)
    trainer.fit(X, Y, 1, callbacks=[norms])
    assert norms.records == expected.records
    assert len(seen) == 2


def test_rows_in_blocks():
    expected, norms = mlp.NormsLog(X, Y, most_rows=23), mlp.NormsLog(ArrayBlocks(X, Y), None)
    small_trainer().fit(X, Y, 1, callbacks=[expected])
    small_trainer().fit(X, Y, 1, callbacks=[norms])
    assert norms.records == expected.records


def test_rows_that_cannot_be_used_are_found_out_before_training():
    trainer = small_trainer()
    with pytest.raises(mlp.InvalidInput, match="rows for the norms are of different lengths"):
        trainer.fit(X, Y, 1, callbacks=[mlp.NormsLog(X[:5], Y)])
    with pytest.raises(mlp.InvalidInput, match="features per row"):
        trainer.fit(X, Y, 1, callbacks=[mlp.NormsLog(X[:, :2], Y)])
    assert trainer.epoch == 0


@pytest.mark.parametrize("setting", [{"share": 0}, {"share": 1.5}, {"most_rows": 0}])
def test_settings_that_cannot_be_used(setting):
    with pytest.raises(mlp.InvalidSetting, match=next(iter(setting))):
        mlp.NormsLog(X, Y, **setting)
