"""Rows as users have them: sparse ones made dense in blocks, and those that live on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from mlp.backends.protocol import HostArray
from mlp.data.arrays import lives_on_a_gpu
from mlp.data.blocks import is_sparse
from mlp.data.memory import available_memory, in_words, resident_bytes
from mlp.errors import InvalidInput
from mlp.network import Network

# Bytes of sparse rows that are made dense at a time to predict.
BLOCK_BYTES = 2**24
# Of the memory that is free, what sparse training rows may take when they are made dense.
DENSE_SHARE = 0.25


def on_device(value: Any) -> bool:
    """Whether an array lives on a GPU; NumPy's, which answer to DLPack too, are asked nothing."""
    return not isinstance(value, np.ndarray) and lives_on_a_gpu(value)


def dense_blocks(X: Any) -> Iterator[HostArray]:
    """The rows of a sparse matrix (N, I) as dense arrays of a few MiB."""
    rows = sparse.csr_array(X)
    count = max(1, BLOCK_BYTES // max(1, X.shape[1] * X.dtype.itemsize))
    for start in range(0, X.shape[0], count):
        yield rows[start : start + count].toarray()


def dense(X: Any, name: str = "X") -> Any:
    """X itself, or the rows of a sparse matrix as a dense array.

    Raises:
        InvalidInput: it would take more than a quarter of the memory that is free.
    """
    if not is_sparse(X):
        return X
    size, free = size_if_dense(X), free_memory()
    if size > DENSE_SHARE * free:
        raise InvalidInput(
            f"{name} is sparse, and its {X.shape[0]:,} rows of {X.shape[1]:,} features take "
            f"{in_words(size)} as a dense array, more than a quarter of the {in_words(free)} that "
            "are free; use fewer features or rows, or for training another solver than lbfgs"
        )
    return X.toarray()


def dense_if_small(X: Any) -> Any:
    """As `dense`, but large sparse rows as CSR: a trainer makes them dense a chunk at a time."""
    if is_sparse(X) and size_if_dense(X) > DENSE_SHARE * free_memory():
        return X.tocsr()
    return dense(X)


def size_if_dense(X: Any) -> int:
    """Bytes of a sparse matrix (N, I) as a dense array."""
    size: int = X.shape[0] * X.shape[1] * X.dtype.itemsize
    return size


def free_memory() -> int:
    """Bytes that can be had without swapping, as far as the system says."""
    limit = available_memory() - resident_bytes()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return limit
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([limit, *free])


def take_rows(X: Any, index: HostArray, network: Network) -> Any:
    """Rows X[index], where X lives."""
    if not on_device(X):
        return X[index]
    backend = network.backend
    rows = network.rows_to_device(X, borrow=True)
    out = backend.empty((len(index), rows.shape[1]), rows.dtype)
    backend.gather_rows(rows, backend.from_host(index, np.int64), out)
    return out
