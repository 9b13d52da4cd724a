"""Compiled kernels outlive the process, and never their source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Calls a kernel whose row function is in another file: sign, of losses.py.
CALL_PENALTY = """
import numpy as np
from mlp_kernels.cpu.optimizers import penalty
gradients = np.zeros(1)
penalty(np.ones(1), gradients, 1.0, 0.0)
print(gradients[0], sum(penalty.stats.cache_hits.values()))
"""


def run(arguments: list[str], cache: Path, *paths: Path) -> str:
    """What a fresh process prints."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_process_compiles_nothing(tmp_path):
    """Nor does it where the first had only the rest to compile: others have filled the folder."""
    cache, filled = tmp_path / "cache", os.environ.get("NUMBA_CACHE_DIR")
    if filled and Path(filled).is_dir():
        copy_what_is_whole(Path(filled), cache)
    program = ["-m", "tests.backends.every_operation"]
    _, second = (json.loads(run(program, cache, ROOT, ROOT / "kernels")) for _ in range(2))
    assert second["compiled"] == 0
    assert second["loaded"] > 0


def copy_what_is_whole(source: Path, target: Path) -> None:
    """Copies a folder to which others may be writing: what an index names before the index."""
    for path in sorted(source.rglob("*.nb[ic]"), key=lambda path: path.suffix):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(path, copy)


def test_editing_a_row_function_recompiles_its_callers(tmp_path):
    kernels, cache = tmp_path / "kernels", tmp_path / "cache"
    shutil.copytree(
        ROOT / "kernels", kernels, ignore=shutil.ignore_patterns("__pycache__", "*.nb[ic]")
    )
    call = ["-B", "-c", CALL_PENALTY]
    assert run(call, cache, kernels).split() == ["1.0", "0"]
    assert run(call, cache, kernels).split() == ["1.0", "1"]
    losses = kernels / "mlp_kernels" / "cpu" / "losses.py"
    text = losses.read_text()
    edited = text.replace("return T(1) if e > T(0)", "return T(2) if e > T(0)")
    assert edited != text
    losses.write_text(edited)
    assert run(call, cache, kernels).split() == ["2.0", "0"]
