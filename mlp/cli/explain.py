"""`mlp explain`: one sample's forward and backward pass with every number shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from mlp.cli.input import data_for, true_values_options
from mlp.cli.output import device_option, json_option, loss_of, precision_option, print_json
from mlp.errors import InvalidInput, InvalidSetting
from mlp.network import load


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.argument("data", required=False)
@click.option("--example", help="A textbook example instead: relu, sigmoid or matrix.")
@click.option("--row", type=int, help="Which row of DATA.  [default: 0]")
@click.option("--learning-rate", type=float, help="Show the update by plain gradient descent, too.")
@true_values_options
@device_option
@precision_option
@json_option
def explain(
    model: Path | None,
    data: str | None,
    example: str | None,
    row: int | None,
    learning_rate: float | None,
    target: tuple[str, ...],
    separator: str | None,
    encoding: str,
    device: str,
    precision: str | None,
    as_json: bool,
) -> None:
    """Show how MODEL computes one row of DATA, and every gradient that follows from its target.

    DATA is by default the bundled data set that the model was trained on. With --example, the
    network, the row and the rate are those of a small textbook example.
    """
    from mlp.explain import explain_example, explain_row

    if (model is None) == (example is None):
        raise InvalidSetting("name either a MODEL file or an --example: relu, sigmoid or matrix")
    if example is not None and (row, learning_rate, precision) != (None, None, None):
        raise InvalidSetting(
            "--row, --learning-rate and --precision go with a MODEL; an --example has its own"
        )
    row = row or 0
    if example is not None:
        walk = explain_example(example, device=device)
    elif model is not None:
        network = load(model, device, precision=precision)
        found = data_for(
            network, model, data, need_target=True, target=target, separator=separator,
            encoding=encoding, quiet=as_json,
        )  # fmt: skip
        if not 0 <= row < len(found.X):
            raise InvalidInput(
                f"{found.name} has rows 0 to {len(found.X) - 1}; there is no row {row}"
            )
        loss = loss_of(network, model)
        walk = explain_row(network, found.X, found.y, loss, row, learning_rate=learning_rate)
    if as_json:
        print_json(walk.to_json())
    else:
        click.echo(walk.text(min(shutil.get_terminal_size().columns, 100)), nl=False)
