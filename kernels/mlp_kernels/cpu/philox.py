"""Philox4x32-10 random bits, and the dropout and the shuffles made of them.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Element e of a
layer's output is word e % 4 of the block with

    key     = seed (low word, high word)
    counter = (e // 4, purpose * 2^16 + layer, step (low word, high word)).

A shuffle of epoch e sorts n keys of 64 bits; that of row i is words 2i and 2i + 1 of layer 0, with
e as the step, and with i itself in its lowest bits.

Words are held in uint64, whose product keeps both halves. Blocks do not depend on one another: a
vector lane each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp_kernels.cpu.compiler import Floats, kernel

PURPOSE_SHUFFLE, PURPOSE_DROPOUT = np.uint64(1), np.uint64(2)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF, LAYER_BITS = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(16)
ONE, TWO, THREE = np.uint64(1), np.uint64(2), np.uint64(3)
ROUNDS = 10


@kernel(forceinline=True)
def philox(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Four random words of 32 bits from a counter and a key, all held in uint64."""
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


@kernel(forceinline=True)
def block_words(
    block: int, purpose: np.uint64, layer: int, seed: int, step: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Words 4 block, ..., 4 block + 3 of what is drawn for a purpose, layer and step."""
    s, t = np.uint64(seed), np.uint64(step)
    use = (purpose << LAYER_BITS) + np.uint64(layer)
    return philox(np.uint64(block), use, t & LOW, t >> HALF, s & LOW, s >> HALF)


@kernel(forceinline=True)
def dropout_words(
    block: int, layer: int, seed: int, step: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """The random words of elements 4 block, ..., 4 block + 3 of a layer's output."""
    return block_words(block, PURPOSE_DROPOUT, layer, seed, step)


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
    whole = a[head : head + 4 * blocks]
    for i in range(blocks):
        w0, w1, w2, w3 = dropout_words((first + head) // 4 + i, layer, seed, step)
        # An index that might be negative, and so count from the end, would keep the loop scalar.
        k = np.uint64(4 * i)
        whole[k] *= factor if w0 >= bound else zero
        whole[k + ONE] *= factor if w1 >= bound else zero
        whole[k + TWO] *= factor if w2 >= bound else zero
        whole[k + THREE] *= factor if w3 >= bound else zero
    tail = head + 4 * blocks
    if tail < n:
        words = dropout_words((first + tail) // 4, layer, seed, step)
        for j in range(tail, n):
            a[j] *= factor if words[j - tail] >= bound else zero


@kernel()
def index_bits(n: int) -> int:
    """How many bits hold the numbers 0, ..., n - 1; at least 1."""
    bits = 1
    while (n - 1) >> bits:
        bits += 1
    return bits


@kernel()
def shuffle(seed: int, epoch: int, order: Any, room: Any) -> None:
    """The order (n,) in which an epoch visits n rows; room (3 n + 4,) for intermediate results.

    The keys are evenly spread, so that counting their first bits brings each within a few places of
    where it belongs, and moving it there is cheap.
    """
    n = order.size
    bits = index_bits(n)
    keys, ends = room[: n + 1], room[2 * n + 1 :]
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for block in range((n + 1) // 2):
        w0, w1, w2, w3 = block_words(block, PURPOSE_SHUFFLE, 0, seed, epoch)
        i = np.uint64(2 * block)
        keys[i] = np.int64((((w0 << HALF) | w1) & ~mask) | i)
        keys[i + ONE] = np.int64((((w2 << HALF) | w3) & ~mask) | (i + ONE))
    # Keys are uint64 in int64 arrays: the shift below leaves small positive numbers of either.
    slots = 1 << (bits - 1)
    shift = np.uint64(64 - (bits - 1)) if bits > 1 else np.uint64(63)
    for place in range(slots + 1):
        ends[place] = 0
    for key in keys[:n]:
        ends[slot(key, shift, slots) + 1] += 1
    for place in range(slots):
        ends[place + 1] += ends[place]
    moved = room[n + 1 : 2 * n + 1]
    for key in keys[:n]:
        place = slot(key, shift, slots)
        moved[ends[place]] = key
        ends[place] += 1
    for row in range(1, n):
        key, place = moved[row], row
        while place > 0 and np.uint64(moved[place - 1]) > np.uint64(key):
            moved[place] = moved[place - 1]
            place -= 1
        moved[place] = key
    for row in range(n):
        order[row] = np.int64(np.uint64(moved[row]) & mask)


@kernel(forceinline=True)
def slot(key: int, shift: np.uint64, slots: int) -> Any:
    return np.int64(np.uint64(key) >> shift) if slots > 1 else 0
