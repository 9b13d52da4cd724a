"""What is measured against what: each peer by its name, loaded only in its own process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from bench.cases import Case
from bench.peers.protocol import Module


@dataclass(frozen=True)
class Peer:
    """One library, used in one way.

    Attributes:
        name: as on the command line and in the tables.
        module: where its `Training` and `Prediction` are.
        precisions: the cases that it takes part in.
        keeps_compiled: whether compiled code stays on disk, so that only the first start of all
            waits for the compiler.
    """

    name: str
    module: str
    precisions: tuple[str, ...] = ("float32",)
    keeps_compiled: bool = False

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


def load_peer(module: str) -> Module:
    """Imports a peer, and with it the library that it measures."""
    return cast(Module, importlib.import_module(module))
