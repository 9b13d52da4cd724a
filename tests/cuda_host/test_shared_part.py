"""Where an operand's numbers lie in shared memory: all apart, and read without bank conflicts."""

from __future__ import annotations

import numpy as np
import pytest

from mlp_kernels.cuda.launch import Launch
from tests.cuda_host.memory import empty
from tests.cuda_host.run import run

BANKS, BANK_BYTES = 32, 4
# (number, bytes of one, along the depth, lines, length, segmented), as tiles.py has them.
PARTS = [
    ("bfloat16", 2, True, 128, 32, False),
    ("bfloat16", 2, True, 64, 64, False),
    ("bfloat16", 2, False, 32, 32, False),
    ("bfloat16", 2, False, 32, 256, False),
    ("bfloat16", 2, False, 64, 128, False),
    ("bfloat16", 2, True, 128, 64, True),
    ("bfloat16", 2, False, 64, 256, True),
    ("float", 4, True, 128, 16, False),
    ("float", 4, True, 64, 32, False),
    ("float", 4, False, 16, 128, False),
    ("float", 4, False, 32, 32, False),
]
part = pytest.mark.parametrize(
    "part", PARTS, ids=lambda p: f"{p[0]}-{'along' if p[2] else 'across'}-{p[3]}x{p[4]}-{p[5]}"
)


@pytest.fixture
def bytes_of(kernel):
    """A function that gives the byte at which each number of a part begins (lines, length)."""

    def make(part) -> np.ndarray:
        number, size, along, lines, length, segmented = part
        factor = f"Operand<{number}, {str(along).lower()}>"
        of = f"SharedPart<{factor}, {lines}, {length}, 128, 16, {str(segmented).lower()}>"
        launched = kernel(
            "int* out",
            f"if (i < {lines * length}) out[i] = {of}::place(i / {length}, i % {length});",
            before='#include "shared_part.cuh"',
        )
        out = empty((lines, length), np.int32)
        blocks = -(-lines * length // 128)
        run(Launch(launched, (blocks, 1, 1), (128, 1, 1), (out,)))
        return out * size

    return make


def conflicts(starts: np.ndarray, size: int) -> int:
    """How many times more than once a bank is asked for different words at once."""
    words = (starts[:, None] + np.arange(0, size, BANK_BYTES)).ravel() // BANK_BYTES
    _, counts = np.unique(np.unique(words) % BANKS, return_counts=True)
    return int((counts - 1).sum())


@part
def test_numbers_lie_apart_and_16_bytes_stay_together(bytes_of, part):
    _, size, _, lines, length, _ = part
    places = bytes_of(part)
    assert sorted(places.ravel()) == list(range(0, lines * length * size, size))
    chunks = places.reshape(lines, -1, 16 // size)
    assert (chunks[..., 0] % 16 == 0).all()
    assert (np.diff(chunks, axis=-1) == size).all()


@part
def test_fragments_are_read_without_conflicts(bytes_of, part):
    _, size, along, lines, length, _ = part
    places = bytes_of(part)
    if size == 4 and not along:  # number by number: 4 depths of 8 neighbours
        for line in range(0, lines, 4):
            for first in range(0, length, 8):
                at_once = places[line : line + 4, first : first + 8].ravel()
                assert conflicts(at_once, 4) == 0
        return
    for line in range(0, lines, 8):  # an 8 x 8 matrix of 16 bytes a line
        for first in range(0, length, 16 // size):
            assert conflicts(places[line : line + 8, first], 16) == 0


@part
def test_copies_arrive_without_conflicts(bytes_of, part):
    """Eight threads in a row write 16 bytes each at a time."""
    _, size, _, _, _, _ = part
    places = bytes_of(part).reshape(-1, 16 // size)[:, 0]
    for first in range(0, len(places), 8):
        assert conflicts(places[first : first + 8], 16) == 0
