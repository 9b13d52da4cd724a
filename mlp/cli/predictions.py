"""Predictions as named columns, and the kinds of files that they are written to."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import require_pyarrow
from mlp.errors import InvalidSetting
from mlp.network import Network

CSV, PARQUET, FEATHER = ("", ".csv", ".txt"), (".parquet", ".pq"), (".feather", ".arrow")

Columns = Mapping[str, HostArray]


def require_kind(path: Path) -> None:
    """Raises InvalidSetting where a file of this name cannot be written; before any work."""
    kind = path.suffix.lower()
    if kind in (*PARQUET, *FEATHER):
        require_pyarrow()
    elif kind not in (*CSV, ".npy"):
        raise InvalidSetting(
            f"{path}: predictions are written as .csv, .parquet, .feather, .arrow or .npy"
        )


def as_columns(
    network: Network, predictions: HostArray, probabilities: HostArray | None
) -> Columns:
    """The columns of a file of predictions, in the order of the rows.

    Args:
        predictions: (N,) or (N, O), as `Network.predict` returns them.
        probabilities: (N, K), one for each class, or None.
    """
    columns = {}
    if predictions.ndim == 1:
        columns["prediction"] = predictions
    else:
        for k, name in enumerate(_outputs(network, predictions.shape[1])):
            columns[f"prediction_{name}"] = predictions[:, k]
    if probabilities is not None:
        for k, name in enumerate(network.classes or range(probabilities.shape[1])):
            columns[f"probability_{name}"] = probabilities[:, k]
    return columns


def _outputs(network: Network, count: int) -> Sequence[object]:
    """What several outputs are: columns of the table trained on, classes, or their numbers."""
    target = network.metadata.get("target")
    if isinstance(target, list) and len(target) == count:
        return target
    classes = network.classes
    return classes if classes is not None and len(classes) == count else range(count)


def probabilities_of(network: Network, outputs: HostArray) -> HostArray:
    """Probabilities (N, K) of the classes from outputs (N, O) of a sigmoid or softmax.

    A single sigmoid output is the probability of the second of two classes.

    Raises:
        InvalidSetting: the network predicts values.
    """
    require_probabilities(network)
    if outputs.shape[1] == 1:
        return np.concatenate([1 - outputs, outputs], axis=1)
    return outputs


def require_probabilities(network: Network) -> None:
    """Raises InvalidSetting where the network predicts values."""
    values = network.loss is not None and network.loss.targets in ("values", "counts")
    if values or network.spec.output_activation not in ("sigmoid", "softmax"):
        raise InvalidSetting("--probabilities: the model predicts values, which have none")


def to_bytes(path: Path, columns: Columns) -> bytes:
    """The content of a file of this name."""
    kind = path.suffix.lower()
    if kind in CSV:
        return to_csv(columns).encode()
    if kind == ".npy":
        return _to_npy(columns)
    pyarrow = require_pyarrow()
    from pyarrow import feather, parquet

    table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    sink = pyarrow.BufferOutputStream()
    if kind in PARQUET:
        parquet.write_table(table, sink)
    else:
        feather.write_feather(table, sink)
    return bytes(sink.getvalue())


def to_csv(columns: Columns) -> str:
    """A line of names, and one for each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    return text.getvalue()


def _to_npy(columns: Columns) -> bytes:
    """The predictions (N,), or all columns side by side if there are more and all are numbers."""
    arrays = [*columns.values()]
    if len(arrays) > 1 and any(array.dtype.kind not in "biuf" for array in arrays):
        raise InvalidSetting(
            "a .npy file holds text or numbers, not both; write .csv or .parquet instead"
        )
    buffer = io.BytesIO()
    np.save(buffer, arrays[0] if len(arrays) == 1 else np.column_stack(arrays))
    return buffer.getvalue()
