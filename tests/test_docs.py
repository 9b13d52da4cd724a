"""The documentation against the code: tables, worked numbers, links, and every Python block."""

import re
from pathlib import Path

import pytest

from bench.markdown import to_markdown
from bench.record import read_record
from mlp.activations import ACTIVATIONS
from mlp.explain import EXAMPLES, explain_example
from mlp.initializers import INITIALIZERS
from mlp.losses import LOSSES
from mlp.optimizers import OPTIMIZERS
from mlp.schedules import SCHEDULES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES_WITH_CODE = [
    "mathematics.md", "worked-examples.md", "data.md", "larger-than-memory.md", "callbacks.md",
    "../README.md",
]  # fmt: skip
PAGES = [*PAGES_WITH_CODE, "performance.md", "interop.md", "from-scikit-learn.md", "cuda.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def section_table(page: str, heading: str) -> dict[str, list[str]]:
    """First cell of each row, without backticks -> the row's cells, of the first table."""
    body = read(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    cells = [
        [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows
    ]
    header = cells[0]
    assert all(len(row) == len(header) for row in cells), f"a ragged table under {heading}"
    return {row[0].strip("`"): row for row in cells[2:]}


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("Activations", ACTIVATIONS),
        ("Losses", LOSSES),
        ("Optimizers", OPTIMIZERS),
        ("Schedules", SCHEDULES),
        ("Initialisers", INITIALIZERS),
    ],
)
def test_tables_list_every_name(heading: str, table: dict[str, object]) -> None:
    assert list(section_table("mathematics.md", heading)) == list(table)


def test_activation_table() -> None:
    rows = section_table("mathematics.md", "Activations")
    for name, row in ACTIVATIONS.items():
        found = [cell.strip("`") for cell in rows[name][1:4]]
        assert found == [row.formula, row.derivative_formula, row.saves]


def test_loss_table() -> None:
    rows = section_table("mathematics.md", "Losses")
    for name, loss in LOSSES.items():
        _, formula, _, matched, source = rows[name]
        assert formula.strip("`") == loss.formula
        assert source == loss.source
        activations = re.findall(r"after `(\w+)`", matched)
        assert activations == list(loss.matched)


def test_auto_initialiser_sentence() -> None:
    sentence = read("mathematics.md").split('`"auto"` takes', 1)[1].split("\n\n", 1)[0]
    family = re.search(r"ReLU family \((.*?)\)", sentence, re.DOTALL)[1]
    named = set(re.findall(r"`(\w+)`", family))
    assert named == {n for n, row in ACTIVATIONS.items() if row.initializer == "he_normal"}
    assert [n for n, r in ACTIVATIONS.items() if r.initializer == "lecun_normal"] == ["selu"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_printed_walks_are_current(name: str) -> None:
    """To mend: paste what `mlp explain --example NAME` prints."""
    block = re.search(
        rf"<!-- mlp explain --example {name} -->\n```text\n(.*?)^```$",
        read("worked-examples.md"), re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    assert block is not None
    assert block[1] == explain_example(name).text()


def test_numbers_in_prose_are_in_a_walk() -> None:
    prose = FENCE.sub("", read("worked-examples.md"))
    numbers = {float(n) for n in re.findall(r"-?\d+\.\d{5,}", prose)}
    assert len(numbers) > 10
    walk = explain_example("sigmoid")
    values = walk.values["notebook"]
    known = {
        round(v, 8)
        for group in ("printed", "correct", "from_left_over_state", "left_over_state")
        for numbers_of in values[group].values()
        for v in numbers_of
    }
    known |= {round(e, 8) for pair in values["errors"].values() for e in pair.values()}
    assert numbers <= known


@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the README's example saves a model
    blocks = [code for language, code in FENCE.findall(read(page)) if language == "python"]
    assert blocks
    names: dict[str, object] = {"__name__": "__docs__"}
    for code in blocks:
        exec(compile(code, page, "exec"), names)


def test_quick_start_is_two_commands_of_one_line() -> None:
    section = read("../README.md").split("\n## Quick start\n", 1)[1].split("\n## ", 1)[0]
    first, second = [code.splitlines() for language, code in FENCE.findall(section) if language]
    assert len(first) == len(second) == 1
    assert "mlp train digits" in first[0]
    assert "pytest" in second[0]
    for name in (*ACTIVATIONS, *LOSSES, *SCHEDULES):
        assert name in read("../README.md")


@pytest.mark.parametrize("page", PAGES)
def test_markdown_is_closed_and_links_lead_somewhere(page: str) -> None:
    text = read(page)
    assert text.count("```") % 2 == 0
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    for paragraph in prose.split("\n\n"):
        assert paragraph.count("$") % 2 == 0, paragraph
    for target in re.findall(r"\]\(([^)#\s]+)\)", prose):
        if "://" not in target:
            assert (DOCS / page).parent.joinpath(target).exists(), target


RESULT = re.compile(r"\(\.\./(bench/results/[\w-]+\.json)\)")


def test_every_figure_of_the_performance_page_is_measured() -> None:
    page = read("performance.md")
    (name,) = set(RESULT.findall(page))
    record = read_record(ROOT / name)
    assert to_markdown(record) in page
    # What is not in the table are numbers of rows, columns and shares, none of them a speed.
    rest = page.replace(to_markdown(record), "")
    assert not re.search(r"\d[\d,.]*\s*(samples|rows|GFLOP|µs|ms|MiB|GB|times|x )", rest)
    assert record.source["dirty"] is False
