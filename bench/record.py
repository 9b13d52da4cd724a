"""What a run measured, raw, as written to and read from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.kernels import KernelCase
from mlp.model_file import write_atomically

FORMAT = 1


class UnreadableRecord(Exception):
    """A file that holds no record of a benchmark; the message says why."""


@dataclass(frozen=True)
class PeerResult:
    """One peer in one case.

    Attributes:
        rates: rows per second, one per repeat.
        device_rates: the same by the GPU's own clock; None where there is none.
        losses: at the end of each repeat, see `bench.reference`.
        others: cores that other processes used meanwhile, one per repeat.
        memory_mib: peak memory of its process.
        import_s, first_step_s: see `bench.worker.Session.start`.
        absent: why there is no measurement, or None.
    """

    rates: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    others: tuple[float | None, ...] = ()
    memory_mib: float | None = None
    import_s: float | None = None
    first_step_s: float | None = None
    absent: str | None = None
    device_rates: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class CaseResult:
    """All peers of one case, measured in turn: repeat i of each belongs to repeat i of the rest."""

    case: Case
    peers: dict[str, PeerResult]


@dataclass(frozen=True)
class KernelResult:
    """One operation alone, measured in turn with the library.

    Attributes:
        times: contender -> seconds of one launch, one per repeat.
        absent: contender -> why it was not measured.
        sets: of arrays that took turns; see `bench.kernel_runs`.
    """

    case: KernelCase
    times: dict[str, tuple[float, ...]]
    absent: dict[str, str]
    sets: int


@dataclass(frozen=True)
class Record:
    """One run of the benchmark.

    Attributes:
        date: when it began, ISO 8601, UTC.
        machine, versions, source: see `bench.machine`.
        settings: threads, repeats, seconds.
        peaks: precision -> library -> GFLOP/s of its large matrix product.
        cases: in the order in which they were measured.
        gpu: of a run on a GPU, see `bench.machine.describe_gpu`.
        copies: library -> GB/s of its large copy on the GPU.
        kernels: operations alone, on a GPU.
        beside: name of the record, in the same folder, whose CPU rows are shown beside these.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    source: dict[str, Any]
    settings: dict[str, Any]
    peaks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cases: list[CaseResult] = field(default_factory=list)
    gpu: dict[str, Any] | None = None
    copies: Mapping[str, float] = field(default_factory=dict)
    kernels: list[KernelResult] = field(default_factory=list)
    beside: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        apart = ("format", "cases", "kernels")
        fields = {name: value for name, value in data.items() if name not in apart}
        cases = [
            CaseResult(
                Case.from_json(entry["case"]),
                {name: _peer_result(peer) for name, peer in entry["peers"].items()},
            )
            for entry in data["cases"]
        ]
        kernels = [_kernel_result(entry) for entry in data.get("kernels", [])]
        return cls(**fields, cases=cases, kernels=kernels)

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all; raises OSError where it cannot be written."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{text}\n".encode())


def _peer_result(data: dict[str, Any]) -> PeerResult:
    repeats = {name: tuple(data[name]) for name in ("rates", "losses", "others")}
    repeats["device_rates"] = tuple(data.get("device_rates", ()))
    return PeerResult(**{**data, **repeats})


def _kernel_result(data: dict[str, Any]) -> KernelResult:
    times = {name: tuple(seconds) for name, seconds in data["times"].items()}
    return KernelResult(KernelCase(**data["case"]), times, data["absent"], data["sets"])


def read_record(path: Path) -> Record:
    """The record in a file that `Record.write` wrote.

    Raises:
        UnreadableRecord: it is missing, or something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise UnreadableRecord(f"{path}: written by another version of the benchmark")
        return Record.from_json(data)
    except OSError as error:
        raise UnreadableRecord(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnreadableRecord(f"{path}: not a record of this benchmark") from None
