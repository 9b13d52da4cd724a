"""Prediction, compiled: blocks of rows through all layers while they are in cache."""

from __future__ import annotations

from mlp_kernels.cpu.call import borrowed
from mlp_kernels.cpu.compiler import Floats, Integers, kernel
from mlp_kernels.cpu.dense import forward_rows
from mlp_kernels.cpu.team import share
from mlp_kernels.cpu.units import Units

# Rows that go through all layers together: a whole number of tiles, and what two layers of a few
# hundred outputs make of them is at home in a level-2 cache.
BLOCK_ROWS = 128

INPUTS, OUTPUTS, W_START, B_START, CODE = range(5)
COLUMNS = 5


@kernel(nogil=True)
def predict(
    layers: Integers, units: Units, parameters: Floats, x: Floats, out: Floats,
    room: Floats, scratch: Floats, thread: int, threads: int,
) -> None:  # fmt: skip
    """One thread's blocks of out (N, O), the activations of the last layer for rows x (N, I).

    Args:
        layers: (L, COLUMNS) int64, first elements in the flat parameters among them.
        room: (threads, 2 * BLOCK_ROWS * widest layer).
        scratch: (threads, SCRATCH_BYTES) of the type of the products.
    """
    layers, parameters, room = borrowed(layers), borrowed(parameters), borrowed(room)
    x, out, scratch = borrowed(x), borrowed(out), borrowed(scratch)
    depth = layers.shape[0]
    all_x, all_out = x.reshape(-1), out.reshape(-1)
    own, half = room[thread], room.shape[1] // 2
    first, last = share(x.shape[0], BLOCK_ROWS, thread, threads)
    for top in range(first, last, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, last - top)
        source, start = all_x, top * layers[0, INPUTS]
        for i in range(depth):
            width = layers[i, OUTPUTS]
            target, begin = own, half * (i % 2)
            if i == depth - 1:
                target, begin = all_out, top * width
            forward_rows(
                source, start, parameters, layers[i, W_START], parameters, layers[i, B_START],
                layers[i, INPUTS], width, layers[i, CODE],
                target, begin, target, begin, False, 0, rows, 0, 1.0, i, 0, 0,
                units, scratch[thread],
            )  # fmt: skip
            source, start = target, begin
