"""Tables, Markdown and picture of a record, with peers that are absent or void."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.cases import CASES
from bench.compare import Spread
from bench.markdown import to_markdown
from bench.plot import draw
from bench.record import CaseResult, PeerResult, Record
from bench.tables import number, print_record, ratio
from tests.bench.records import (
    CASE,
    PRODUCT,
    UPDATE,
    gpu_record,
    on_a_gpu,
    record,
    result,
    three_peers,
)


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


# One step of 4 rows of `records.CASE`, 3-4-2: 384 FLOPs; rows and labels of 80 bytes, and 26
# parameters with two moments, read and written, of 624. At the ceilings 384 µs and 352 µs.
FLOOR = "floor: 384 µs (arithmetic 384, memory 352); operation by operation"


def gpu_text(beside: Record | None = None, width: int = 80) -> str:
    out = io.StringIO()
    shown = replace(gpu_record(on_a_gpu()), kernels=[])
    print_record(shown, Console(file=out, width=width), beside)
    return out.getvalue()


def test_table_of_a_gpu() -> None:
    shown = gpu_text(width=200)
    # 4 rows at 200 a second: 20 ms; at 400 by the GPU's clock; the floor is 384 µs.
    share = 200 * 96 / 1e6
    assert cells(shown, "ours") == [
        "20,000", f"{100 * share:.0f}", f"{20000 / 384:.1f}", "-", "0.8", "0.5000",
    ]  # fmt: skip
    assert cells(shown, "torch-graph")[0] == "40,000"
    assert "by the GPU's clock, µs a step: ours 10,000\n" in shown
    assert FLOOR in shown
    assert "ours: 3.00 (1.00–4.00) times the best peer, torch-graph" in shown
    assert "A GPU, compute capability 9.0, 132 multiprocessors, 80 GiB" in shown
    assert "driver 580.1, CUDA 13.0, 1980 MHz of at most 1980 MHz; on A Processor" in shown
    assert "gemm, 8192 cubed, float32: torch 0 GFLOP/s" in shown
    assert "copy of 1,024 MiB, read and written: torch 0 GB/s, cupy 0 GB/s" in shown
    assert "Rows named cpu" not in shown


def test_rows_of_a_processor_beside_a_gpu() -> None:
    shown = gpu_text(record(three_peers()), width=200)
    lines = [line.split() for line in shown.splitlines() if ", cpu" in line]
    # The best of the others there is "slow"; void and absent rows are left out.
    assert [line[:3] for line in lines] == [["ours,", "cpu", "20,000"], ["slow,", "cpu", "40,000"]]
    assert "Rows named cpu: A Processor, 2 cores, 2026-11-21" in shown
    other = replace(three_peers(), case=replace(CASE, batch=2))
    assert "ours, cpu" not in gpu_text(record(other))


def test_operations_alone() -> None:
    out = io.StringIO()
    print_record(gpu_record(), Console(file=out, width=200))
    shown = out.getvalue()
    (line,) = (line for line in shown.splitlines() if line.startswith(f" {PRODUCT.title}"))
    # Ours 20 ms, the library 20 ms; repeat by repeat 1.5, 2 and 1. Its FLOPs: 2 x 10 x 20 x 30 and
    # two for each of 10 x 30 at 1e6 a second; its 3,320 and 1,200 bytes at 2e6 a second take less.
    floor = (12000 + 600) / 1e6
    assert line.split(PRODUCT.title)[1].split() == [
        "20,000", "20,000", "1.50", "(1.00–2.00)", f"{12600 / 0.02 / 1e12:.3g}", "-",
        f"{0.02 / floor:.2f}",
    ]  # fmt: skip
    (line, _) = (line for line in shown.splitlines() if line.startswith(f" {UPDATE.title}"))
    # 28 bytes for each of 1000 parameters at 2e6 a second; arithmetic takes 17 ms at 1e6 a second.
    assert line.split(UPDATE.title)[1].split() == ["14,000", "-", "-", "-", "0.002", "0.824"]
    assert "adam 1000, float32: ours: out of luck" in shown


def test_eighty_columns_are_enough_for_a_gpu() -> None:
    fast = PeerResult((12345678.0,) * 3, (0.1,) * 3, (0.0,) * 3, 1.0, 10.0, 10.0)
    slow = replace(fast, rates=(12345678.0 / 123.4,) * 3)
    case = CaseResult(CASES["large"], {"ours": fast, "torch-compile": slow})
    ceilings = {"peaks": {"float32": {"torch": 60e3}}, "copies": {"torch": 3e3}}
    out = io.StringIO()
    shown = replace(gpu_record(case), kernels=[], **ceilings)
    print_record(shown, Console(file=out, width=80), record(case))
    assert "…" not in out.getvalue()
    assert "123 (123–123)" in out.getvalue()
    assert "torch-compile, cpu" in out.getvalue()


def test_markdown_of_a_gpu() -> None:
    lines = to_markdown(gpu_record(on_a_gpu()), record(three_peers())).splitlines()
    assert lines[0] == (
        "| case |  | ours | torch-graph | ours / best peer | ours % gemm | ours × floor | "
        "on a processor |"
    )
    assert lines[2].split(" | ")[1:] == [
        "µs a step", "20,000", "40,000", "**3.00 (1.00–4.00)** torch-graph", "2", "52.1",
        "ours 20,000, slow 40,000 |",
    ]  # fmt: skip
    (start,) = (i for i, line in enumerate(lines) if line.startswith("| operation alone, µs |"))
    assert lines[start + 2].startswith(f"| {PRODUCT.title} | float32 | 20,000 | 20,000 | 1.50 (")
    assert {line.count("|") for line in lines[start : start + 5]} == {9}
    alone = to_markdown(gpu_record()).splitlines()
    assert alone[1].startswith("| operation alone, µs |")


def test_a_gpu_whose_ceilings_are_unknown() -> None:
    out = io.StringIO()
    unknown = replace(gpu_record(on_a_gpu()), kernels=[], peaks={}, copies={})
    print_record(unknown, Console(file=out, width=200))
    assert "floor:" not in out.getvalue()
    assert cells(out.getvalue(), "ours")[:4] == ["20,000", "-", "-", "-"]


def test_picture_of_a_gpu() -> None:
    png = draw(gpu_record(on_a_gpu()))
    assert png is not None
    assert png != draw(record(on_a_gpu()))
    alone = draw(gpu_record())  # operations, and no case
    assert alone is not None
    assert alone not in (png, draw(replace(gpu_record(), kernels=[gpu_record().kernels[0]])))
    assert draw(replace(gpu_record(), kernels=[])) is None


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
