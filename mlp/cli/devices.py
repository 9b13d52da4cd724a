"""`mlp devices`: what can run here, and why the rest cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from mlp.backends import (
    AUTO,
    available_backends,
    available_precisions,
    get_backend,
    unavailable_reason,
)
from mlp.cli.output import json_option, print_json
from mlp.errors import InvalidSetting

if TYPE_CHECKING:
    from mlp.backends.cuda.backend import CupyBackend

TITLES = {"numpy": "NumPy reference", "cpu": "Numba kernels", "cuda": "CUDA kernels through CuPy"}


@click.command()
@click.option("--kernels", is_flag=True, help="Show which kernels a GPU uses, and why.")
@click.option("--device", help="Of which GPU, with --kernels: cuda or cuda:N.")
@json_option
def devices(kernels: bool, device: str | None, as_json: bool) -> None:
    """Show which devices can be used here, and why the others cannot."""
    if kernels:
        _show_kernels(device, as_json)
        return
    if device is not None:
        raise click.UsageError("--device goes with --kernels")
    backends = available_backends()
    libraries = _libraries()
    found: dict[str, Any] = {
        "devices": backends,
        "auto": next((name for name in AUTO if backends[name] == "usable"), None),
        "gpu": get_backend("cuda").about if backends["cuda"] == "usable" else None,
        "precisions": {name: available_precisions(name) for name in backends},
        "cores": os.cpu_count(),
        "threads": get_backend("cpu").threads if backends["cpu"] == "usable" else None,
        "libraries": libraries,
    }
    if as_json:
        print_json(found)
        return
    width = max(map(len, TITLES.values()))
    for name, state in backends.items():
        about = ", ".join([state, *found["precisions"][name]])
        click.echo(f"{name:<6} {TITLES[name]:<{width}}  {about}")
    if found["gpu"]:
        click.echo(f"cuda   = {found['gpu']}")
    click.echo(f"auto   = {found['auto'] or 'none of them'}")
    click.echo(f"{found['cores']} CPU cores, {found['threads']} threads for cpu")
    for library in libraries:
        click.echo("{library} {version} in {folder}, {threads} threads".format(**library))


def _show_kernels(device: str | None, as_json: bool) -> None:
    """Which kernels are chosen on a GPU. That there is none is an error where one was named."""
    from mlp.backends.cuda.listing import LISTED, in_words, listing

    if device is not None and device.partition(":")[0] != "cuda":
        raise InvalidSetting(f"kernels are chosen on CUDA devices alone, not on '{device}'")
    reason = unavailable_reason("cuda") if device is None else None
    found = dict.fromkeys(LISTED) | {"choices": [], "remarks": []}
    if reason is None:
        found = listing(cast("CupyBackend", get_backend(device or "cuda")))
    found["reason"] = reason
    if as_json:
        print_json(found)
    elif reason is not None:
        click.echo(f"no kernels to choose among: {reason}")
    else:
        click.echo("\n".join(in_words(found)))


def _libraries() -> list[dict[str, Any]]:
    """The linear-algebra libraries that the NumPy reference calls, with their thread counts."""
    from threadpoolctl import threadpool_info

    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "folder": Path(pool["filepath"]).parent.name,
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
