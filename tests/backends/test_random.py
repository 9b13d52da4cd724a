"""The same random bits on every backend: Philox's published answers, and dropout masks."""

from __future__ import annotations

import numpy as np
import pytest

from mlp import random
from mlp.backends.protocol import Dropout

# kat_vectors of Random123, philox4x32 with 10 rounds: (counter, key, answer).
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def hexadecimal(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_on_the_host(counter, key, answer):
    words = random.philox(hexadecimal(counter), hexadecimal(key))
    assert tuple(words) == hexadecimal(answer)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_compiled_for_the_processor(counter, key, answer):
    from mlp_kernels.cpu.philox import philox

    given = [np.uint64(word) for word in hexadecimal(counter) + hexadecimal(key)]
    assert philox(*given) == hexadecimal(answer)


def mask(device, shape, rate, seed, step, layer):
    """What dropout makes of a layer whose outputs are all 1."""
    a = device.new(*shape)
    counters = device.put([seed, step, 0, 0], np.int64)
    x, W, b = np.zeros((shape[0], 1)), np.zeros((1, shape[1])), np.ones(shape[1])
    dropout = Dropout(rate, layer, counters)
    device.backend.linear_forward(
        device.put(x), device.put(W), device.put(b), "identity", a, None, dropout
    )
    return device.backend.to_host(a)


# Sizes around the four words of a block, and rows and batches longer than a kernel's block.
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 5), (31, 33), (127, 32), (3, 2101)])
def test_dropout_mask_is_the_same_on_every_backend(device, shape):
    for rate, seed, step, layer in [
        (0.5, 0, 1, 0),
        (0.1, 2**63 - 1, 3, 2),
        (0.9, 2**32 + 5, 2**32 + 7, 65535),
    ]:
        kept = random.dropout_mask(seed, step, layer, shape, rate)
        scale = device.dtype.type(1 / (1 - rate))
        actual = mask(device, shape, rate, seed, step, layer)
        np.testing.assert_array_equal(actual, kept * scale, strict=True)


def test_dropout_keeps_about_the_share_that_it_should(device):
    kept = mask(device, (200, 500), 0.3, 1, 1, 0) > 0
    # Four standard deviations of the mean of 100 000 draws.
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / kept.size)


@pytest.mark.parametrize("change", ["seed", "step", "layer"])
def test_dropout_masks_differ(device, change):
    key = {"seed": 1, "step": 1, "layer": 1}
    first = mask(device, (31, 33), 0.5, **key)
    second = mask(device, (31, 33), 0.5, **{**key, change: 2})
    assert (first != second).any()
