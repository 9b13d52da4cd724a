"""The counter-based generator: published vectors, and what is drawn from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlp import random
from mlp.errors import InvalidSetting

# Of the Random123 library's kat_vectors: philox4x32 with 10 rounds.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
ROWS = st.integers(1, 400)


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert tuple(random.philox(counter, key)) == expected


def test_words_are_the_blocks_of_their_counter():
    seed, step = (7 << 32) + 5, (3 << 32) + 11
    drawn = random.words(seed, random.PURPOSE_DROPOUT, step, layer=4, count=10)
    blocks = [
        random.philox((block, (2 << 16) + 4, 11, 3), (5, 7)) for block in range(3)
    ]  # fmt: skip
    np.testing.assert_array_equal(drawn, np.concatenate(blocks)[:10])
    np.testing.assert_array_equal(random.words(seed, random.PURPOSE_DROPOUT, step, 4, 3), drawn[:3])


def test_every_part_of_the_key_matters():
    base = {"seed": 1, "purpose": 1, "step": 1, "layer": 1}
    drawn = {tuple(random.words(**base, count=4))}
    for name in base:
        for value in (0, 2, 2**16 - 1) if name in ("purpose", "layer") else (0, 2, 2**32, 2**40):
            drawn.add(tuple(random.words(**base | {name: value}, count=4)))
    assert len(drawn) == 1 + 2 * 4 + 2 * 3


@given(n=ROWS, seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**40))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_a_permutation_holds_every_row_once(n, seed, epoch):
    order = random.permutation(seed, epoch, n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [1, 2, 3, 32, 33])
def test_a_permutation_sorts_rows_by_64_random_bits_with_the_row_in_the_lowest(n):
    seed, epoch = 2**40 + 3, 2**33 + 1
    drawn = random.words(seed, random.PURPOSE_SHUFFLE, epoch, 0, 2 * n).tolist()
    low = 2 ** max((n - 1).bit_length(), 1)
    keys = [((drawn[2 * i] * 2**32 + drawn[2 * i + 1]) // low * low + i, i) for i in range(n)]
    assert random.permutation(seed, epoch, n).tolist() == [i for _, i in sorted(keys)]


def test_permutations_differ_by_seed_and_epoch_only():
    orders = {tuple(random.permutation(s, e, 50)) for s in range(4) for e in range(4)}
    assert len(orders) == 16
    np.testing.assert_array_equal(random.permutation(2, 3, 50), random.permutation(2, 3, 50))


def test_every_order_of_four_rows_is_as_likely_as_any_other():
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(4800):
        order = tuple(random.permutation(17, epoch, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_every_row_of_a_long_order_may_come_anywhere():
    places = np.stack([random.permutation(3, epoch, 64) for epoch in range(500)])
    table = np.stack([np.bincount(places[:, i], minlength=64) for i in range(64)])
    # Rows and columns of the table have fixed sums: (64 - 1)² degrees of freedom.
    statistic = ((table - 500 / 64) ** 2 / (500 / 64)).sum()
    assert 0.005 < stats.chi2(63 * 63).cdf(statistic) < 0.995


def test_uniform_draws():
    drawn = random.uniform(5, random.PURPOSE_INITIALIZE, 0, 20_000)
    assert drawn.dtype == np.float64
    assert 0 < drawn.min() < 1e-3
    assert 0.999 < drawn.max() < 1
    assert stats.chisquare(np.histogram(drawn, 50, (0, 1))[0]).pvalue > 0.01
    # The bits below those that a float32 would keep are random too.
    low = (drawn * 2**40) % 1
    assert stats.chisquare(np.histogram(low, 50, (0, 1))[0]).pvalue > 0.01


@pytest.mark.parametrize("count", [1, 2, 7, 20_001])
def test_normal_draws(count):
    drawn = random.normal(6, random.PURPOSE_INITIALIZE, 1, count)
    assert drawn.shape == (count,)
    assert np.isfinite(drawn).all()
    if count > 1000:
        assert stats.kstest(drawn, "norm").pvalue > 0.01
        half = count // 2  # the cosines and sines of one pair must not go together
        assert abs(np.corrcoef(drawn[:half], drawn[half + 1 :])[0, 1]) < 0.03


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9])
def test_dropout_masks_keep_their_share(rate):
    mask = random.dropout_mask(seed=1, step=9, layer=0, shape=(200, 300), rate=rate)
    assert mask.dtype == bool
    dropped = int((~mask).sum())
    assert stats.binomtest(dropped, mask.size, rate).pvalue > 0.01
    assert abs(np.corrcoef(mask[:, :-1].ravel(), mask[:, 1:].ravel())[0, 1]) < 0.02


def test_dropout_masks_are_row_major_so_that_a_short_batch_sees_the_first_rows():
    full = random.dropout_mask(1, 2, 3, (8, 5), 0.5)
    np.testing.assert_array_equal(random.dropout_mask(1, 2, 3, (3, 5), 0.5), full[:3])
    drawn = random.words(1, random.PURPOSE_DROPOUT, 2, 3, 40).reshape(8, 5)
    np.testing.assert_array_equal(full, drawn >= 2**31)


def test_a_word_at_the_threshold_is_kept(monkeypatch):
    edge = np.array([2**31 - 1, 2**31, 2**31 + 1], dtype=np.uint32)
    monkeypatch.setattr(random, "words", lambda *_: edge)
    assert random.dropout_mask(1, 1, 0, (1, 3), 0.5).tolist() == [[False, True, True]]


def test_dropout_masks_differ_by_seed_step_and_layer():
    keys = [(1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 1, 1)]
    masks = {random.dropout_mask(*key, (6, 6), 0.5).tobytes() for key in keys}
    assert len(masks) == len(keys)


def test_a_threshold_is_a_share_of_the_words():
    assert random.dropout_threshold(0.5) == 2**31
    assert random.dropout_threshold(0.25) == 2**30
    assert random.dropout_threshold(1 - 2**-53) == 2**32 - 1


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, np.int64(4)])
def test_seeds(seed):
    assert random.check_seed(seed) == int(seed)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1", None, True])
def test_not_seeds(seed):
    with pytest.raises(InvalidSetting, match="seed must be a whole number from 0 to"):
        random.check_seed(seed)
