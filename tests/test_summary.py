"""What a network says of itself: numbers by hand, the benchmarks' rules, and safe HTML."""

from html.parser import HTMLParser

import pytest

import mlp
from bench.floors import linear_forward
from mlp.summary import in_bytes, layer_summaries, network_html


def digits(precision: str = "float32") -> mlp.Network:
    layers = [mlp.Dense(256, "relu", dropout=0.1), mlp.Dense(10, "softmax")]
    return mlp.Network(64, layers, device="numpy", precision=precision)


def test_the_table_of_a_network_by_hand():
    assert digits().summary().splitlines() == [
        "Network: float32 on numpy",
        "layer  activation         W  parameters   FLOPs    memory  dropout",
        "──────────────────────────────────────────────────────────────────",
        "0      relu        64 × 256      16,640  33,280  65.0 KiB      0.1",
        "1      softmax     256 × 10       2,570   5,140  10.0 KiB",
        "──────────────────────────────────────────────────────────────────",
        "total                            19,210  38,420  75.0 KiB",
    ]


def test_memory_is_that_of_the_parameters_as_they_are_stored():
    assert "150.1 KiB" in digits("float64").summary()
    net = digits("float64")
    assert sum(a.nbytes for a in (*net.weights, *net.biases)) == 19_210 * 8 == 153_680


def test_flops_are_counted_as_the_benchmarks_do():
    spec = mlp.NetworkSpec(7, (mlp.Dense(5, "tanh"), mlp.Dense(3), mlp.Dense(1, "sigmoid")))
    for layer in layer_summaries(spec):
        assert layer.flops == linear_forward(1, layer.inputs, layer.outputs, 4, 4).flops
    assert sum(layer.parameters for layer in layer_summaries(spec)) == spec.parameter_count


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (3 * 2**50, "3072.0 TiB")],
)
def test_bytes_for_people(count, text):
    assert in_bytes(count) == text


class Cells(HTMLParser):
    """The text of every cell of a table, row by row; refuses tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "img")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_the_html_table_says_the_same():
    net, found = digits(), Cells()
    found.feed(net._repr_html_())
    assert found.open == []
    assert net._repr_html_() == network_html(net)
    text = [line.split() for line in net.summary().splitlines()[1:] if "─" not in line]
    assert [" ".join(row).split() for row in found.rows] == text


def test_the_short_repr_stays():
    expected = "Network(64 → 256 relu → 10 softmax; 19,210 parameters, float32 on numpy)"
    assert repr(digits()) == expected
