"""`mlp devices`: what can run here, and why the rest cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mlp.backends import AUTO, available_backends, available_precisions, get_backend
from mlp.cli.output import json_option, print_json

TITLES = {"numpy": "NumPy reference", "cpu": "Numba kernels", "cuda": "CUDA kernels through CuPy"}


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """Show which devices can be used here, and why the others cannot."""
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
