"""What tests of choices share: where they are kept, candidates with a time, shipped tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlp.backends import get_backend
from mlp.backends.cuda.backend import CupyBackend
from mlp_kernels.cuda.tune import Measured, Table


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Measuring is on, and what it finds is kept here."""
    monkeypatch.setenv("MLP_CUDA_TUNE", "1")
    monkeypatch.setenv("MLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(CupyBackend, "tiny_steps", "graph")  # steps are made of products
    monkeypatch.setattr(CupyBackend, "fused_chain", False)
    return tmp_path


@pytest.fixture
def device(cupy):
    return get_backend("cuda").on


class Ways:
    """Candidates that take so many microseconds of a device's time, and count their calls."""

    def __init__(self, device, machine, **times):
        self.calls = dict.fromkeys(times, 0)
        self.functions = {name: self._way(device, machine, name, t) for name, t in times.items()}

    def _way(self, device, machine, name, time):
        def run():
            self.calls[name] += 1
            if isinstance(time, Exception):
                raise time

            def work():
                machine.clock += time[self.calls[name] % len(time)] if isinstance(
                    time, list
                ) else time  # fmt: skip

            device.stream.add(work)

        return run


def kept_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.json")
    return path


@pytest.fixture
def shipped(monkeypatch):
    """A function that puts a table of the stand-in's device beside the kernels."""

    def ship(entries, name="Stand-in", capability=(9, 0)):
        table = Table(name, capability, "0x0", entries)
        monkeypatch.setattr("mlp_kernels.cuda.tune.shipped_tables", lambda: (table,))

    return ship


def measured(choice, **times):
    return Measured(choice, times or {choice: 1.0}, "2026-11-22")
