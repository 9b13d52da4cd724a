"""A page read back: its elements as a tree, tables as rows of text, charts as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"meta", "link", "br"}


class Node:
    """An element with its attributes and its children, which are nodes and text."""

    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Node | str] = []

    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text() for c in self.children)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag: str, class_: str = "") -> list[Node]:
        wanted = set(class_.split())
        return [
            node
            for node in self.walk()
            if node.tag == tag and wanted <= set((node.attributes.get("class") or "").split())
        ]

    def one(self, tag: str, class_: str = "") -> Node:
        (node,) = self.all(tag, class_)
        return node

    def titled(self, title: str) -> Node:
        """The innermost element that has this text as its heading or caption."""
        found = [
            node
            for node in self.walk()
            for child in node.children
            if isinstance(child, Node)
            and child.tag in ("h2", "h3", "figcaption")
            and child.text() == title
        ]
        assert len(found) == 1, f"{title}: {len(found)} of {[n.text() for n in self.all('h3')]}"
        return found[0]

    def table(self, caption: str) -> list[list[str]]:
        """The rows of the body of a table, as text."""
        (table,) = [
            t for t in self.all("table") if any(c.text() == caption for c in t.all("caption"))
        ]
        return [
            [cell.text() for cell in row.children if isinstance(cell, Node)]
            for row in table.one("tbody").all("tr")
        ]

    def pairs(self) -> dict[str, str]:
        """Name -> value of a list of terms."""
        values = [dd.text() for dd in self.all("dd")]
        return dict(zip([dt.text() for dt in self.all("dt")], values, strict=True))


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("document", {})]

    def handle_starttag(self, tag, attributes):
        node = Node(tag, dict(attributes))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read(html: str) -> Node:
    """The tree of a page in which every element is closed."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert len(builder.open) == 1, f"never closed: {[n.tag for n in builder.open[1:]]}"
    return builder.open[0]


def points(path: Node) -> list[tuple[float, float]]:
    """The points of a drawn line, in the picture's coordinates."""
    found = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.attributes["d"])
    return [(float(x), float(y)) for x, y in found]


def ticks(svg: Node) -> tuple[dict[str, float], dict[str, float]]:
    """Label -> position, of the ticks across and of those upwards."""
    across, up = {}, {}
    for text in svg.all("text"):
        kind = text.attributes.get("class")
        if kind == "y":
            up[text.text()] = float(text.attributes["y"])
        elif kind is None and "text-anchor" not in text.attributes:
            across[text.text()] = float(text.attributes["x"])
    return across, up
