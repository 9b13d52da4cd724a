"""HTML and SVG put together so that text is always escaped: only `Markup` goes in as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any, TypeAlias

# Elements that have no end tag in HTML.
VOID = {"meta", "link", "br"}


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(str(child))
    return "".join(map(_text, child))


def element(tag: str, /, *children: Child, **attributes: Any) -> Markup:
    """An element; text and attribute values are escaped, children that are Markup are not.

    In an attribute's name `_` stands for `-`, and one at the end is dropped (`class_`). An
    attribute that is None is left out; one that is True has no value.

    >>> element("td", "a < b", class_="wide")
    '<td class="wide">a &lt; b</td>'
    """
    parts = [tag]
    for key, value in attributes.items():
        label = key.removesuffix("_").replace("_", "-")
        if value is True:
            parts.append(label)
        elif value is not None:
            parts.append(f'{label}="{html.escape(str(value))}"')
    end = "" if tag in VOID else f"{_text(children)}</{tag}>"
    return Markup(f"<{' '.join(parts)}>{end}")


def joined(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup(_text(children))


def table(
    header: Iterable[Child],
    rows: Iterable[Iterable[Child]],
    *,
    caption: str | None = None,
    texts: int = 1,
    class_: str | None = None,
) -> Markup:
    """A table in a frame that scrolls sideways where it is too wide; the first `texts` columns of
    it are text, to the left, and the first of all names the row.
    """

    def cell(name: str, number: int, content: Child, scope: str | None = None) -> Markup:
        return element(name, content, scope=scope, class_="text" if number < texts else None)

    head = element("tr", [cell("th", i, content, "col") for i, content in enumerate(header)])
    body = [
        element(
            "tr",
            [
                cell("th", i, content, "row") if i == 0 else cell("td", i, content)
                for i, content in enumerate(row)
            ],
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", caption) if caption else None,
        element("thead", head),
        element("tbody", body),
        class_=class_,
    )
    # A frame that scrolls must be reachable by keyboard.
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(summary: str, *children: Child) -> Markup:
    """Children that are shown when one clicks on the summary."""
    return element("details", element("summary", summary), *children)
