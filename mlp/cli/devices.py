"""`mlp devices`: what can run here, and why the rest cannot."""

from __future__ import annotations

import os
from typing import Any

import click

from mlp.backends import available_backends, get_backend
from mlp.cli.output import json_option, print_json

TITLES = {"numpy": "NumPy reference", "cpu": "Numba kernels", "cuda": "CUDA kernels through CuPy"}


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """Show which devices can be used here, and why the others cannot."""
    backends = available_backends()
    found = {
        "devices": backends,
        "auto": get_backend("auto").name,
        "cores": os.cpu_count(),
        "libraries": _libraries(),
    }
    if as_json:
        print_json(found)
        return
    width = max(map(len, TITLES.values()))
    for name, state in backends.items():
        click.echo(f"{name:<6} {TITLES[name]:<{width}}  {state}")
    click.echo(f"auto   = {found['auto']}")
    click.echo(f"{found['cores']} CPU cores")
    for library in _libraries():
        click.echo("{library} {version}, {threads} threads".format(**library))


def _libraries() -> list[dict[str, Any]]:
    """The linear-algebra libraries that the backends call, with their thread counts."""
    import scipy.linalg  # noqa: F401 - Numba's BLAS, which is only listed once it is loaded
    from threadpoolctl import threadpool_info

    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
