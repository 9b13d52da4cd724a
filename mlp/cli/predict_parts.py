"""`mlp predict` on Parquet files of any size: read, predicted and written a part at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from mlp.cli.input import reading
from mlp.cli.output import count, result_file
from mlp.cli.predictions import CSV, PARQUET, Columns, as_columns, probabilities_of, to_csv
from mlp.data.arrow import quoted
from mlp.data.parquet_blocks import ParquetBlocks, decoded_bytes, target_values
from mlp.data.placing import require_finite_features
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.data.tables import PARQUET as PARQUET_NAMES
from mlp.errors import InvalidInput
from mlp.evaluation import Tally
from mlp.network import Network
from mlp.streaming import PIECE_BYTES

# Tables that are larger are predicted in parts.
LARGE_BYTES = 256 * 10**6


def is_large(network: Network, path: Path, out: Path | None) -> bool:
    """Whether predictions of this file are to be made in parts, and can be."""
    kinds = (*CSV, *PARQUET)
    if not isinstance(network.preprocessing, TablePreprocessor) or not path.exists():
        return False
    if out is not None and out.suffix.lower() not in kinds:
        return False
    try:
        parquet = path.is_dir() or path.suffix.lower() in PARQUET_NAMES
        return parquet and decoded_bytes(path) > LARGE_BYTES
    except InvalidInput:
        return False  # whoever reads it as a whole says what is wrong


def predict_in_parts(
    network: Network,
    path: Path,
    out: Path | None,
    targets: Sequence[str],
    *,
    probabilities: bool,
    overwrite: bool,
) -> tuple[int, float | None, list[str]]:
    """Writes a Parquet file's predictions to a file, or as CSV to stdout.

    Args:
        targets: columns with the true values, if they are there.

    Returns:
        How many rows there were, the score, or None where it is not known, and what there is to
        say.
    """
    parts = _Parts(network, path, targets, probabilities=probabilities)
    with ExitStack() as stack:
        file = None if out is None else stack.enter_context(result_file(out, overwrite=overwrite))
        write = _writer(file, out)
        stack.callback(write.close)
        progress = stack.enter_context(reading(path, quiet=out is None))
        blocks = parts.blocks
        rows = max(PIECE_BYTES // (8 * parts.columns.inputs), 1)
        done, total = 0, sum(blocks.bytes_of(block) for block in range(len(blocks.sizes)))
        for block in range(len(blocks.sizes)):
            for batch in blocks.batches(block, rows):
                write(parts.predict(batch, blocks.where(block)))
            done += blocks.bytes_of(block)
            progress(done, total)
    return parts.rows, parts.score, parts.notes()


class _Parts:
    """Predictions for record batches, and what is found on the way."""

    def __init__(
        self, network: Network, path: Path, targets: Sequence[str], *, probabilities: bool
    ) -> None:
        columns = network.preprocessing
        assert isinstance(columns, TablePreprocessor)
        schema = ParquetBlocks(path, ()).schema
        there = set(schema.names)
        self.targets = tuple(targets) if targets and set(targets) <= there else ()
        taken = {*columns.names, *self.targets}
        self.unused = [name for name in schema.names if name not in taken]
        # What the model takes and the files lack is named by `encode`.
        drop = self.unused if len(self.unused) + len(self.targets) < len(schema.names) else []
        self.blocks = ParquetBlocks(path, self.targets, drop=drop)
        self.network, self.columns, self.name = network, columns, str(path)
        self.probabilities = probabilities
        network.preprocessing = None  # the rows come encoded
        self.rows, self.unseen = 0, Counter[str]()
        self.tally = None if network.loss is None or not self.targets else Tally(network.loss)
        self.no_score = ""

    def predict(self, batch: Any, where: str) -> Columns:
        network = self.network
        features, unseen = self.columns.encode(batch, network.dtype, name=where)
        require_finite_features(features, self.columns, where)
        self.unseen.update(unseen)
        outputs = network.forward(features)
        self._score(batch, outputs, where)
        self.rows += len(features)
        shares = probabilities_of(network, outputs) if self.probabilities else None
        return as_columns(network, network.predict(features), shares)

    def _score(self, batch: Any, outputs: Any, where: str) -> None:
        loss = self.network.loss
        if self.tally is None or loss is None:
            return
        try:
            y = target_values(batch, self.targets)
            target = self.network.check_target(y, len(outputs), loss, f"{where}: y")
        except InvalidInput as error:
            self.tally, self.no_score = None, f"no score: {error}"
            return
        self.tally.add(np.exp(outputs) if loss.name == "poisson" else outputs, target)

    @property
    def score(self) -> float | None:
        return None if self.tally is None else self.tally.score

    def notes(self) -> list[str]:
        notes = [
            f"{self.name}: {count(number, 'value')} of column '{name}' did not occur in training"
            for name, number in self.unseen.items()
        ]
        if self.unused:
            notes.append(f"{self.name}: not used: {quoted(self.unused)}")
        return [*notes, self.no_score] if self.no_score else notes


# --- files ----------------------------------------------------------------------------------------


class _CsvWriter:
    def __init__(self, file: BinaryIO | None) -> None:
        self._file, self._begun = file, False

    def __call__(self, columns: Columns) -> None:
        text = to_csv(columns)
        if self._begun:
            text = text.split("\n", 1)[1]  # the names
        self._begun = True
        if self._file is None:
            click.echo(text, nl=False)
        else:
            self._file.write(text.encode())

    def close(self) -> None:
        return None


class _ParquetWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def __call__(self, columns: Columns) -> None:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer(file: BinaryIO | None, out: Path | None) -> _CsvWriter | _ParquetWriter:
    if file is not None and out is not None and out.suffix.lower() in PARQUET:
        return _ParquetWriter(file)
    return _CsvWriter(file)
