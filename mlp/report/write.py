"""From a trainer and its rows to the page: what is measured, and the file."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlp.callbacks import BestWeights, NormsLog
from mlp.callbacks.norms import LayerNorms
from mlp.data.blocks import RowBlocks
from mlp.errors import InvalidInput, InvalidSetting
from mlp.evaluation import Evaluation, Evaluator
from mlp.model_file import write_atomically
from mlp.report.classification import Classification
from mlp.report.machine import machine, versions
from mlp.report.outcome import outcome_of
from mlp.report.page import Fact, Report, page
from mlp.report.scales import short
from mlp.summary import COLUMNS, layer_cells
from mlp.trainer import Trainer


def write_report(
    path: str | Path,
    trainer: Trainer,
    X: Any,
    y: Any,
    validation: tuple[Any, ...] | None = None,
    *,
    callbacks: Iterable[object] = (),
    title: str = "Training run",
    outputs: Iterable[str] | None = None,
    details: Mapping[str, Mapping[str, object]] | None = None,
    command: str | None = None,
    stopped: str | None = None,
) -> None:
    """Writes a page about a training run: one HTML file that needs no network and no scripts.

    It shows the history, how well the network as it is now does on the validation rows (on the
    training rows where there are none), norms of the layers, and what the run was made with. A file
    of that name is replaced, as a whole.

    Args:
        path: of the page; its folder must exist.
        trainer: after `fit`.
        X, y: the training rows, as `fit` took them.
        validation: (X, y) or (X, y, sample_weight), as `fit` took it.
        callbacks: those of `fit`: a BestWeights or EarlyStopping among them says which epoch was
            kept, a NormsLog has the norms.
        title: what was learned, as the name of the data.
        outputs: names of the outputs of a network without classes.
        details: title -> name -> value, further tables, as on the data.
        command: a line to repeat the run with.
        stopped: why training ended early; None for what the trainer says.

    Raises:
        InvalidSetting: the trainer has no epoch behind it, or `outputs` is of the wrong length.
        InvalidInput: rows that cannot be used, or a file that cannot be written.
    """
    if not trainer.history:
        raise InvalidSetting("there is nothing to report: call the trainer's fit first")
    network, stopped = trainer.network, stopped or trainer.stopped
    best_epoch, norms = _found_by(callbacks)
    seen, held_out = _measured(trainer, (X, y), validation)
    shown: tuple[Any, ...] = (X, y) if validation is None else validation
    outcome = outcome_of(network, trainer.loss, shown, outputs)
    score = "accuracy" if isinstance(outcome, Classification) else "R²"
    report = Report(
        title=title,
        subtitle=repr(network),
        facts=_facts(trainer, seen, held_out, score, best_epoch, stopped),
        history=trainer.history,
        best_epoch=best_epoch,
        score=score,
        rows=f"the {outcome.rows:,} {'training' if validation is None else 'validation'} rows",
        outcome=outcome,
        norms=norms,
        layers=(COLUMNS, layer_cells(network.spec, network.dtype.itemsize)),
        details={
            **{k: {n: str(v) for n, v in values.items()} for k, values in (details or {}).items()},
            "Training": _settings(trainer, stopped),
            "Machine and versions": machine(network) | versions(),
        },
        command=command,
        written=f" on {datetime.datetime.now(datetime.UTC):%Y-%m-%d at %H:%M} UTC",
    )
    path = Path(path)
    try:
        write_atomically(path, page(report).encode())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error


def _found_by(callbacks: Iterable[object]) -> tuple[int | None, list[LayerNorms]]:
    """The epoch that callbacks kept, from 1, or None; and the norms that they noted, by epoch."""
    given = list(callbacks)
    best = [c.best_epoch for c in given if isinstance(c, BestWeights) and c.best_epoch]
    norms = [record for c in given if isinstance(c, NormsLog) for record in c.records]
    return best[-1] if best else None, sorted(norms, key=lambda record: record.epoch)


def _measured(
    trainer: Trainer, training: tuple[Any, Any], validation: tuple[Any, ...] | None
) -> tuple[Evaluation | None, Evaluation | None]:
    """Loss and score of the training rows and the validation rows, where there are any.

    Training rows in blocks are not read again for it if there are validation rows.
    """
    network, loss, limit = trainer.network, trainer.loss, trainer.memory_limit
    seen = held_out = None
    if validation is not None:
        held_out = Evaluator(network, loss, *validation, name="validation ", limit=limit)()
    if held_out is None or not isinstance(training[0], RowBlocks):
        seen = Evaluator(network, loss, *training, limit=limit)()
    return seen, held_out


def _facts(
    trainer: Trainer,
    seen: Evaluation | None,
    held_out: Evaluation | None,
    score: str,
    best_epoch: int | None,
    stopped: str | None,
) -> list[Fact]:
    main = held_out or seen
    assert main is not None  # one of them is always measured
    kind = "validation" if held_out else "training"
    also, also_loss = "no validation rows", trainer.loss.name
    if held_out is not None:
        also = f"training {_score(score, seen.score)}" if seen else ""
        also_loss = f"training {short(seen.loss)}" if seen else ""
    seconds = trainer.history["seconds"]
    # Without the first epoch, which also loads or compiles the kernels, if there are others.
    usual = statistics.median(seconds[1:] or seconds)
    rows = trainer.step.rows if trainer.step else 0
    speed = f"{rows / usual:,.0f} rows/s" if usual else ""
    last = f"of {trainer.epoch:,}" if best_epoch else "the last"
    return [
        Fact(f"{kind} {score}", _score(score, main.score), also),
        Fact(f"{kind} loss", short(main.loss), also_loss),
        Fact("epoch kept", f"{best_epoch or trainer.epoch:,}", stopped or last),
        Fact("time of the steps", _time(sum(seconds)), speed),
        Fact("parameters", f"{trainer.network.spec.parameter_count:,}", trainer.network.precision),
    ]  # fmt: skip


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "accuracy" else short(value)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _settings(trainer: Trainer, stopped: str | None) -> dict[str, str]:
    terms = trainer.regularization
    return {
        "loss": repr(trainer.loss),
        "optimizer": repr(trainer.optimizer),
        "schedule": repr(trainer.schedule),
        "batch size": f"{trainer.batch_size:,}",
        "epochs": f"{trainer.epoch:,}",
        "ended early": stopped or "no",
        "weight decay": f"{terms.weight_decay:g}",
        "L1, L2": f"{terms.l1:g}, {terms.l2:g}",
        "gradient clipping": "none" if terms.clip_norm is None else f"{terms.clip_norm:g}",
        "seeds": f"network {trainer.network.seed}, training {trainer.seed}",
    }
