"""`mlp predict`: a trained model on raw rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from mlp.backends.protocol import HostArray
from mlp.cli.output import (
    count,
    data_for,
    device_option,
    json_option,
    overwrite_option,
    precision_option,
    print_json,
    say,
    short,
    threads_option,
    write_result,
)
from mlp.data.arrays import as_rows
from mlp.data.sources import Dataset
from mlp.errors import InvalidInput
from mlp.evaluation import Evaluator
from mlp.losses import get_loss
from mlp.network import Network, load


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV here instead of stdout.")
@overwrite_option
@device_option
@precision_option
@threads_option
@json_option
def predict(
    model: Path,
    data: str | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict with MODEL for the raw rows of DATA, one line of CSV per row.

    DATA is a bundled data set or a .npz file with X; by default the bundled data set that the model
    was trained on. If it has y, the score against it is reported too.
    """
    network = load(model, device, threads, precision)
    found = data_for(network, model, data, need_target=False)
    rows = as_rows(found.X, network.spec.inputs, f"{found.name}: X")
    predictions = network.predict(rows)
    if out is not None:
        write_result(out, _csv(predictions), overwrite=overwrite)
    score, about = _score(network, found)
    if as_json:
        print_json(
            {
                "model": str(model),
                "data": found.name,
                "rows": len(predictions),
                "score": score,
                "about_score": about,
                "out": None if out is None else str(out),
                "predictions": predictions.tolist(),
            }
        )
        return
    if out is None:
        click.echo(_csv(predictions), nl=False)
    else:
        say(f"{count(len(predictions), 'prediction')} written to {out}")
    if about:
        say(about)


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
    kind = "R²" if loss.targets in ("values", "counts") else "accuracy"
    about = f"{kind} {short(score)} on {count(len(data.X), 'row')} of {data.name}"
    if network.metadata.get("data") == data.name:
        about += ", which include those it was trained on"
    return score, about


def _csv(predictions: HostArray) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if predictions.ndim == 1:
        writer.writerow(["prediction"])
        writer.writerows([value] for value in predictions.tolist())
    else:
        writer.writerow([f"prediction_{k}" for k in range(predictions.shape[1])])
        writer.writerows(predictions.tolist())
    return text.getvalue()
