"""Trains on a generated set of Parquet files that is larger than the memory it may use.

    python -m bench.larger_than_memory --gigabytes 5 --memory-limit 1GB

Makes the files, reads them once, trains one epoch with `mlp train` in a process of its own, and
prints one JSON object: sizes, seconds, rows per second, loss, and the most that the process held.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from mlp.data.memory import as_bytes, peak_bytes

NUMBERS, SINGLES, COUNTS = 8, 24, 2  # columns of float64, float32 and int32
TOWNS = ["Oslo", "Rome", "Paris", "Bern", "Madrid", "Wien", "Praha", "Riga"]
ROW_BYTES = 168  # as found in files
GROUP_ROWS, FILES = 500_000, 8
HIDDEN, BATCH = "64,32", 1024


def generate(folder: Path, size: int, group_rows: int = GROUP_ROWS, files: int = FILES) -> int:
    """Writes Parquet files of about `size` bytes together; returns their number of rows.

    The target y is a smooth function of some columns, with noise of a tenth of its spread.
    """
    import pyarrow
    from pyarrow import parquet

    rows = size // ROW_BYTES
    weights = np.random.default_rng(0).standard_normal((NUMBERS, 3))
    written = 0
    for number in range(files):
        of_file = rows * (number + 1) // files - rows * number // files
        writer = None
        while of_file:
            count = min(group_rows, of_file)
            table = pyarrow.table(_columns(np.random.default_rng(written + 1), count, weights))
            if writer is None:
                writer = parquet.ParquetWriter(
                    folder / f"part-{number}.parquet", table.schema, compression="snappy",
                    use_dictionary=["town"],
                )  # fmt: skip
            writer.write_table(table, row_group_size=group_rows)
            of_file, written = of_file - count, written + count
        if writer is not None:
            writer.close()
    return written


def _columns(rng: np.random.Generator, count: int, weights: Any) -> dict[str, Any]:
    numbers = rng.standard_normal((NUMBERS, count))
    town = rng.integers(0, len(TOWNS), count)
    y = np.tanh(weights.T @ numbers).sum(axis=0) + 0.2 * town
    columns: dict[str, Any] = {f"number_{k}": numbers[k] for k in range(NUMBERS)}
    for k in range(SINGLES):
        columns[f"single_{k}"] = 100 * rng.random(count, dtype=np.float32)
    for k in range(COUNTS):
        columns[f"count_{k}"] = rng.poisson(5, count).astype(np.int32)
    columns["town"] = np.array(TOWNS)[town]
    columns["y"] = (y + 0.15 * rng.standard_normal(count)).astype(np.float32)
    return columns


def read_once(folder: Path) -> float:
    """Seconds to read and decode all rows as training does, in pieces, on one thread."""
    from mlp.data.parquet_blocks import ParquetBlocks

    blocks = ParquetBlocks(folder, "y")
    started = time.perf_counter()
    for block in range(len(blocks.sizes)):
        for _ in blocks.read(block, 25_000):
            pass
    return time.perf_counter() - started


def train(folder: Path, limit: str, out: Path) -> dict[str, Any]:
    """What `mlp train` reports, and the most that its process held, in bytes."""
    command = [
        sys.executable, "-m", "mlp", "train", str(folder), "--target", "y", "--memory-limit", limit,
        "--epochs", "1", "--hidden", HIDDEN, "--batch-size", str(BATCH), "--dropout", "0",
        "--device", "cpu", "--out", str(out), "--json",
    ]  # fmt: skip
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            # What the system counts after a process has ended includes what started it.
            peak = peak_bytes(process.pid) or peak
            time.sleep(0.02)
        assert process.stdout is not None
        answer = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"mlp train ended with exit code {process.returncode}")
    return {**json.loads(answer), "whole_seconds": time.perf_counter() - started, "peak": peak}


@click.command()
@click.option("--gigabytes", default=5.0, show_default=True, help="Of all files together.")
@click.option("--memory-limit", default="1GB", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="For the files, which are removed.")
@click.option("--keep", is_flag=True, help="Keep the files, and use those that are there.")
def main(gigabytes: float, memory_limit: str, folder: Path | None, keep: bool) -> None:
    """Train on Parquet files larger than the memory that may be used."""
    base = Path(tempfile.mkdtemp(dir=folder)) if not keep else folder or Path("larger_than_memory")
    data = base / "set"
    try:
        made = time.perf_counter()
        if not data.exists():
            data.mkdir(parents=True)
            generate(data, int(gigabytes * 10**9))
        made = time.perf_counter() - made
        on_disk = sum(file.stat().st_size for file in data.iterdir())
        reading = read_once(data)
        found = train(data, memory_limit, Path(tempfile.mkdtemp(dir=base)) / "run")
        rows = found["rows"] + found["held_out"]
        print(json.dumps({
            "bytes_on_disk": on_disk,
            "rows": rows,
            "memory_limit": as_bytes(memory_limit),
            "peak_resident_bytes": found["peak"],
            "seconds_to_make": round(made, 1),
            "seconds_to_read_once": round(reading, 1),
            "seconds_of_the_epoch": round(found["seconds"], 1),
            "seconds_in_all": round(found["whole_seconds"], 1),
            "rows_per_second_of_the_epoch": round(found["samples_per_second"]),
            "network": found["network"],
            "train_loss": found["train_loss"],
            "validation_loss": found["validation_loss"],
            "validation_score": found["validation_score"],
        }, indent=2))  # fmt: skip
    finally:
        if not keep:
            shutil.rmtree(base)


if __name__ == "__main__":
    main()
