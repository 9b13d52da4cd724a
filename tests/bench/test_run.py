"""Measurements from end to end: ours, a peer that is not there, and peers that misbehave."""

import math
import os
import signal
from dataclasses import replace

import pytest

from bench.cases import Case
from bench.entrant import Settings
from bench.peers import PEERS, Peer
from bench.process import PeerFailed, Worker
from bench.progress import Silent
from bench.run import measure_case, measure_peaks, run_cases
from tests.bench import strange_peers

TINY = Case("tiny", "train", (4, 3, 2), rows=16, batch=8, epochs=2)
ROWS = Case("rows", "predict", (4, 3, 2), rows=16, batch=8)
SETTINGS = Settings(threads=1, repeats=2, seconds=0.01)
ABSENT = Peer("absent", "a_library_that_nobody_has")
STRANGE = Peer("strange", "tests.bench.strange_peers")


class Counting(Silent):
    """Progress that counts."""

    expected = done = 0

    def expect(self, steps: int) -> None:
        self.expected = steps

    def advance(self) -> None:
        self.done += 1


def test_ours_and_a_peer_that_is_not_installed() -> None:
    progress = Counting()
    peers = [PEERS["ours"], ABSENT]
    trained, predicted = run_cases([TINY, ROWS], peers, SETTINGS, progress)
    assert progress.done == progress.expected == 2 * 2 * (1 + SETTINGS.repeats)
    for result in (trained, predicted):
        assert list(result.peers) == ["ours", "absent"]
        ours, absent = result.peers.values()
        assert ours.absent is None
        assert len(ours.rates) == len(ours.losses) == len(ours.others) == SETTINGS.repeats
        assert all(rate > 0 for rate in ours.rates)
        assert ours.losses[0] == ours.losses[1] < 2 * math.log(2)
        assert ours.first_step_s is not None
        assert absent.absent == "a_library_that_nobody_has is not installed"
        assert absent.rates == ()


def test_a_precision_that_is_not_there_is_a_reason() -> None:
    float16 = replace(TINY, precision="float17")
    (ours,) = measure_case(float16, [PEERS["ours"]], SETTINGS, Silent()).peers.values()
    assert ours.absent is not None
    assert "unknown precision 'float17'" in ours.absent


def test_a_peer_takes_part_only_in_its_precisions() -> None:
    in_bfloat16 = replace(TINY, precision="bfloat16")
    (result,) = run_cases([in_bfloat16], [ABSENT, STRANGE], SETTINGS, Silent())
    assert result.peers == {}


@pytest.mark.parametrize(
    ("epochs", "reason"),
    [
        (strange_peers.PRINTS, None),
        (strange_peers.DIES, "the process ended with code 3: out of luck"),
        (strange_peers.DIVERGES, "ArithmeticError: the loss after the measurement is nan"),
    ],
)
def test_peers_that_misbehave(epochs, reason) -> None:
    case = replace(TINY, epochs=epochs)
    (result,) = measure_case(case, [STRANGE], SETTINGS, Silent()).peers.values()
    assert result.absent == reason
    assert len(result.rates) == (0 if reason else SETTINGS.repeats)


def test_peaks_of_the_libraries_that_are_here() -> None:
    settings = replace(SETTINGS, seconds=0.001)
    assert measure_peaks(["float32"], settings, Silent())["float32"]["numpy"] > 0


@pytest.mark.skipif(os.name != "posix", reason="sessions of processes are POSIX")
def test_close_ends_the_process() -> None:
    with Worker(threads=1) as worker:
        assert worker.ask("finish").keys() == {"memory_mib"}
    assert worker.process.returncode == -signal.SIGKILL


def test_an_unknown_request_is_an_answer() -> None:
    with Worker(threads=1) as worker, pytest.raises(PeerFailed, match="AttributeError"):
        worker.ask("dance")
