"""`mlp export`: a trained model as a file for other libraries."""

from __future__ import annotations

from pathlib import Path

import click

from mlp.cli.output import (
    json_option,
    overwrite_option,
    print_json,
    require_other,
    say,
    write_result,
)
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidSetting
from mlp.network import Network, load


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--onnx", type=click.Path(path_type=Path), help="Write an ONNX file: raw rows in, answers out."
)
@click.option(
    "--torch",
    type=click.Path(path_type=Path),
    help="Write the state_dict of a PyTorch nn.Sequential, as .safetensors.",
)
@click.option(
    "--precision",
    help="float32 or float64: of the numbers in the file. [default: the model's]",
)
@overwrite_option
@json_option
def export(
    model: Path,
    onnx: Path | None,
    torch: Path | None,
    precision: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write MODEL as an ONNX file, or for PyTorch, or both.

    `mlp verify` then shows how far the file is from the model. The ONNX file has preprocessing,
    probabilities and labels inside. The nn.Sequential that takes the PyTorch file is printed.
    """
    from mlp.interop.onnx import onnx_bytes
    from mlp.interop.torch import torch_bytes

    if onnx is None and torch is None:
        raise InvalidSetting("name what to write: --onnx FILE, --torch FILE.safetensors, or both")
    if precision not in (None, "float32", "float64"):
        raise InvalidSetting(f"--precision is float32 or float64 here, not {precision!r}")
    for path in (onnx, torch):
        require_other(path, model)
    network = load(model, "numpy", precision=precision)
    sequential = None
    if onnx is not None:
        write_result(onnx, onnx_bytes(network), overwrite=overwrite)
        say(f"{onnx} written; compare with: mlp verify {model} --onnx {onnx}")
    if torch is not None:
        content, sequential = torch_bytes(network, torch)
        write_result(torch, content, overwrite=overwrite)
        say(f"{torch} written; compare with: mlp verify {model} --torch {torch}")
        for remark in _remarks(network):
            say(remark)
    if as_json:
        files = {"onnx": onnx, "torch": torch}
        print_json(
            {name: None if path is None else str(path) for name, path in files.items()}
            | {"model": str(model), "sequential": sequential}
        )
    elif sequential is not None:
        click.echo(sequential)


def _remarks(network: Network) -> list[str]:
    """What an nn.Sequential does otherwise than the model."""
    from mlp.interop.answers import counts

    remarks = []
    if isinstance(network.preprocessing, TablePreprocessor):
        remarks.append(
            f"the module takes the {network.spec.inputs} features that the model makes of a "
            "table: network.preprocessing.transform(table)"
        )
    if counts(network):
        remarks.append("the module's outputs are logarithms of counts: take their exp")
    return remarks
