"""What is measured against what: each peer by its name, loaded only in its own process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from bench.cases import Case
from bench.peers.protocol import Module


@dataclass(frozen=True)
class Peer:
    """One library, used in one way.

    Attributes:
        name: as on the command line and in the tables.
        module: where its `Training` and `Prediction` are.
        device: "cpu" or "cuda", where it runs.
        precisions: the cases that it takes part in.
        keeps_compiled: whether compiled code stays on disk, so that only the first start of all
            waits for the compiler.
    """

    name: str
    module: str
    precisions: tuple[str, ...] = ("float32",)
    keeps_compiled: bool = False
    device: str = "cpu"

    def takes(self, case: Case) -> bool:
        return case.precision in self.precisions


OURS = "ours"
_BOTH = ("float32", "bfloat16")
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(OURS, "bench.peers.ours", _BOTH, keeps_compiled=True),
        Peer("torch-eager", "bench.peers.torch_eager", _BOTH),
        Peer("torch-compile", "bench.peers.torch_compile", _BOTH, keeps_compiled=True),
        Peer("jax", "bench.peers.jax"),
        Peer("sklearn", "bench.peers.sklearn"),
    )
}


_ALL = ("float32", "tf32", "bfloat16")
GPU_PEERS: Mapping[str, Peer] = {
    peer.name: replace(peer, device="cuda")
    for peer in (
        Peer(OURS, "bench.peers.ours", _ALL, keeps_compiled=True),
        Peer("torch-eager", "bench.peers.torch_eager", _ALL),
        Peer("torch-compile", "bench.peers.torch_compile_gpu", _ALL, keeps_compiled=True),
        Peer("torch-graph", "bench.peers.torch_graph", _ALL, keeps_compiled=True),
        Peer("jax", "bench.peers.jax", _ALL),
        # CuPy's own products of bfloat16 are not documented.
        Peer("cupy-loop", "bench.peers.cupy_loop", ("float32", "tf32")),
    )
}


def load_peer(module: str) -> Module:
    """Imports a peer, and with it the library that it measures."""
    return cast(Module, importlib.import_module(module))
