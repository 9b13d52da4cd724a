"""Medians, ratios, shares and the void rule, against hand computation."""

from dataclasses import replace

import pytest

from bench.compare import Spread, compare, paired_ratio, void_reasons
from bench.record import PeerResult
from tests.bench.records import CASE, result, three_peers

PEAKS = {"float32": {"numpy": 1e-5, "torch": 2e-5}}


def test_ratio_is_paired() -> None:
    # 300/100, 100/100, 200/50: not the ratio of the medians, which is 2.
    assert paired_ratio((300, 100, 200), (100, 100, 50)) == Spread(3.0, 1.0, 4.0)


def test_repeats_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio((1, 2), (1,))


def test_table_of_a_case() -> None:
    comparison = compare(three_peers(), PEAKS)
    ours, slow, wrong, missing = comparison.rows
    assert [row.peer for row in comparison.rows] == ["ours", "slow", "wrong", "missing"]
    assert (comparison.best, comparison.ratio) == ("slow", Spread(3.0, 1.0, 4.0))
    flops = 6 * (3 * 4 + 4 * 2) - 2 * 3 * 4
    assert ours.rate == 200
    assert ours.gflops == pytest.approx(200 * flops / 1e9)
    assert ours.share == pytest.approx(200 * flops / 1e9 / 2e-5)
    assert (ours.ratio, ours.start_s, ours.loss, ours.remark) == (None, 0.75, 0.5, None)
    assert slow.ratio == Spread(3.0, 1.0, 4.0)
    assert (wrong.rate, wrong.ratio) == (9e6, None)
    assert wrong.remark == "void: its loss 2.3 is not the others' 0.52"
    assert (missing.rate, missing.remark) == (None, "missing is not installed")


def test_best_is_the_fastest_that_counts() -> None:
    peers = dict(three_peers().peers)
    peers["fast"] = replace(peers["slow"], rates=(400.0, 400.0, 400.0))
    comparison = compare(result(**peers), PEAKS)
    assert comparison.best == "fast"
    assert comparison.ratio == Spread(0.5, 0.25, 0.75)


def test_void_rule() -> None:
    # Of 1.0 a tenth, of 0.1 the 0.02.
    assert list(void_reasons({"a": 1.0, "b": 1.0, "c": 1.09, "d": 1.11, "e": 0.89})) == ["d", "e"]
    assert list(void_reasons({"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.119, "e": 0.121})) == ["e"]
    assert void_reasons({"a": 5.0}) == {}
    assert void_reasons({}) == {}
    assert list(void_reasons({"a": 1.0, "b": 2.0})) == ["a", "b"]


def test_ours_void_or_absent_or_alone() -> None:
    peers = dict(three_peers().peers)
    slow, other = peers["slow"], replace(peers["slow"], rates=(90.0, 90.0, 90.0))
    for ours in (replace(peers["ours"], losses=(2.0,) * 3), PeerResult(absent="broken")):
        comparison = compare(result(ours=ours, slow=slow, other=other), PEAKS)
        assert (comparison.best, comparison.ratio) == ("slow", None)
        assert all(row.ratio is None for row in comparison.rows)
    alone = compare(result(ours=peers["ours"]), PEAKS)
    assert (alone.best, alone.ratio) == (None, None)


def test_without_a_peak_of_the_precision() -> None:
    in_bfloat16 = replace(three_peers(), case=replace(CASE, precision="bfloat16"))
    assert compare(in_bfloat16, PEAKS).rows[0].share is None
    assert compare(three_peers(), {}).rows[0].share is None


def test_others_is_what_was_known() -> None:
    peer = replace(three_peers().peers["ours"], others=(None, 0.5, 0.25))
    assert compare(result(ours=peer), PEAKS).rows[0].others == 0.375
