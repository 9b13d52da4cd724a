"""The page: from plain data about a run to HTML text that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from mlp.callbacks.norms import LayerNorms
from mlp.report.classification import Classification, classification_sections
from mlp.report.markup import Child, Markup, element, joined, table
from mlp.report.regression import Regression, regression_sections
from mlp.report.training import curve_sections, norm_sections

# Nothing may be fetched and nothing run, whatever the page holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Fact:
    """A number of the headline: what it is, its text, and a remark under it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that a page shows, as plain data.

    Attributes:
        title: of the page, as the data's name.
        subtitle: one line under it, as the network in short.
        facts: the headline numbers.
        history: as `Trainer.history`.
        best_epoch: whose weights were kept, from 1; None where those are of the last.
        score: what the history's score is: accuracy or R².
        rows: which rows `outcome` is about, as in "the 360 validation rows".
        outcome: their statistics.
        norms: of the layers, in the order of the epochs; empty for none.
        layers: header and rows of the table of the network's layers.
        details: title -> name -> value, tables at the end.
        command: the line to repeat the run with, or None.
        written: when, as text.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact]
    history: dict[str, list[float]]
    best_epoch: int | None
    score: str
    rows: str
    outcome: Classification | Regression
    norms: Sequence[LayerNorms]
    layers: tuple[Sequence[str], Sequence[Sequence[str]]]
    details: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    command: str | None = None
    written: str = ""


def page(report: Report) -> str:
    """The whole page, one self-contained HTML document."""
    style = files("mlp.report").joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{report.title} – training report"),
        element("style", Markup(style)),
    )
    body = element("body", element("main", _header(report), _sections(report), _footer(report)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(report: Report) -> Markup:
    tiles = [
        element(
            "div",
            element("dt", fact.label),
            element("dd", fact.value, element("small", fact.note) if fact.note else None),
        )
        for fact in report.facts
    ]
    return joined(
        element(
            "header",
            element("p", "Training report", class_="kind"),
            element("h1", report.title),
            element("p", report.subtitle, class_="subtitle"),
        ),
        element("dl", tiles, class_="tiles"),
    )


def _sections(report: Report) -> Markup:
    classes = isinstance(report.outcome, Classification)
    outcome = (
        classification_sections(report.outcome)
        if isinstance(report.outcome, Classification)
        else regression_sections(report.outcome)
    )
    sections = [
        _section("Training", curve_sections(report.history, report.score, report.best_epoch)),
        _section(f"{'Classes' if classes else 'Values'} of {report.rows}", outcome),
    ]
    if report.norms:
        sections.append(_section("Layers over time", norm_sections(report.norms)))
    return joined(sections, _section("The run", _run(report)))


def _section(title: str, cards: Child) -> Markup:
    return element("section", element("h2", title), element("div", cards, class_="cards"))


def _run(report: Report) -> Markup:
    header, rows = report.layers
    network = element(
        "div", element("h3", "Network"),
        table(header, rows, caption="Layers of the network", texts=2, class_="scores"),
        class_="card wide",
    )  # fmt: skip
    command: Child = None
    if report.command:
        command = element(
            "div", element("h3", "To repeat it"),
            element("pre", element("code", report.command), tabindex="0"), class_="card wide",
        )  # fmt: skip
    details = [
        element("div", element("h3", title), _pairs(values), class_="card")
        for title, values in report.details.items()
        if values
    ]
    return joined(command, network, details)


def _pairs(values: Mapping[str, str]) -> Markup:
    rows = [
        element("div", element("dt", name), element("dd", value)) for name, value in values.items()
    ]
    return element("dl", rows, class_="pairs")


def _footer(report: Report) -> Markup:
    return element("footer", element("p", f"Written by fused-mlp{report.written}."))
