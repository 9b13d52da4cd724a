"""`mlp predict`: a trained model on raw rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from mlp.backends.protocol import HostArray
from mlp.cli.output import (
    data_for,
    device_option,
    json_option,
    overwrite_option,
    print_json,
    say,
    write_result,
)
from mlp.data.sources import Dataset
from mlp.evaluation import Evaluator
from mlp.losses import get_loss
from mlp.network import Network, load


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV here instead of stdout.")
@overwrite_option
@device_option
@json_option
def predict(
    model: Path, data: str | None, out: Path | None, overwrite: bool, device: str, as_json: bool
) -> None:
    """Predict with MODEL for the raw rows of DATA, one line of CSV per row.

    DATA is a bundled data set or a .npz file with X; by default the bundled data set that the model
    was trained on. If it has y, the score against it is reported too.
    """
    network = load(model, device)
    found = data_for(network, model, data, need_target=False)
    predictions = network.predict(found.X)
    score = _score(network, found)
    if out is not None:
        write_result(out, _csv(predictions), overwrite=overwrite)
    if as_json:
        print_json(
            {
                "model": str(model),
                "data": found.name,
                "rows": len(predictions),
                "score": score,
                "out": None if out is None else str(out),
                "predictions": predictions.tolist(),
            }
        )
        return
    if out is None:
        click.echo(_csv(predictions), nl=False)
    else:
        say(f"{len(predictions)} predictions written to {out}")
    if score is not None:
        kind = (
            "R²" if get_loss(network.loss or "mse").targets in ("values", "counts") else "accuracy"
        )
        say(f"{kind} {score:.4f} on the {len(predictions)} rows of {found.name}")


def _score(network: Network, data: Dataset) -> float | None:
    if data.y is None or network.loss is None:
        return None
    return Evaluator(network, get_loss(network.loss), data.X, data.y)().score


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
