"""The page in a real browser: a headless Chromium, at desktop and phone width, light and dark."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mlp.report.classification import classification
from mlp.report.page import Report, page
from tests.report.browser import CHROMIUM, Browser
from tests.report.runs import labels, rows, three_classes, train, two_outputs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to show the report in")

DESKTOP, PHONE = 1280, 390
LONG = "a class with quite a long name, as they come from real tables_" * 3


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of several kinds of networks, with long names in them."""
    folder = tmp_path_factory.mktemp("pages")
    names = [f"{LONG}{k}" for k in range(3)]
    X = rows(60, 0)
    many = train(rows(600, 0), np.arange(600) % 30, 30, "softmax", "cross_entropy")
    yes_no = train(X, (X[:, :2] > 0).astype(float), 2, "sigmoid", "binary_cross_entropy")
    words = train(
        X, np.array(names)[labels(X, 3)], 3, "softmax", "cross_entropy", classes=tuple(names)
    )
    twelve = train(rows(600, 0), np.arange(600) % 12, 12, "softmax", "cross_entropy")
    runs = {
        "classes": three_classes(epochs=30), "values": two_outputs(), "many": many,
        "yes_no": yes_no, "words": words, "twelve": twelve,
    }  # fmt: skip
    for name, run in runs.items():
        command = f"mlp train {'x' * 300}.csv --report report.html"
        details = {"Data": {"columns": ", ".join(names), "x" * 80: "y" * 200}}
        run.report(folder / f"{name}.html", title=LONG, command=command, details=details)
    (folder / "shades.html").write_text(page_of_all_shades())
    return {name: folder / f"{name}.html" for name in (*runs, "shades")}


def page_of_all_shades() -> str:
    """A page with a confusion matrix that has every share of a class, right and wrong."""
    truth = np.repeat(np.arange(20), 20)
    guess = np.where(np.arange(400) % 20 < truth, truth, (truth + 1) % 20)
    outcome = classification([str(k) for k in range(20)], truth, guess, np.ones(400), None)
    history = {"loss": [1.0], "learning_rate": [0.1]}
    return page(
        Report("shades", "", [], history, None, "accuracy", "the rows", outcome, [], ([], []))
    )


KINDS = ["classes", "values", "many", "yes_no", "words", "twelve", "shades"]


@pytest.mark.parametrize("width", [PHONE, 600, 900, DESKTOP])
def test_nothing_is_wider_than_the_window(browser, pages, width):
    for name in KINDS:
        browser.show(pages[name], width, dark=False)
        assert browser.value("innerWidth") == width
        assert browser.value("document.documentElement.scrollWidth") == width, name
        # Beside the page itself: no card sticks out, and nothing out of its card.
        outside = browser.value(
            """[...document.querySelectorAll('.card')].filter(card => {
                const outer = card.getBoundingClientRect();
                return outer.right > innerWidth + 1 || [...card.children].some(child => {
                    const inner = child.getBoundingClientRect();
                    return inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1;
                });
            }).map(card => card.textContent.slice(0, 40))"""
        )
        assert outside == [], name
    assert browser.errors == []


def test_only_the_page_itself_is_asked_for(browser, pages):
    for path in pages.values():
        browser.show(path, DESKTOP, dark=False)
        assert browser.requests == [path.as_uri()]


def test_the_page_needs_no_scripts(browser, pages):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.show(pages["classes"], DESKTOP, dark=False)
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.value("document.querySelectorAll('svg .line').length") > 0


def luminance(picture: bytes) -> np.ndarray:
    """(H, W) brightness of a PNG, 0 to 1."""
    pixels = imread(io.BytesIO(picture), format="png")[..., :3]
    return pixels @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_light_and_dark_as_they_are_seen(browser, pages, width):
    seen = {}
    for dark in (False, True):
        browser.show(pages["classes"], width, dark=dark)
        picture = luminance(browser.picture())
        assert picture.shape == (900, width)
        seen[dark] = float(np.median(picture))
        # There is something to be seen: text, in the other brightness.
        assert (picture > 0.8).mean() > 0.005
        assert (picture < 0.2).mean() > 0.005
    assert seen[False] > 0.93
    assert seen[True] < 0.15


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser, pages, dark):
    """Contrast of at least 4.5 : 1, as the WCAG's level AA asks of text of this size."""
    for name in ("classes", "values", "shades"):
        browser.show(pages[name], DESKTOP, dark=dark)
        low = browser.value(
            """(() => {
            const canvas = document.createElement('canvas')
                .getContext('2d', {willReadFrequently: true});
            const rgba = text => {
                canvas.clearRect(0, 0, 1, 1);
                canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const bright = c => c.slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = node => {
                for (; node; node = node.parentElement) {
                    const colour = rgba(getComputedStyle(node).backgroundColor);
                    if (colour[3] == 255) return colour;
                }
                return [255, 255, 255, 255];
            };
            const low = [];
            for (const node of document.querySelectorAll('body *')) {
                const own = [...node.childNodes].some(c => c.nodeType == 3 && c.data.trim());
                if (!own || ['title', 'desc'].includes(node.tagName)) continue;
                const style = getComputedStyle(node);
                const ink = rgba(node instanceof SVGElement ? style.fill : style.color);
                const [a, b] = [bright(ink), bright(behind(node))].sort((x, y) => y - x);
                const contrast = (a + 0.05) / (b + 0.05);
                if (contrast < 4.5) low.push([node.textContent.slice(0, 30), contrast]);
            }
            return low;
            })()"""
        )
        assert low == [], name


def test_printed_it_is_dark_on_white(browser, pages):
    browser.show(pages["classes"], DESKTOP, dark=True, media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.body).color") == "rgb(20, 20, 15)"


def test_texts_of_a_chart_do_not_touch(browser, pages):
    """Ticks, labels and marks of every chart, at every width."""
    for name in ("classes", "values"):
        for width in (PHONE, DESKTOP):
            browser.show(pages[name], width, dark=False)
            touching = browser.value(
                """[...document.querySelectorAll('svg')].flatMap(svg => {
                    const texts = [...svg.querySelectorAll('text:not(.end)')]
                        .map(t => [t.textContent, t.getBoundingClientRect()]);
                    return texts.flatMap(([a, p], i) => texts.slice(i + 1)
                        .filter(([b, q]) => p.left < q.right && q.left < p.right
                            && p.top + 2 < q.bottom && q.top + 2 < p.bottom)
                        .map(([b, q]) => a + ' | ' + b));
                })"""
            )
            assert touching == [], (name, width)
