"""docs/performance-gpu.md: its tables are the code's, its figures those of a committed result."""

import re
from pathlib import Path

from bench.cases import GPU_CASES
from bench.cli import record_beside
from bench.markdown import to_markdown
from bench.peers import GPU_PEERS
from bench.record import read_record

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "performance-gpu.md").read_text(encoding="utf-8")
RESULT = re.compile(r"\(\.\./(bench/results/[\w-]+-gpu[\w-]*\.json)\)")
SPEED = re.compile(r"\d[\d,.]*\s*(samples|GFLOP|TFLOP|µs|ns|GB/s|times the|x the)")


def section(heading: str) -> str:
    return TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_peers_are_all_there() -> None:
    assert [row[0].strip("`") for row in rows("Peers")] == list(GPU_PEERS)


def test_cases_are_as_they_are() -> None:
    for name, shape, batch, count, _ in rows("Cases")[:-1]:
        case = GPU_CASES[name.strip("`")]
        assert shape == "-".join(map(str, case.widths))
        assert (batch, count) == (f"{case.batch:,}", f"{case.rows:,}")
    for name in re.findall(r"`(predict-\w+)`", rows("Cases")[-1][0]):
        assert GPU_CASES[name].widths == GPU_CASES[name.removeprefix("predict-")].widths


def test_figures_are_measured_or_there_are_none() -> None:
    results = set(RESULT.findall(TEXT))
    rest = TEXT.replace(section("Targets"), "")
    for name in results:
        record = read_record(ROOT / name)
        shown = to_markdown(record, record_beside(record, ROOT / name))
        assert shown in TEXT
        assert record.source["dirty"] is False
        rest = rest.replace(shown, "")
    assert not SPEED.search(rest)
    if not results:
        assert "There is no result yet" in TEXT
        assert {row[-1] for row in rows("Targets")} == {"not measured"}


def test_links_lead_somewhere() -> None:
    assert TEXT.count("```") % 2 == 0
    for page in (ROOT / "docs" / "performance.md", ROOT / "bench" / "README.md"):
        assert "performance-gpu.md" in page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
