"""From the options of `mlp train` to a job: all that can fail for a reason of the user's."""

from __future__ import annotations

from functools import partial
from typing import Any

from mlp.backends import get_backend, unavailable_reason
from mlp.cli import plan, streamed, train_options
from mlp.cli.input import reading
from mlp.data.dataset import Dataset
from mlp.data.placing import Preprocessing
from mlp.data.sources import load_data
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.losses import Loss, get_loss
from mlp.network import Network
from mlp.optimizers import get_optimizer
from mlp.schedules import get_schedule
from mlp.spec import Dense
from mlp.trainer import Trainer


def prepare(options: dict[str, Any], *, quiet: bool) -> plan.Job:
    """The data read and split, the network built; before anything is written or trained."""
    loss = _check(options)
    source = streamed.too_large(options)
    if source is not None:
        return streamed.prepare(source, options, loss, partial(_trainer, options), quiet=quiet)
    data = _read(options, loss, quiet=quiet)
    loss = loss or get_loss(plan.default_loss(data))
    target = plan.target_for(data, loss)
    rows = plan.Rows.of(data, target, options["validation"], options["seed"])
    preprocessing = rows.preprocessing(data.name, standardize=not options["raw"])
    inputs = data.X.shape[1]
    if isinstance(preprocessing, TablePreprocessor):
        inputs = preprocessing.inputs
    trainer = _trainer(options, data, target, loss, preprocessing, inputs)
    plan.fit_outputs(trainer, rows.y, standardize=not options["raw"])
    return plan.Job(data, target, trainer, rows.X, rows.y, rows.validation)


def _trainer(
    options: dict[str, Any],
    data: Dataset,
    target: plan.Target,
    loss: Loss,
    preprocessing: Preprocessing | None,
    inputs: int,
) -> Trainer:
    network = _network(options, inputs, target)
    network.preprocessing = preprocessing
    network.metadata = {"data": data.name}
    if data.target:
        network.metadata |= {"target": list(data.target), "task": target.task}
    return Trainer(
        network,
        loss,
        get_optimizer(options["optimizer"], options["learning_rate"]),
        batch_size=options["batch_size"],
        schedule=options["schedule"],
        weight_decay=options["weight_decay"],
        seed=options["seed"],
        memory_limit=options["memory_limit"],
    )


def _check(options: dict[str, Any]) -> Loss | None:
    """Raises for options that cannot be used, before a file is read; the loss, if one is named."""
    train_options.check(options)
    _hidden(options)
    get_optimizer(options["optimizer"], options["learning_rate"])
    get_schedule(options["schedule"])
    get_backend(options["device"], options["precision"], options["threads"])
    return None if options["loss"] is None else get_loss(options["loss"])


def _read(options: dict[str, Any], loss: Loss | None, *, quiet: bool) -> Dataset:
    targets = options["target"]
    task = plan.task_of(loss, options["task"], named=bool(targets))
    with reading(options["data"], quiet=quiet) as progress:
        return load_data(
            options["data"], target=targets or None, task=task, drop=options["drop"],
            separator=options["separator"], encoding=options["encoding"], progress=progress,
        )  # fmt: skip


def _network(options: dict[str, Any], inputs: int, target: plan.Target) -> Network:
    network = Network(
        inputs,
        [*_hidden(options), Dense(target.outputs, target.activation)],
        device=options["device"],
        precision=options["precision"],
        seed=options["seed"],
        threads=options["threads"],
    )
    network.classes = target.classes
    return network


def _hidden(options: dict[str, Any]) -> list[Dense]:
    return [
        Dense(width, options["activation"], options["dropout"])
        for width in train_options.widths(options["hidden"])
    ]


def describe(job: plan.Job, device: str) -> str:
    """The data, how its target was read, the split, the network and its device, in a few lines."""
    lines = [job.describe(), _describe_device(device, job.network)]
    columns = job.network.preprocessing
    if isinstance(columns, TablePreprocessor) and "" in columns.names:
        # pandas writes its index so, and nothing should be learned from that.
        lines.append("the column without a name is learned from, too; --drop '' leaves it out")
    return "\n".join([job.data.how, *lines] if job.data.how else lines)


def _describe_device(asked: str, network: Network) -> str:
    name = f"device {network.device}, {network.precision}"
    about = network.backend.about
    if asked != "auto":
        return f"{name} ({about})" if about else name
    why = about or (unavailable_reason("cuda") or "for --threads").split(" (")[0]
    return f"{name} (auto: {why})"
