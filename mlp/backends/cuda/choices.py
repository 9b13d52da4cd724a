"""Choosing the fastest of several ways to do a thing on a device: measured once, and kept.

What a choice goes by, first to last: what was measured on this device before and is kept; a
measurement now, where one may be made; the nearest entry of a table that ships with the kernels;
the first candidate, which is a rule of thumb. With MLP_CUDA_TUNE=0 only the last two count, so that
every machine of a kind chooses alike.

The same choices give the same bits. They are made while a step is recorded, before the first one,
and kept, also those for whose measurement there was no time or no room: so a run repeats bit by bit
as long as what is kept stays.
"""

from __future__ import annotations

import datetime
import functools
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp.backends.cuda.kept import KeptChoices
from mlp.errors import BackendUnavailable, DeviceOutOfMemory, InvalidSetting
from mlp_kernels.cuda.compile import source_digest
from mlp_kernels.cuda.tune import Measured, Table, tables_for

if TYPE_CHECKING:
    from mlp.backends.cuda.device import CudaDevice

TUNE_VARIABLE = "MLP_CUDA_TUNE"

# What is tried takes turns this many times, so that a change of the device's clock meets all of
# it alike, and the median leaves out what else the device did meanwhile.
ROUNDS = 7
# Most of a key's time goes into compiling its candidates, a few; their runs take milliseconds.
SECONDS_OF_KEY = 10.0
# A network has up to three products a layer; nobody should wonder whether the first run hangs.
SECONDS_OF_PROCESS = 30.0

# Makes functions that queue the work, by the candidates' names.
Candidates = Callable[[], Mapping[str, Callable[[], None]]]

# Where a choice comes from.
KEPT, TABLE, NEAREST, RULE = "measured here", "shipped table", "nearest entry", "rule of thumb"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        key: what for.
        name: of the candidate.
        source: KEPT, TABLE, NEAREST or RULE.
        microseconds: that it took where it was measured, or None.
        date: when that was, or None.
        note: what else there is to say, or None.
    """

    key: str
    name: str
    source: str
    microseconds: float | None = None
    date: str | None = None
    note: str | None = None


def measuring_allowed() -> bool:
    """What MLP_CUDA_TUNE says; raises InvalidSetting."""
    setting = os.environ.get(TUNE_VARIABLE, "")
    if setting not in ("", "0", "1"):
        raise InvalidSetting(f"{TUNE_VARIABLE} is 1 (measure) or 0 (never), not '{setting}'")
    return setting != "0"


class Choices:
    """The choices of one device.

    Args:
        device: that is measured.
        features: words for candidates that there are because somebody asked for them: what is
            measured with them is kept apart.
        clock: seconds of the host's time, for the limits on measuring.

    Attributes:
        allowed: whether what was measured counts, and more may be measured.
        remarks: sentences on what could not be done as it should.

    Raises:
        InvalidSetting: MLP_CUDA_TUNE is neither 0 nor 1.
    """

    def __init__(
        self,
        device: CudaDevice,
        features: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on, self._features, self._clock = device, features, clock
        self.allowed = measuring_allowed()
        self.remarks: list[str] = []
        self._tables = tables_for(device.name, device.capability)
        self._made: dict[tuple[str, tuple[str, ...]], Choice] = {}
        self._spent = 0.0  # seconds, on measurements that are done
        self._announced = False

    @functools.cached_property
    def kept(self) -> KeptChoices | None:
        """What was measured on this device, in a file; None with MLP_CUDA_TUNE=0."""
        if not self.allowed:
            return None
        empty = Table(self._on.name, self._on.capability, source_digest())
        # What was measured without the library says nothing of it once it is installed.
        library = ("cublaslt",) if self._on.library.installed else ()
        return KeptChoices(empty, (*self._features, *library), self.remark)

    def remark(self, sentence: str, warn: bool = True) -> None:
        """Says something once: in `remarks`, and as a warning where it is not as it should be."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)
            if warn:
                warnings.warn(sentence, RuntimeWarning, stacklevel=2)

    def fastest(
        self, key: str, candidates: Mapping[str, Callable[[], None]], calls: int = 1
    ) -> str:
        """The name of the candidate to use; the first is the rule of thumb.

        Args:
            key: what is chosen, in words; the same words mean the same candidates in every process.
            candidates: functions that queue the work on the device's stream. Their first call may
                compile, and is not measured. They may be called any number of times, or never.
            calls: how often one call of a function does the work.

        Raises:
            DeviceFault: a candidate does not run.
        """
        return self.choose(key, tuple(candidates), lambda: candidates, calls).name

    def choose(
        self,
        key: str,
        names: Sequence[str],
        candidates: Candidates | None = None,
        calls: int = 1,
    ) -> Choice:
        """The same of candidates by name; measured only where a function is given that makes some.

        Of a library that is missing the name may be given, too: who gets it asks again without.
        """
        made = self._made.get((key, tuple(names)))
        known = None if self.kept is None else self.kept.table.entries.get(key)
        if made is not None and (made.source == KEPT or (known is None and candidates is None)):
            return made
        choice = self._chosen(key, known, KEPT, names)
        if choice is None and candidates is not None and len(names) > 1 and not self._on.checked:
            choice = self._newly_kept(key, names, candidates, calls)
        choice = choice or self._unmeasured(key, names)
        self._made[key, tuple(names)] = choice
        return choice

    def _newly_kept(
        self, key: str, names: Sequence[str], candidates: Candidates, calls: int
    ) -> Choice | None:
        """Measured, or where it cannot be the choice without; kept in either case."""
        if self.kept is None:
            return None
        found = None
        if self._spent < SECONDS_OF_PROCESS:
            with self._on.lock:
                found = self._measure(key, candidates(), calls)
        if found is None:
            found = Measured(self._unmeasured(key, names).name, {}, _today())
        self.kept.add(key, found)
        return self._chosen(key, found, KEPT, names)

    def _unmeasured(self, key: str, names: Sequence[str]) -> Choice:
        for table in self._tables:
            found = table.nearest(key)
            if found is not None:
                source = TABLE if found[0] == key and table.device == self._on.name else NEAREST
                note = None if source == TABLE else f"of {found[0]} on {table.device}"
                choice = self._chosen(key, found[1], source, names, note)
                if choice is not None:
                    return choice
        return Choice(key, names[0], RULE)

    def _chosen(
        self, key: str, entry: Measured | None, source: str, names: Sequence[str],
        note: str | None = None,
    ) -> Choice | None:  # fmt: skip
        """What an entry says of the candidates that can be had; None if nothing."""
        name = None if entry is None else entry.best_of(names)
        if entry is None or name is None:
            return None
        if name != entry.choice:
            note = f"'{entry.choice}' was faster but cannot be had; this is the best of the rest"
        elif name not in entry.microseconds:
            note = "not measured, for want of time or memory; kept, so that runs repeat"
        time = entry.microseconds.get(name)
        return Choice(key, name, source, time, entry.date, note)

    # --- measuring ------------------------------------------------------------------------------

    def _measure(
        self, key: str, candidates: Mapping[str, Callable[[], None]], calls: int
    ) -> Measured | None:
        """Times the candidates; None where there is no room for it."""
        self._announce()
        taken = self._stopwatch()
        limit = min(SECONDS_OF_KEY, SECONDS_OF_PROCESS - self._spent)
        try:
            with self._on.not_recorded():
                ready, whole = self._prepare(key, candidates, lambda: taken() > limit)
                times = self._time(ready, lambda: taken() > limit)
        except DeviceOutOfMemory as error:
            self.remark(f"{key}: not measured, for want of memory ({error})")
            return None
        finally:
            self._spent += taken()
            if self._spent >= SECONDS_OF_PROCESS:
                self.remark(
                    f"kernels were measured for {SECONDS_OF_PROCESS:.0f} seconds, so the rest of "
                    "the choices go by a table or a rule of thumb; they are kept, and measured "
                    f"again once {self._file} is deleted"
                )
        medians = {name: statistics.median(each) / calls * 1e6 for name, each in times.items()}
        if not whole:
            self.remark(f"{key}: not all was tried in time", warn=False)
        if not medians:
            return None
        return Measured(min(medians, key=medians.__getitem__), medians, _today())

    @property
    def _file(self) -> str:
        return str(self.kept.path) if self.kept is not None else "the file of choices"

    def _prepare(
        self, key: str, candidates: Mapping[str, Callable[[], None]], late: Callable[[], bool]
    ) -> tuple[dict[str, Callable[[], None]], bool]:
        """What could be called once before it was late, and whether that is all there is."""
        ready: dict[str, Callable[[], None]] = {}
        for name, run in candidates.items():
            if ready and late():
                return ready, False
            try:
                run()
            except BackendUnavailable as error:  # a library that lacks this one product
                self.remark(f"{key}: '{name}' is left out ({error})", warn=False)
                continue
            ready[name] = run
        self._on.synchronize()
        return ready, True

    def _time(
        self, ready: Mapping[str, Callable[[], None]], late: Callable[[], bool]
    ) -> dict[str, list[float]]:
        """Seconds of the device's time for each, taken in turn."""
        times: dict[str, list[float]] = {name: [] for name in ready}
        start, end = self._on.event(timed=True), self._on.event(timed=True)
        for _ in range(ROUNDS):
            for name, run in ready.items():
                self._on.record(start)
                run()
                self._on.record(end)
                times[name].append(self._on.seconds_between(start, end))
            if late():
                break
        return times

    def _announce(self) -> None:
        """A word on the terminal, the first time, since what follows may take a while."""
        if not self._announced and sys.stderr is not None and sys.stderr.isatty():
            print(
                "measuring kernels on this device; later runs find the choices in the cache",
                file=sys.stderr,
            )
        self._announced = True

    def _stopwatch(self) -> Callable[[], float]:
        """Seconds since now, but for those of measurements that were made within this one."""
        start, spent = self._clock(), self._spent
        return lambda: self._clock() - start - (self._spent - spent)


def _today() -> str:
    return datetime.date.today().isoformat()
