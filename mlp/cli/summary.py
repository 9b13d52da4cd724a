"""What a training run comes to: the numbers of metrics.json, and the table at its end."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click

from mlp.callbacks import BestWeights
from mlp.cli.output import count, short
from mlp.cli.plan import Job
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.evaluation import Evaluator


def measure(
    job: Job,
    best: BestWeights,
    *,
    stopped: str | None,
    settings: dict[str, Any],
    on_training: bool = True,
) -> dict[str, Any]:
    """The run's results; losses and scores are those of the kept weights.

    Without `on_training`, those of the training rows are left out.
    """
    trainer, network = job.trainer, job.network
    training = None
    if on_training:
        training = Evaluator(network, trainer.loss, job.X, job.y, limit=trainer.memory_limit)()
    held_out = job.validation and Evaluator(network, trainer.loss, *job.validation)()
    seconds = trainer.history["seconds"]
    return {
        "task": job.target.task,
        "data": job.data.name,
        **_table(job),
        "device": network.device,
        "precision": network.precision,
        "network": repr(network),
        "loss": trainer.loss.name,
        "target_standardised": network.target_scaler is not None,
        "metric": "accuracy" if job.target.task == "classification" else "R²",
        "rows": job.rows,
        "held_out": 0 if job.validation is None else len(job.validation[1]),
        "streamed": trainer.streams,
        "epochs": trainer.epoch,
        "best_epoch": best.best_epoch,
        "stopped": stopped,
        "seconds": sum(seconds),
        # Without the first epoch, which also loads or compiles the kernels, if there are others.
        "samples_per_second": job.rows / statistics.median(seconds[1:] or seconds),
        "train_loss": training.loss if training else None,
        "train_score": training.score if training else None,
        "validation_loss": held_out.loss if held_out else None,
        "validation_score": held_out.score if held_out else None,
        "settings": settings,
    }


def _table(job: Job) -> dict[str, Any]:
    """Of a table: its columns and how they are taken, the target and how it was read."""
    columns = job.network.preprocessing
    if not isinstance(columns, TablePreprocessor):
        return {}
    return {
        "columns": {column.name: column.kind for column in columns.columns},
        "features": columns.inputs,
        "target": list(job.data.target),
        "target_read_as": job.data.how,
    }


def print_summary(metrics: dict[str, Any], folder: Path) -> None:
    """The closing table, on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=True, header_style="bold")
    table.add_column(metrics["data"])
    table.add_column("training", justify="right")
    table.add_column("validation", justify="right")
    units = " of the standardised target" if metrics["target_standardised"] else ""
    table.add_row(
        f"loss ({metrics['loss']}{units})",
        short(metrics["train_loss"]),
        short(metrics["validation_loss"]),
    )
    table.add_row(
        metrics["metric"], short(metrics["train_score"]), short(metrics["validation_score"])
    )
    Console().print(table)
    click.echo(
        f"{count(metrics['epochs'], 'epoch')} in {metrics['seconds']:.1f} s, "
        f"{metrics['samples_per_second']:,.0f} samples/s on {metrics['device']}; "
        f"kept: epoch {metrics['best_epoch']}"
    )
    click.echo(f"saved in {folder}")
