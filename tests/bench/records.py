"""Results to test with, made up so that they can be checked by hand."""

from __future__ import annotations

from bench.cases import Case
from bench.record import CaseResult, PeerResult, Record

CASE = Case("small", "train", (3, 4, 2), rows=8, batch=4, epochs=2)


def result(**peers: PeerResult) -> CaseResult:
    return CaseResult(CASE, peers)


def three_peers() -> CaseResult:
    """Ours beside a slower peer, a void one and one that is not installed."""
    return result(
        ours=PeerResult((300.0, 100.0, 200.0), (0.50, 0.51, 0.50), (0.0,) * 3, 100.0, 0.5, 0.25),
        slow=PeerResult((100.0, 100.0, 50.0), (0.52, 0.52, 0.52), (0.0,) * 3, 200.0, 1.0, 2.0),
        wrong=PeerResult((9e6, 9e6, 9e6), (2.3, 2.3, 2.3), (0.0,) * 3, 300.0, 1.0, 0.5),
        missing=PeerResult(absent="missing is not installed"),
    )


def record(*cases: CaseResult) -> Record:
    return Record(
        date="2026-11-21T12:00:00+00:00",
        machine={
            "cpu": "A Processor", "flags": ["avx2"], "cores": 2, "system": "Linux 6",
            "architecture": "x86_64", "memory_gib": 8.0,
        },
        versions={"python": "3.12.0", "mlp": "0.1.0"},
        source={"commit": "0123456789abcdef", "dirty": False},
        settings={"threads": 2, "repeats": 3, "seconds": 1.0},
        peaks={"float32": {"numpy": 100.0, "torch": 200.0}},
        cases=list(cases),
    )  # fmt: skip
