"""Counter-based random numbers: the value at a place depends on its key alone.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
maps a 128-bit counter and a 64-bit key to 128 random bits. Key and counter say what a number is
for, so every backend draws the same bits in any order, and a run needs no generator state:

    key     = seed (low word, high word)
    counter = (block, purpose * 2^16 + layer, step (low word, high word))

Element i of a draw is word i % 4 of block i // 4.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from mlp.errors import InvalidSetting, as_int

Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]
Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

PURPOSE_INITIALIZE, PURPOSE_SHUFFLE, PURPOSE_DROPOUT, PURPOSE_CHECK = 0, 1, 2, 3
# Of rows that are read in blocks: the order of the blocks, that of a window's rows, which are held
# out.
PURPOSE_BLOCKS, PURPOSE_WINDOW, PURPOSE_HOLD_OUT = 4, 5, 6

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
BLOCKS_AT_ONCE = 2**14  # so that the words in between stay in the cache
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def check_seed(seed: object) -> int:
    """`seed` as an int in [0, 2^63), or an InvalidSetting."""
    number = as_int(seed, -1)
    if not 0 <= number < 2**63:
        raise InvalidSetting(f"seed must be a whole number from 0 to 2^63 - 1, not {seed!r}")
    return number


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> Words:
    """Philox4x32-10 of four broadcastable counter words and a two-word key: uint32 (..., 4)."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    k0, k1 = key
    for _ in range(ROUNDS):
        p0 = c0 * np.uint64(MULTIPLIER_0)
        p1 = c2 * np.uint64(MULTIPLIER_1)
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0 = (k0 + WEYL_0) & 0xFFFFFFFF
        k1 = (k1 + WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(seed: int, purpose: int, step: int, layer: int, count: int, first: int = 0) -> Words:
    """`count` random uint32 words for one purpose, step and layer, from the word `first` on."""
    begin, end = first // 4, (first + count + 3) // 4
    key = (seed & 0xFFFFFFFF, seed >> 32)
    drawn = np.empty((end - begin, 4), np.uint32)
    for start in range(begin, end, BLOCKS_AT_ONCE):
        blocks = np.arange(start, min(start + BLOCKS_AT_ONCE, end), dtype=np.uint64)
        counter = (blocks, purpose * 65536 + layer, step & 0xFFFFFFFF, step >> 32)
        drawn[start - begin : start - begin + len(blocks)] = philox(counter, key)
    return drawn.reshape(-1)[first - 4 * begin :][:count]


def dropout_threshold(rate: float) -> int:
    """A unit is dropped where its random word is below this: probability `rate` to 2^-32."""
    return min(round(rate * 2**32), 2**32 - 1)


def dropout_mask(
    seed: int, step: int, layer: int, shape: tuple[int, int], rate: float
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True (B, O) where a unit is kept in this step; rows in order, so row-major element index."""
    drawn = words(seed, PURPOSE_DROPOUT, step, layer, shape[0] * shape[1])
    kept: np.ndarray[Any, np.dtype[np.bool_]] = drawn >= np.uint32(dropout_threshold(rate))
    return kept.reshape(shape)


def permutation(
    seed: int, epoch: int, n: int, purpose: int = PURPOSE_SHUFFLE
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order (n,) in which epoch `epoch` (from 0) visits n rows.

    Each row gets 64 random bits whose lowest bits are replaced by its own index; sorting those
    distinct keys is a shuffle that any sort, on any device, repeats.
    """
    pairs = words(seed, purpose, epoch, 0, 2 * n).reshape(n, 2).astype(np.uint64)
    index_bits = np.uint64((1 << max(n - 1, 1).bit_length()) - 1)
    keys = (pairs[:, 0] << _HALF) | pairs[:, 1]
    keys = (keys & ~index_bits) | np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & index_bits).astype(np.int64)


def uniform(seed: int, purpose: int, layer: int, count: int) -> Doubles:
    """`count` float64 values in (0, 1), 53 random bits each; never 0, so its logarithm is safe."""
    pairs = words(seed, purpose, 0, layer, 2 * count).reshape(count, 2).astype(np.uint64)
    bits = ((pairs[:, 0] << _HALF) | pairs[:, 1]) >> np.uint64(11)
    result: Doubles = (bits.astype(np.float64) + 0.5) * 2.0**-53
    return result


def normal(seed: int, purpose: int, layer: int, count: int) -> Doubles:
    """`count` standard normal float64 values by the Box-Muller transform."""
    half = (count + 1) // 2
    u = uniform(seed, purpose, layer, 2 * half)
    radius, angle = np.sqrt(-2 * np.log(u[:half])), 2 * np.pi * u[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
