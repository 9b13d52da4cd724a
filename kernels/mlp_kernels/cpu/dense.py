"""Dense layers: a BLAS product, then one pass over its result that does everything else.

Row-major; x (B, I), W (I, O), b (O,). The pass goes in blocks of whole rows that stay in the
nearest cache, so each array is read and written once, while every loop inside is a simple one.
Dropout comes as five numbers: threshold, scale, layer, seed, step (see `philox.drop`); threshold 0
is no dropout.
"""

from __future__ import annotations

import numpy as np

from mlp_kernels.cpu.activations import FIRST_FROM_Z, activate, derive
from mlp_kernels.cpu.compiler import Floats, Integers, floats, int64s, kernel, one_dtype
from mlp_kernels.cpu.philox import drop

BLOCK = 2048  # elements: 8 to 16 KiB, so a block of two arrays is at home in a level-1 cache


@kernel()
def gather_rows(X: Floats, index: Integers, out: Floats) -> None:
    """out[i] = X[index[i]]: X (N, I) or (N,), index (B,), out (B, I) or (B,).

    Arrays of float32, float64 or int64.
    """
    one_dtype(X, out)
    int64s(index)
    if out.shape[0] != index.size or out.shape[1:] != X.shape[1:]:
        raise ValueError("out must have a row per index, as wide as those of X")
    for i in range(index.size):
        row = index[i]
        if not 0 <= row < X.shape[0]:
            raise IndexError("a row number is outside X")
        if X.ndim == 1:
            out[i] = X[row]
        else:
            for j in range(X.shape[1]):
                out[i, j] = X[row, j]


@kernel()
def add_rows(a: Floats, b: Floats) -> None:
    """Adds b to each row: a (rows, O), b (O,)."""
    for i in range(a.shape[0]):
        for j in range(b.size):
            a[i, j] += b[j]


@kernel()
def add_column_sums(delta: Floats, db: Floats) -> None:
    """Adds the column sums of delta to db: delta (rows, O), db (O,)."""
    for i in range(delta.shape[0]):
        for j in range(db.size):
            db[j] += delta[i, j]


@kernel()
def copy_flat(source: Floats, out: Floats) -> None:
    for j in range(source.size):
        out[j] = source[j]


@kernel()
def linear_forward(
    x: Floats,
    W: Floats,
    b: Floats,
    code: int,
    a: Floats,
    saved: Floats,
    keep: bool,
    threshold: int,
    scale: float,
    layer: int,
    seed: int,
    step: int,
) -> None:
    """`a = g(x @ W + b)`, then dropout; a, saved (B, O).

    With `keep`, `saved` is an array apart from `a` and receives what g' is written from, z or g(z).
    """
    floats(x, W, b, a, saved)
    np.dot(x, W, out=a)
    rows, width = a.shape
    if b.size != width or saved.shape != a.shape:
        raise ValueError("b must be (O,) and saved (B, O)")
    all_a, all_saved = a.reshape(-1), saved.reshape(-1)
    stride = max(1, BLOCK // width)
    for start in range(0, rows, stride):
        stop = min(start + stride, rows)
        block = all_a[start * width : stop * width]
        saved_block = all_saved[start * width : stop * width]
        add_rows(a[start:stop], b)
        if keep and code >= FIRST_FROM_Z:
            copy_flat(block, saved_block)
        activate(code, block, width)
        if keep and code < FIRST_FROM_Z:
            copy_flat(block, saved_block)
        if threshold > 0:
            drop(block, start * width, threshold, scale, layer, seed, step)


@kernel()
def linear_delta(
    delta: Floats,
    W: Floats,
    saved: Floats,
    code: int,
    out: Floats,
    db_prev: Floats,
    threshold: int,
    scale: float,
    layer: int,
    seed: int,
    step: int,
) -> None:
    """`out = (delta @ W.T) * dropout * g'(saved)`, and its column sums in db_prev.

    delta (B, O); saved, out (B, I) and db_prev (I,) belong to the layer before.
    """
    floats(delta, W, saved, out, db_prev)
    np.dot(delta, W.T, out=out)
    rows, width = out.shape
    if db_prev.size != width or saved.shape != out.shape:
        raise ValueError("saved must be (B, I) and db_prev (I,)")
    all_out, all_saved = out.reshape(-1), saved.reshape(-1)
    db_prev[:] = 0
    stride = max(1, BLOCK // width)
    for start in range(0, rows, stride):
        stop = min(start + stride, rows)
        block = all_out[start * width : stop * width]
        if threshold > 0:
            drop(block, start * width, threshold, scale, layer, seed, step)
        derive(code, block, all_saved[start * width : stop * width], width)
        add_column_sums(out[start:stop], db_prev)


@kernel()
def linear_grads(x: Floats, delta: Floats, dW: Floats) -> None:
    """`dW = x.T @ delta`: x (B, I), delta (B, O), dW (I, O)."""
    floats(x, delta, dW)
    np.dot(x.T, delta, out=dW)


@kernel()
def column_sums(delta: Floats, db: Floats) -> None:
    """Writes the column sums of delta (B, O) to db (O,)."""
    floats(delta, db)
    if db.size != delta.shape[1]:
        raise ValueError("db must be (O,)")
    db[:] = 0
    add_column_sums(delta, db)


@kernel()
def activation_delta(gradient: Floats, saved: Floats, code: int, out: Floats) -> None:
    """Writes out = dLoss/dz from gradient = dLoss/da, all (B, O); `out` may be `gradient`."""
    floats(gradient, saved, out)
    if gradient.shape != out.shape or saved.shape != out.shape:
        raise ValueError("gradient, saved and out must be (B, O)")
    copy_flat(gradient.reshape(-1), out.reshape(-1))
    derive(code, out.reshape(-1), saved.reshape(-1), out.shape[1])
