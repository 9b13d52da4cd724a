"""What a network consists of, layer by layer, as a text table and as HTML for notebooks."""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlp.spec import NetworkSpec

if TYPE_CHECKING:
    from mlp.network import Network

COLUMNS = ("layer", "activation", "W", "parameters", "FLOPs", "memory", "dropout")
TO_THE_LEFT = 2  # so many columns are text
KIBI, BYTES = 1024, ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class LayerSummary:
    """One layer in numbers.

    Attributes:
        inputs, outputs: I and O.
        activation, dropout: as in `mlp.Dense`.
        parameters: I O weights and O biases.
        flops: floating-point operations of the forward pass of one row, 2 I O + 2 O: a product and
            a sum for each weight, a sum for each bias, and one for each activation, whatever it is.
            The benchmarks count the same.
    """

    inputs: int
    outputs: int
    activation: str
    dropout: float
    parameters: int
    flops: int


def layer_summaries(spec: NetworkSpec) -> list[LayerSummary]:
    """One per layer, first to last."""
    return [
        LayerSummary(i, o, layer.activation, layer.dropout, (i + 1) * o, 2 * i * o + 2 * o)
        for layer, (i, o) in zip(spec.layers, pairwise(spec.widths), strict=True)
    ]


def in_bytes(count: int) -> str:
    """A number of bytes for people: 512 B, 1.5 KiB."""
    size, unit = float(count), 0
    while size >= KIBI and unit < len(BYTES) - 1:
        size, unit = size / KIBI, unit + 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {BYTES[unit]}"


def layer_cells(spec: NetworkSpec, itemsize: int) -> list[list[str]]:
    """A row of text per layer, and one with the sums."""
    layers = layer_summaries(spec)
    rows = [
        [
            str(number),
            layer.activation,
            f"{layer.inputs} × {layer.outputs}",
            f"{layer.parameters:,}",
            f"{layer.flops:,}",
            in_bytes(layer.parameters * itemsize),
            f"{layer.dropout:g}" if layer.dropout else "",
        ]
        for number, layer in enumerate(layers)
    ]
    flops = sum(layer.flops for layer in layers)
    parameters = spec.parameter_count
    total = ["total", "", "", f"{parameters:,}", f"{flops:,}", in_bytes(parameters * itemsize), ""]
    return [*rows, total]


def network_text(network: Network) -> str:
    """A table with a line per layer and one of sums; what `Network.summary` returns."""
    rows = [list(COLUMNS), *layer_cells(network.spec, network.dtype.itemsize)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < TO_THE_LEFT else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    head = [f"Network: {network.precision} on {network.device}", lines[0], rule]
    return "\n".join([*head, *lines[1:-1], rule, lines[-1]])


# Colours come from the page that it is shown in, so that it is readable in light and dark ones.
STYLE = (
    ".mlp-network{border-collapse:collapse;font-variant-numeric:tabular-nums;color:inherit}"
    ".mlp-network caption{text-align:left;padding:.3em .6em;font-weight:600}"
    ".mlp-network th,.mlp-network td{padding:.2em .6em;text-align:right;background:none;"
    "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}"
    ".mlp-network th:nth-child(-n+2),.mlp-network td:nth-child(-n+2){text-align:left}"
    ".mlp-network tfoot td,.mlp-network tfoot th{font-weight:600;border-bottom:0}"
)


def network_html(network: Network) -> str:
    """The same table as HTML, self-contained, without scripts; what notebooks show."""
    where = f"{network.precision} on {network.device}"
    return layers_html(network.spec, network.dtype.itemsize, where)


def layers_html(spec: NetworkSpec, itemsize: int, where: str) -> str:
    """The HTML table of a network that is known as data alone."""

    def row(cells: list[str]) -> str:
        first = f'<th scope="row">{html.escape(cells[0])}</th>'
        return "<tr>" + first + "".join(f"<td>{html.escape(c)}</td>" for c in cells[1:]) + "</tr>"

    *layers, total = layer_cells(spec, itemsize)
    head = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    caption = f"Network: {spec.inputs} inputs, {where}"
    return (
        f'<style>{STYLE}</style><table class="mlp-network">'
        f"<caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(row, layers))}</tbody>"
        f"<tfoot>{row(total)}</tfoot></table>"
    )
