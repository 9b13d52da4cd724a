"""Escaping: text never becomes an element."""

from hypothesis import given
from hypothesis import strategies as st

from mlp.report.markup import Markup, element, joined, table
from tests.report.reading import read

# Without NUL and carriage returns, which HTML does not keep.
texts = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(texts, texts)
def test_text_and_attributes_come_back_as_they_were(text, attribute):
    tree = read(element("p", text, title=attribute))
    paragraph = tree.one("p")
    assert paragraph.text() == text
    assert paragraph.attributes == {"title": attribute}
    assert [node.tag for node in tree.walk()] == ["document", "p"]


def test_what_is_markup_already_stays():
    inner = element("b", "1 < 2")
    assert element("p", [inner, " & ", None, 3]) == "<p><b>1 &lt; 2</b> &amp; 3</p>"
    assert joined("<", Markup("<br>")) == "&lt;<br>"


def test_attributes():
    assert element("meta", http_equiv="a", class_="b", left=None, on=True) == (
        '<meta http-equiv="a" class="b" on>'
    )


def test_a_table_reads_back():
    tree = read(table(["<a>", "b"], [["x", 1], ["y", 2.5]], caption="t"))
    assert tree.table("t") == [["x", "1"], ["y", "2.5"]]
    assert [th.text() for th in tree.one("thead").all("th")] == ["<a>", "b"]
