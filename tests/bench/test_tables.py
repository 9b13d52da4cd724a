"""Tables, Markdown and picture of a record, with peers that are absent or void."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.cases import CASES
from bench.compare import Spread
from bench.markdown import to_markdown
from bench.plot import draw
from bench.record import CaseResult, PeerResult
from bench.tables import number, print_record, ratio
from tests.bench.records import record, result, three_peers


def text(*cases: CaseResult, width: int = 80) -> str:
    out = io.StringIO()
    print_record(record(*cases), Console(file=out, width=width))
    return out.getvalue()


def cells(shown: str, peer: str) -> list[str]:
    (line,) = (line for line in shown.splitlines() if line.split()[:1] == [peer])
    return line.split()[1:]


def test_table() -> None:
    shown = text(three_peers())
    assert "small: 3-4-2, batch 4, 8 rows, 2 epochs" in shown
    assert cells(shown, "ours") == ["200", "1.92e-05", "0", "-", "100", "0.8", "0.5000"]
    assert cells(shown, "slow")[-5:] == ["3.00", "(1.00–4.00)", "200", "3.0", "0.5200"]
    assert cells(shown, "missing") == ["-"] * 7
    assert "missing: missing is not installed" in shown
    assert "wrong: void: its loss 2.3 is not the others' 0.52" in shown
    assert "ours: 3.00 (1.00–4.00) times the best peer, slow" in shown
    assert "gemm, 2048 cubed, float32: numpy 100 GFLOP/s, torch 200 GFLOP/s" in shown
    assert "not an idle machine" not in shown


def test_a_busy_machine_is_named() -> None:
    busy = replace(three_peers().peers["ours"], others=(1.0, 1.25, 1.5))
    assert "used up to 1.25 cores: not an idle machine" in text(result(ours=busy))


def test_eighty_columns_are_enough() -> None:
    fast = PeerResult((12345678.0,) * 3, (0.1,) * 3, (0.0,) * 3, 12345.0, 10.0, 10.0)
    slow = replace(fast, rates=(12345678.0 / 9.4,) * 3)
    shown = text(result(**{"ours": fast, "torch-compile": slow}))
    assert "…" not in shown
    assert "9.40 (9.40–9.40)" in shown


def test_latency_of_single_rows() -> None:
    row = PeerResult((20000.0,), (2.3,), (0.0,), 10.0, 1.0, 1.0)
    shown = text(CaseResult(CASES["predict-1"], {"ours": row}))
    assert "µs a row" in shown
    assert cells(shown, "ours")[0] == "50.0"


def test_markdown() -> None:
    lines = to_markdown(
        record(three_peers(), result(ours=PeerResult(absent="broken")))
    ).splitlines()
    assert lines[0] == "| case |  | ours | missing | slow | wrong | ours / best peer |"
    assert lines[2].split(" | ")[2:] == [
        "200", "-", "100", "(9,000,000)", "**3.00 (1.00–4.00)** slow |",
    ]  # fmt: skip
    assert lines[3].split(" | ")[2:] == ["-", "-", "-", "-", "- |"]
    assert {line.count("|") for line in lines[:4]} == {8}
    assert "- small, missing: missing is not installed" in lines
    assert "- small, ours: broken" in lines


def test_picture() -> None:
    png = draw(record(three_peers()))
    assert png is not None
    assert png.startswith(b"\x89PNG")
    assert png == draw(record(three_peers()))
    assert draw(record(result(ours=three_peers().peers["ours"]))) is None
    assert draw(record()) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (1234567.0, "1,234,567"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"),
     (0.12345, "0.123")],
)  # fmt: skip
def test_numbers(value, shown) -> None:
    assert number(value) == shown


def test_ratios() -> None:
    assert ratio(Spread(344.7, 300.2, 1400.0)) == "345 (300–1,400)"
    assert ratio(Spread(18.75, 1.98, 35.5)) == "18.8 (2.0–35.5)"
