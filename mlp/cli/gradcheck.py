"""`mlp gradcheck`: backpropagation against finite differences, for a model or for every formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import numpy as np

from mlp import random
from mlp.activations import ACTIVATIONS
from mlp.cli.input import data_for, true_values_options
from mlp.cli.output import device_option, json_option, loss_of, print_json
from mlp.errors import require_positive_int
from mlp.gradcheck import check_gradients
from mlp.losses import LOSSES, Loss, get_loss
from mlp.network import Network, load
from mlp.spec import Dense

BOUND = 1e-6
OUTPUT_FOR = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.argument("data", required=False)
@click.option("--rows", default=8, show_default=True, help="Rows of DATA to check on.")
@click.option("--seed", default=0, show_default=True, help="Of the random directions and networks.")
@true_values_options
@device_option
@json_option
def gradcheck(
    model: Path | None,
    data: str | None,
    rows: int,
    seed: int,
    target: tuple[str, ...],
    separator: str | None,
    encoding: str,
    device: str,
    as_json: bool,
) -> int:
    """Compare backpropagation with finite differences, in float64.

    With a MODEL, for each of its parameter tensors, on rows of DATA (by default of the bundled data
    set that it was trained on). Without one, for small networks of every activation with every
    loss. Exit code 1 if a difference is above 1e-6.
    """
    require_positive_int("--rows", rows)
    seed = random.check_seed(seed)
    if model is None:
        errors = _check_every_formula(device, seed)
    else:
        network = load(model, device, precision="float64")
        found = data_for(
            network, model, data, need_target=True, target=target, separator=separator,
            encoding=encoding, quiet=as_json,
        )  # fmt: skip
        loss = loss_of(network, model)
        errors = check_gradients(network, found.X[:rows], found.y[:rows], loss, seed=seed)  # type: ignore[index]
    # NaN: every step crossed a kink, so there is no derivative to compare with.
    passed = not any(error > BOUND for error in errors.values())
    if as_json:
        print_json({"bound": BOUND, "passed": passed, "errors": errors})
        return 0 if passed else 1
    width = max(map(len, errors))
    for name, error in errors.items():
        verdict = "at a kink" if math.isnan(error) else "ok" if error <= BOUND else "WRONG"
        click.echo(f"{name:<{width}}  {error:.1e}  {verdict}")
    verdict = "all agree" if passed else "NOT all agree"
    click.echo(f"largest relative differences, bound {BOUND:g}: {verdict}")
    return 0 if passed else 1


def _check_every_formula(device: str, seed: int) -> dict[str, float]:
    """For each "activation + loss", the largest error over the tensors of a small network."""
    errors = {}
    for activation in ACTIVATIONS:
        for name in LOSSES:
            loss = get_loss(name)
            network, X, y = _small_problem(activation, loss, device, seed)
            found = check_gradients(network, X, y, loss, seed=seed)
            errors[f"{activation} + {name}"] = _worst(found)
    return errors


def _worst(errors: dict[str, float]) -> float:
    """The largest error of the tensors that have a derivative; NaN if none has."""
    known = [error for error in errors.values() if not math.isnan(error)]
    return max(known, default=math.nan)


def _small_problem(activation: str, loss: Loss, device: str, seed: int) -> tuple[Network, Any, Any]:
    output = OUTPUT_FOR.get(loss.name, "identity")
    layers = [Dense(7, activation), Dense(5, activation), Dense(3, output)]
    if activation == "softmax":  # only as an output, so with every loss instead
        layers = [Dense(7, "tanh"), Dense(3, "softmax")]
    network = Network(4, layers, device=device, precision="float64", seed=seed)
    X = random.normal(seed, random.PURPOSE_CHECK, 0, 24).reshape(6, 4)
    values = random.uniform(seed, random.PURPOSE_CHECK, 1, 18).reshape(6, 3)
    y = values.argmax(axis=1) if loss.targets == "classes" else values
    return network, X, np.floor(4 * y) if loss.targets == "counts" else y
