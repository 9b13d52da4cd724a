"""Philox4x32-10 random bits, and dropout made of them.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Element e of a
layer's output is word e % 4 of the block with

    key     = seed (low word, high word)
    counter = (e // 4, purpose * 2^16 + layer, step (low word, high word)).

Words are held in uint64, whose product keeps both halves.
"""

from __future__ import annotations

import numpy as np

from mlp_kernels.cpu.compiler import Floats, kernel

PURPOSE_DROPOUT = np.uint64(2)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF, LAYER_BITS = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(16)
ROUNDS = 10


@kernel()
def philox(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Four random words of 32 bits from a counter and a key, all held in uint64."""
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


@kernel()
def dropout_words(
    block: int, layer: int, seed: int, step: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """The random words of elements 4 block, ..., 4 block + 3 of a layer's output."""
    s, t = np.uint64(seed), np.uint64(step)
    purpose = (PURPOSE_DROPOUT << LAYER_BITS) + np.uint64(layer)
    return philox(np.uint64(block), purpose, t & LOW, t >> HALF, s & LOW, s >> HALF)


@kernel()
def drop(
    a: Floats, first: int, threshold: int, scale: float, layer: int, seed: int, step: int
) -> None:
    """Multiplies by scale where an element is kept, by 0 where it is dropped.

    Args:
        a: (n,), elements first, ..., first + n - 1 of the layer's output.
        threshold: an element is dropped where its word is below this.
        scale: 1 / (1 - rate).
    """
    factor, zero = a.dtype.type(scale), a.dtype.type(0)
    bound = np.uint64(threshold)
    n = a.size
    head = min(-first % 4, n)  # elements of a block that began before this part
    blocks = (n - head) // 4
    if head > 0:
        words = dropout_words(first // 4, layer, seed, step)
        for j in range(head):
            a[j] *= factor if words[(first + j) % 4] >= bound else zero
    for i in range(blocks):
        w0, w1, w2, w3 = dropout_words((first + head) // 4 + i, layer, seed, step)
        j = head + 4 * i
        a[j] *= factor if w0 >= bound else zero
        a[j + 1] *= factor if w1 >= bound else zero
        a[j + 2] *= factor if w2 >= bound else zero
        a[j + 3] *= factor if w3 >= bound else zero
    tail = head + 4 * blocks
    if tail < n:
        words = dropout_words((first + tail) // 4, layer, seed, step)
        for j in range(tail, n):
            a[j] *= factor if words[j - tail] >= bound else zero
