"""`mlp predict`: a trained model on raw rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from mlp.cli.input import data_for, true_values_options
from mlp.cli.output import (
    count,
    device_option,
    json_option,
    overwrite_option,
    precision_option,
    print_json,
    require_other,
    say,
    short,
    threads_option,
    write_result,
)
from mlp.cli.predict_parts import is_large, predict_in_parts
from mlp.cli.predictions import (
    Columns,
    as_columns,
    probabilities_of,
    require_kind,
    require_probabilities,
    to_bytes,
    to_csv,
)
from mlp.data.arrays import as_rows
from mlp.data.arrow import quoted
from mlp.data.dataset import Dataset
from mlp.data.placing import require_finite_features
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput
from mlp.evaluation import Evaluator
from mlp.losses import get_loss
from mlp.network import Network, load


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write them here instead of CSV to stdout: .csv, .parquet, .feather, .arrow or .npy.",
)
@click.option("--probabilities", is_flag=True, help="Add a column with each class's probability.")
@true_values_options
@overwrite_option
@device_option
@precision_option
@threads_option
@json_option
def predict(
    model: Path,
    data: str | None,
    out: Path | None,
    probabilities: bool,
    target: tuple[str, ...],
    separator: str | None,
    encoding: str,
    overwrite: bool,
    device: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict with MODEL for the raw rows of DATA, one line of CSV per row.

    DATA is a table, a .npz or .npy file with X, or a bundled data set; by default the bundled one
    that the model was trained on. A table's columns are found by their names, and others are
    ignored. If it has the target too, the score against it is reported.
    """
    network = load(model, device, threads, precision)
    if out is not None:
        require_kind(out)
        require_other(out, model, data, *target)
    if probabilities:
        require_probabilities(network)
    if data is not None and not as_json and is_large(network, Path(data), out):
        targets = target or tuple(network.metadata.get("target") or ())
        rows, score, notes = predict_in_parts(
            network, Path(data), out, targets, probabilities=probabilities, overwrite=overwrite
        )
        about = "" if score is None else _about(network, score, rows, data)
        _say_all(rows, out, [*notes, about])
        return
    found = data_for(
        network, model, data, need_target=False, target=target, separator=separator,
        encoding=encoding, quiet=as_json,
    )  # fmt: skip
    network, found, notes = _on_features(network, found)
    predictions = network.predict(found.X)
    shares = probabilities_of(network, network.forward(found.X)) if probabilities else None
    columns = as_columns(network, predictions, shares)
    if out is not None:
        write_result(out, to_bytes(out, columns), overwrite=overwrite)
    score, about = _score(network, found)
    if as_json:
        answer = {
            "model": str(model),
            "data": found.name,
            "rows": len(predictions),
            "score": score,
            "about_score": about,
            "notes": notes,
            "out": None if out is None else str(out),
            "predictions": predictions.tolist(),
        }
        if shares is not None:
            answer["probabilities"] = _named(columns)
        print_json(answer)
        return
    if out is None:
        click.echo(to_csv(columns), nl=False)
    _say_all(len(predictions), out, [*notes, about])


def _say_all(rows: int, out: Path | None, notes: list[str]) -> None:
    if out is not None:
        say(f"{count(rows, 'prediction')} written to {out}")
    for note in filter(None, notes):
        say(note)


def _named(columns: Columns) -> dict[str, list[float]]:
    """Class -> its probabilities, of the columns of a file."""
    prefix = "probability_"
    named = {name.removeprefix(prefix): c for name, c in columns.items() if name.startswith(prefix)}
    return {name: values.tolist() for name, values in named.items()}


def _on_features(network: Network, data: Dataset) -> tuple[Network, Dataset, list[str]]:
    """The network and the rows as its first layer takes them, and what there is to say of them.

    A table is encoded once, since predictions, probabilities and the score all ask for it.
    """
    columns = network.preprocessing
    if not isinstance(columns, TablePreprocessor):
        rows = as_rows(data.X, network.spec.inputs, f"{data.name}: X")
        return network, replace(data, X=rows), []
    features, unseen = columns.encode(data.X, network.dtype, name=data.name)
    require_finite_features(features, columns, data.name)
    notes = [
        f"{data.name}: {count(number, 'value')} of column '{name}' did not occur in training"
        for name, number in unseen.items()
    ]
    unused = columns.unused(data.X)
    if unused:
        notes.append(f"{data.name}: not used: {quoted(unused)}")
    network.preprocessing = None
    return network, replace(data, X=features), notes


def _score(network: Network, data: Dataset) -> tuple[float | None, str]:
    """The score against the data's own target if there is one that fits, and what to say of it."""
    if data.note:
        return None, f"no score: {data.note}"
    if data.y is None or network.loss is None:
        return None, ""
    loss = get_loss(network.loss)
    try:
        score = Evaluator(network, loss, data.X, data.y, name=f"{data.name}: ")().score
    except InvalidInput as error:
        return None, f"no score: {error}"
    return score, _about(network, score, len(data.X), data.name)


def _about(network: Network, score: float, rows: int, name: str) -> str:
    kind = "accuracy"
    if network.loss is not None and network.loss.targets in ("values", "counts"):
        kind = "R²"
    about = f"{kind} {short(score)} on {count(rows, 'row')} of {name}"
    if network.metadata.get("data") == name:
        about += ", which include those it was trained on"
    return about
