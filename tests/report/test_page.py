"""The whole page: what it says of a run, the large and the strange, and that it fetches nothing."""

import math
import re

import numpy as np
import pytest

import mlp
from mlp.callbacks import EarlyStopping
from mlp.data.blocks import ArrayBlocks
from mlp.report import write_report
from tests.report.reading import points, read, ticks
from tests.report.runs import Run, labels, rows, three_classes, train, two_outputs

SCRIPT = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def run() -> Run:
    return three_classes()


def test_the_headline(run, tmp_path):
    page = run.report(tmp_path / "r.html", title="flowers")
    Xv, yv = run.validation
    net, history = run.trainer.network, run.trainer.history
    facts = page.one("dl", "tiles").pairs()
    right = float((net.predict(Xv) == yv).mean())
    training = float((net.predict(run.X) == run.y).mean())
    assert facts["validation accuracy"] == f"{100 * right:.2f} %training {100 * training:.2f} %"
    best = int(np.argmin(history["validation_loss"])) + 1
    assert facts["epoch kept"] == f"{best}of 3"
    assert facts["parameters"] == "38float32"
    p = net.forward(Xv).astype(float)
    loss = -np.log(p[np.arange(40), yv]).mean()
    assert float(facts["validation loss"].split("training")[0]) == pytest.approx(loss, rel=1e-3)
    assert page.one("h1").text() == "flowers"
    assert page.one("head").one("title").text() == "flowers – training report"


def test_the_table_of_the_history(run, tmp_path):
    page, history = run.report(tmp_path / "r.html"), run.trainer.history
    found = page.table("The history by epoch")
    assert [row[0].split()[0] for row in found] == ["1", "2", "3"]
    assert [float(row[1]) for row in found] == pytest.approx(history["loss"], rel=1e-3)
    kept = [row[0] for row in found if "kept" in row[0]]
    assert kept == [f"{run.callbacks[0].best_epoch} (kept)"]


def test_the_curves_go_through_the_history(run, tmp_path):
    page, history = run.report(tmp_path / "r.html"), run.trainer.history
    chart = page.titled("Loss by epoch").one("svg")
    across, up = ticks(chart)
    assert set(across) == {"1", "2", "3"}
    values = sorted((float(label), at) for label, at in up.items())
    (low, bottom), (high, top) = values[0], values[-1]
    assert bottom > top  # larger is higher
    for path, name in zip(chart.all("path", "line"), ("loss", "validation_loss"), strict=True):
        for (x, y), epoch, value in zip(points(path), "123", history[name], strict=True):
            assert x == pytest.approx(across[epoch], abs=0.1)
            assert low + (y - bottom) / (top - bottom) * (high - low) == pytest.approx(
                value, abs=0.01
            )
    assert [key.text() for key in page.titled("Loss by epoch").all("li")] == [
        "training",
        "validation",
    ]


def test_the_kept_epoch_is_marked(run, tmp_path):
    page, best = run.report(tmp_path / "r.html"), run.callbacks[0].best_epoch
    for title in ("Loss by epoch", "Validation accuracy by epoch", "Learning rate by epoch"):
        chart = page.titled(title).one("svg")
        mark = chart.one("g", "mark")
        assert mark.text() == f"kept: epoch {best}"
        (x, *_) = re.findall(r"M([\d.]+)", mark.one("path").attributes["d"])
        assert float(x) == pytest.approx(ticks(chart)[0][str(best)], abs=0.1)


def test_the_norms(run, tmp_path):
    page, norms = run.report(tmp_path / "r.html"), run.callbacks[1].records
    found = page.table("Norms by layer, first and last epoch")
    assert [float(row[1]) for row in found] == pytest.approx(norms[0].weights, rel=1e-3)
    assert [float(row[4]) for row in found] == pytest.approx(norms[-1].gradients, rel=1e-3)
    assert [float(row[6]) for row in found] == pytest.approx(norms[-1].activations, rel=1e-3)
    lines = page.titled("Gradients by layer").one("svg").all("path", "line")
    assert len(lines) == 2
    assert len(points(lines[0])) == len(norms)


def test_what_it_was_made_with(run, tmp_path):
    details = {"Data": {"rows": 130, "columns": "a, b"}}
    command = "mlp train 'my data.csv'"
    page = run.report(tmp_path / "r.html", details=details, command=command)
    assert page.titled("Data").pairs() == {"rows": "130", "columns": "a, b"}
    assert page.titled("To repeat it").one("code").text() == command
    assert repr(run.trainer.optimizer) in page.text()
    machine = page.titled("Machine and versions").pairs()
    assert machine["fused-mlp"] == mlp.__version__
    assert machine["numpy"] == np.__version__
    assert machine["device"] == "numpy"
    layers = page.table("Layers of the network")
    assert layers[0] == ["0", "tanh", "3 × 5", "20", "40", "80 B", ""]
    assert layers[-1][:4] == ["total", "", "", "38"]


def test_every_text_of_the_users_is_escaped(tmp_path):
    X = rows(60, 0)
    names = (SCRIPT, "</style><b>", "a&amp;b")
    y = np.array(names)[labels(X, 3)]
    run = train(X, y, 3, "softmax", "cross_entropy", classes=names)
    run.trainer.stopped = SCRIPT
    page = run.report(
        tmp_path / "r.html", title=SCRIPT, command=SCRIPT, details={SCRIPT: {SCRIPT: SCRIPT}}
    )
    assert not page.all("script")
    assert not page.all("b")
    assert len(page.all("style")) == 1
    assert page.one("h1").text() == SCRIPT
    assert page.one("code").text() == SCRIPT
    assert page.titled(SCRIPT).pairs() == {SCRIPT: SCRIPT}
    assert [row[0] for row in page.table("Scores by class")] == list(names)
    assert SCRIPT in page.one("dl", "tiles").text()


def test_nothing_is_fetched_and_nothing_runs(run, tmp_path):
    page = run.report(tmp_path / "r.html")
    policy = [m.attributes["content"] for m in page.all("meta") if "http-equiv" in m.attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    for node in page.walk():
        assert node.tag not in ("script", "img", "iframe", "object", "embed")
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name != "src"
            assert name != "href" or value == "data:,"
    style = page.one("style").text()
    assert "url(" not in style
    assert "@import" not in style


def test_every_chart_has_a_title_and_a_description(run, tmp_path):
    page = run.report(tmp_path / "r.html")
    charts = page.all("svg")
    assert len(charts) == 7
    seen = set()
    for chart in charts:
        ids = chart.attributes["aria-labelledby"].split()
        named = {node.attributes.get("id"): node for node in chart.walk()}
        title, description = (named[name] for name in ids)
        assert title.tag == "title"
        assert title.text()
        assert description.tag == "desc"
        assert len(description.text()) > 10
        seen |= set(ids)
    assert len(seen) == 14


# --- the large and the strange --------------------------------------------------------------------


def stretched(run: Run, **columns) -> Run:
    """The run with another history, of as many epochs as the columns have."""
    run.trainer.history = columns
    run.trainer.epoch = len(columns["loss"])
    return run


def test_ten_thousand_epochs(tmp_path):
    loss = (1 / np.arange(1, 10_001)).tolist()
    loss[7654] = 3.0
    flat = [0.1] * 10_000
    run = stretched(three_classes(), loss=loss, learning_rate=flat, seconds=flat)
    run.callbacks[0].best_epoch = 4321
    page = run.report(tmp_path / "r.html")
    chart = page.titled("Loss by epoch").one("svg")
    (line,) = chart.all("path", "line")
    assert 100 < len(points(line)) <= 401
    across, up = ticks(chart)
    assert set(across) == {"2000", "4000", "6000", "8000", "10k"}
    assert min(y for _, y in points(line)) == pytest.approx(
        up["1"] - (up["0.1"] - up["1"]) * math.log10(3), abs=0.2
    )  # the one high value is there
    assert [row[0] for row in page.table("The history by epoch") if "kept" in row[0]] == [
        "4,321 (kept)"
    ]
    assert (tmp_path / "r.html").stat().st_size < 120_000


def test_values_that_are_no_numbers(tmp_path):
    nan = math.nan
    run = stretched(
        three_classes(), loss=[1.0, nan, 0.5, 0.4, math.inf], learning_rate=[0.1] * 5,
        seconds=[0.0] * 5, validation_loss=[nan] * 5, validation_score=[0.5, nan, 0.7, nan, nan],
    )  # fmt: skip
    page = run.report(tmp_path / "r.html")
    chart = page.titled("Loss by epoch").one("svg")
    (line,) = chart.all("path", "line")  # the validation loss has no value at all
    assert line.attributes["d"].count("M") == 2
    assert len(points(line)) == 3
    assert [row[1] for row in page.table("The history by epoch")] == ["1", "–", "0.5", "0.4", "∞"]
    assert "nan" not in (tmp_path / "r.html").read_text().lower()


def test_a_score_that_is_never_a_number_has_no_chart(tmp_path):
    run = stretched(
        three_classes(), loss=[1.0], learning_rate=[0.1], seconds=[0.0], validation_loss=[1.0],
        validation_score=[math.nan],
    )  # fmt: skip
    page = run.report(tmp_path / "r.html")
    assert "Validation accuracy by epoch" not in page.text()


def test_one_epoch_without_validation_and_norms(tmp_path):
    X = rows(60, 0)
    run = train(X, labels(X, 3), 3, "softmax", "cross_entropy", epochs=1, norms=False)
    page = run.report(tmp_path / "r.html")
    facts = page.one("dl", "tiles").pairs()
    assert facts["training accuracy"].endswith("no validation rows")
    assert page.titled("Classes of the 60 training rows")
    assert "Layers over time" not in page.text()
    chart = page.titled("Loss by epoch").one("svg")
    assert ticks(chart)[0].keys() >= {"1"}
    (dot,) = chart.all("circle")
    assert float(dot.attributes["cx"]) == ticks(chart)[0]["1"]


def test_without_callbacks_the_last_epoch_is_the_one(run, tmp_path):
    write_report(tmp_path / "r.html", run.trainer, run.X, run.y, run.validation)
    page = read((tmp_path / "r.html").read_text())
    assert page.one("dl", "tiles").pairs()["epoch kept"] == "3the last"
    assert "kept: epoch" not in page.text()


def test_a_network_of_many_layers(tmp_path):
    X, y = rows(60, 0), labels(rows(60, 0), 3)
    layers = [*(mlp.Dense(4, "tanh") for _ in range(20)), mlp.Dense(3, "softmax")]
    trainer = mlp.Trainer(mlp.Network(3, layers, device="numpy"), "cross_entropy")
    norms = mlp.NormsLog(X, y)
    trainer.fit(X, y, 2, callbacks=[norms])
    page = Run(trainer, X, y, None, [norms]).report(tmp_path / "r.html")
    names = [li.text() for li in page.titled("Weights by layer").all("li")]
    assert names == [f"layer {i}" for i in (0, 3, 6, 9, 11, 14, 17, 20)]
    assert len(page.table("Norms by layer, first and last epoch")) == 21


def test_a_long_run_says_its_time(tmp_path):
    for seconds, text in [
        (0.25, "250 ms"),
        (59, "59.0 s"),
        (125, "2 min 5 s"),
        (7300, "2 h 1 min"),
    ]:
        run = stretched(three_classes(), loss=[1.0], learning_rate=[0.1], seconds=[seconds])
        facts = run.report(tmp_path / "r.html").one("dl", "tiles").pairs()
        assert facts["time of the steps"].startswith(text)


def test_a_run_that_was_stopped_says_why(tmp_path):
    run = three_classes()
    run.trainer.stopped = "the stop file stop appeared"
    run.callbacks[0] = EarlyStopping()
    page = run.report(tmp_path / "r.html")
    assert "the stop file stop appeared" in page.one("dl", "tiles").text()


def test_rows_in_blocks(tmp_path, monkeypatch):
    """The page of rows that are read in blocks is that of the same rows in arrays."""
    run = three_classes()
    monkeypatch.setattr("mlp.report.outcome.PIECE_ROWS", 7)
    page = run.report(tmp_path / "r.html")
    run.X, run.y = ArrayBlocks(run.X, run.y), None
    run.validation = (ArrayBlocks(*run.validation), None)
    in_blocks = run.report(tmp_path / "b.html")
    facts, same = (p.one("dl", "tiles").pairs() for p in (page, in_blocks))
    # The training rows are not read once more for it.
    assert same["validation accuracy"] == facts["validation accuracy"].split("training")[0]
    assert same["validation loss"] == facts["validation loss"].split("training")[0]
    title = "Classes of the 40 validation rows"
    assert in_blocks.titled(title).text() == page.titled(title).text()


def test_rows_in_blocks_with_weights(tmp_path):
    run, weight = three_classes(), np.arange(40.0)
    run.validation = (*run.validation, weight)
    page = run.report(tmp_path / "r.html")
    run.validation = (ArrayBlocks(*run.validation), None)
    in_blocks = run.report(tmp_path / "b.html")
    assert in_blocks.table("Scores by class") == page.table("Scores by class")


# --- the file -------------------------------------------------------------------------------------


def test_mistakes(run, tmp_path):
    untrained = mlp.Trainer(run.trainer.network, "cross_entropy")
    with pytest.raises(mlp.InvalidSetting, match="call the trainer's fit first"):
        write_report(tmp_path / "r.html", untrained, run.X, run.y)
    with pytest.raises(mlp.InvalidInput, match=r"missing.r\.html: cannot be written"):
        run.report(tmp_path / "missing" / "r.html")
    with pytest.raises(mlp.InvalidSetting, match="outputs must hold 2 names, not 1"):
        two_outputs().report(tmp_path / "r.html", outputs=["a"])
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_replaced_as_a_whole(run, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    run.report(path)
    before = path.read_bytes()
    monkeypatch.setattr("mlp.report.write.page", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.report(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
