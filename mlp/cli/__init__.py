"""The command `mlp`: a file per subcommand, and one place that turns errors into exit codes."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the command `mlp`."""
    try:
        from mlp.cli.app import run  # here, so that an interrupt while it loads is caught too

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        print("mlp: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
