"""Dense layers: a matrix product, and everything else done to its result while that is in cache.

Row-major; x (B, I), W (I, O), b (O,). The functions on rows take flat arrays and where in them each
matrix starts, so that the same ones serve single operations and whole compiled steps. Dropout comes
as numbers: threshold, scale, layer, seed, step (see `philox.drop`); threshold 0 is no dropout.
"""

from __future__ import annotations

from mlp_kernels.cpu.activations import FIRST_FROM_Z
from mlp_kernels.cpu.call import call
from mlp_kernels.cpu.compiler import Floats, Integers, floats, int64s, kernel, one_dtype
from mlp_kernels.cpu.tiles import sum_rows
from mlp_kernels.cpu.units import Units

# Rows whose product is made before the rest is done to them.
CHUNK = 512
# Elements to which the rest is done at a time: 8 to 16 KiB, so that a block of two arrays is at
# home in a level-1 cache.
BLOCK = 2048


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
def add_bias(a: Floats, b: Floats) -> None:
    """Adds b (width,) to each row of a (rows * width,)."""
    width = b.size
    for start in range(0, a.size, width):
        row = a[start : start + width]
        for j in range(width):
            row[j] += b[j]


@kernel()
def copy_flat(source: Floats, out: Floats) -> None:
    for j in range(source.size):
        out[j] = source[j]


@kernel()
def forward_rows(
    x: Floats, x_start: int,
    W: Floats, W_start: int, b: Floats, b_start: int,
    inputs: int, outputs: int, code: int,
    a: Floats, a_start: int, saved: Floats, saved_start: int, keep: bool,
    first: int, last: int,
    threshold: int, scale: float, layer: int, seed: int, step: int,
    units: Units, scratch: Floats,
) -> None:  # fmt: skip
    """`a = g(x @ W + b)`, then dropout, for rows first, ..., last - 1 of a batch.

    With `keep`, `saved` is apart from `a` and receives what g' is written from, z or g(z).
    """
    stride = max(1, BLOCK // outputs)
    bias = b[b_start : b_start + outputs]
    for top in range(first, last, CHUNK):
        bottom = min(top + CHUNK, last)
        call(units.product, (
            x, x_start + top * inputs, inputs, False, W, W_start, outputs, False,
            a, a_start + top * outputs, outputs, bottom - top, outputs, inputs, scratch,
        ))  # fmt: skip
        for row in range(top, bottom, stride):
            rows = min(stride, bottom - row)
            begin, end = row * outputs, (row + rows) * outputs
            block = a[a_start + begin : a_start + end]
            add_bias(block, bias)
            if keep and code >= FIRST_FROM_Z:
                copy_flat(block, saved[saved_start + begin : saved_start + end])
            call(units.activate, (code, block, block.size, outputs))
            if keep and code < FIRST_FROM_Z:
                copy_flat(block, saved[saved_start + begin : saved_start + end])
            if threshold > 0:
                call(
                    units.drop,
                    (block, block.size, begin, threshold, scale, layer, seed, step),
                )


@kernel()
def delta_rows(
    delta: Floats, delta_start: int, W: Floats, W_start: int, inputs: int, outputs: int,
    saved: Floats, saved_start: int, code: int, out: Floats, out_start: int,
    first: int, last: int,
    threshold: int, scale: float, layer: int, seed: int, step: int,
    units: Units, scratch: Floats,
) -> None:  # fmt: skip
    """`out = (delta @ W.T) * dropout * g'(saved)` for rows first, ..., last - 1 of a batch.

    delta is (B, outputs); saved, out (B, inputs), code and dropout belong to the layer before.
    """
    stride = max(1, BLOCK // inputs)
    for top in range(first, last, CHUNK):
        bottom = min(top + CHUNK, last)
        call(units.product, (
            delta, delta_start + top * outputs, outputs, False, W, W_start, outputs, True,
            out, out_start + top * inputs, inputs, bottom - top, inputs, outputs, scratch,
        ))  # fmt: skip
        for row in range(top, bottom, stride):
            begin, end = row * inputs, min(row + stride, bottom) * inputs
            block = out[out_start + begin : out_start + end]
            if threshold > 0:
                call(
                    units.drop,
                    (block, block.size, begin, threshold, scale, layer, seed, step),
                )
            part = saved[saved_start + begin : saved_start + end]
            call(units.derive, (code, block, part, block.size, inputs))


@kernel()
def linear_forward(
    x: Floats, W: Floats, b: Floats, code: int, a: Floats, saved: Floats, keep: bool,
    threshold: int, scale: float, layer: int, seed: int, step: int,
    units: Units, scratch: Floats,
) -> None:  # fmt: skip
    """`forward_rows` of a whole batch: x (B, I), W (I, O), b (O,), a, saved (B, O)."""
    floats(x, W, b, a, saved)
    rows, outputs = a.shape
    inputs = x.shape[1]
    if x.shape[0] != rows or W.shape != (inputs, outputs):
        raise ValueError("x must be (B, I), W (I, O) and a (B, O)")
    if b.size != outputs or saved.shape != a.shape:
        raise ValueError("b must be (O,) and saved (B, O)")
    forward_rows(
        x.reshape(-1), 0, W.reshape(-1), 0, b, 0, inputs, outputs, code,
        a.reshape(-1), 0, saved.reshape(-1), 0, keep, 0, rows,
        threshold, scale, layer, seed, step, units, scratch,
    )  # fmt: skip


@kernel()
def linear_delta(
    delta: Floats, W: Floats, saved: Floats, code: int, out: Floats, db_prev: Floats,
    threshold: int, scale: float, layer: int, seed: int, step: int,
    units: Units, scratch: Floats,
) -> None:  # fmt: skip
    """`delta_rows` of a whole batch, and the column sums of its result in db_prev (I,).

    delta (B, O); W (I, O); saved, out (B, I).
    """
    floats(delta, W, saved, out, db_prev)
    rows, inputs = out.shape
    outputs = delta.shape[1]
    if delta.shape[0] != rows or W.shape != (inputs, outputs):
        raise ValueError("delta must be (B, O), W (I, O) and out (B, I)")
    if db_prev.size != inputs or saved.shape != out.shape:
        raise ValueError("saved must be (B, I) and db_prev (I,)")
    flat = out.reshape(-1)
    delta_rows(
        delta.reshape(-1), 0, W.reshape(-1), 0, inputs, outputs,
        saved.reshape(-1), 0, code, flat, 0, 0, rows,
        threshold, scale, layer, seed, step, units, scratch,
    )  # fmt: skip
    sum_rows(flat, 0, inputs, db_prev, 0, rows, inputs)


@kernel()
def linear_grads(x: Floats, delta: Floats, dW: Floats, units: Units, scratch: Floats) -> None:
    """`dW = x.T @ delta`: x (B, I), delta (B, O), dW (I, O)."""
    floats(x, delta, dW)
    rows, inputs = x.shape
    outputs = delta.shape[1]
    if delta.shape[0] != rows or dW.shape != (inputs, outputs):
        raise ValueError("x must be (B, I), delta (B, O) and dW (I, O)")
    call(units.product, (
        x.reshape(-1), 0, inputs, True, delta.reshape(-1), 0, outputs, False,
        dW.reshape(-1), 0, outputs, inputs, outputs, rows, scratch,
    ))  # fmt: skip


@kernel()
def column_sums(delta: Floats, db: Floats) -> None:
    """Writes the column sums of delta (B, O) to db (O,)."""
    floats(delta, db)
    rows, width = delta.shape
    if db.size != width:
        raise ValueError("db must be (O,)")
    sum_rows(delta.reshape(-1), 0, width, db, 0, rows, width)


@kernel()
def activation_delta(gradient: Floats, saved: Floats, code: int, out: Floats, units: Units) -> None:
    """Writes out = dLoss/dz from gradient = dLoss/da, all (B, O); `out` may be `gradient`."""
    floats(gradient, saved, out)
    if gradient.shape != out.shape or saved.shape != out.shape:
        raise ValueError("gradient, saved and out must be (B, O)")
    copy_flat(gradient.reshape(-1), out.reshape(-1))
    call(units.derive, (code, out, saved, out.size, out.shape[1]))
