"""Results to test with, made up so that they can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

from bench.cases import Case
from bench.kernels import KernelCase
from bench.record import CaseResult, KernelResult, PeerResult, Record

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


GPU = {
    "name": "A GPU", "capability": "9.0", "processors": 132, "memory_gib": 80.0,
    "cache_mib": 50.0, "cuda_of_driver": "13.0", "cuda": "13.0", "cublaslt": None,
    "driver": "580.1", "clock": "1980 MHz", "clock_most": "1980 MHz",
}  # fmt: skip
PRODUCT = KernelCase("linear_forward", 10, 20, 30, activation="tanh")
UPDATE = KernelCase("adam", 1000)


def gpu_record(*cases: CaseResult, beside: str | None = None) -> Record:
    """Ceilings of 1e-3 GFLOP/s and 2e-3 GB/s; a product beside the library, an update alone."""
    return replace(
        record(*cases),
        gpu=GPU,
        peaks={"float32": {"torch": 1e-3, "jax": 5e-4}},
        copies={"torch": 1e-3, "cupy": 2e-3},
        kernels=[
            KernelResult(
                PRODUCT, {"ours": (0.02, 0.01, 0.02), "cublaslt": (0.03, 0.02, 0.02)}, {}, 5
            ),
            KernelResult(UPDATE, {"ours": (0.014,) * 3}, {}, 2),
            KernelResult(UPDATE, {}, {"ours": "out of luck"}, 0),
        ],
        beside=beside,
    )


def on_a_gpu() -> CaseResult:
    """Ours and a slower peer, ours by the GPU's clock, too."""
    peers = three_peers().peers
    ours = replace(peers["ours"], device_rates=(400.0, 400.0, 400.0))
    slow = replace(peers["slow"], device_rates=(None, None, None))
    return result(ours=ours, **{"torch-graph": slow})
