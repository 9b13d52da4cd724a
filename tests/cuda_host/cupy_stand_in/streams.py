"""Streams, events and graphs: work waits in its stream until something waits for the stream.

So a missing wait shows as old numbers. The null stream's work is done at once, since nothing may
be started before it; streams made with non_blocking=True do not wait for it, nor it for them.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.cuda_host.cupy_stand_in.device import current_device, machine
from tests.cuda_host.cupy_stand_in.errors import (
    CAPTURE_INVALIDATED,
    CAPTURE_ISOLATION,
    CAPTURE_UNSUPPORTED,
    ILLEGAL_ADDRESS,
    CUDARuntimeError,
)
from tests.cuda_host.run import KernelFault

Work = Callable[[], None]

_numbers = itertools.count(0x1000)
_working = threading.RLock()  # of the device, which does one thing at a time
_by_number: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()


class Stream:
    null: Stream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: Any = None,
    ) -> None:
        machine().check()
        self.ptr = 0 if null else next(_numbers)
        self.device_id = -1 if null else current_device()
        self.is_non_blocking = non_blocking
        self._queue: deque[Work] = deque()
        self._captured: list[Work] | None = None
        self._broken = False
        _by_number[self.ptr] = self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> Stream:
        if self.device_id not in (-1, current_device()):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id})"
                f" does not match with the current device ({current_device()})"
            )
        _stack().append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _stack().pop()

    def use(self) -> Stream:
        _stack()[-1] = self
        return self

    # --- work -----------------------------------------------------------------------------------

    def add(self, work: Work) -> None:
        """Queue work, record it, or do it at once."""
        machine().check()
        if self._captured is not None:
            self._captured.append(work)
            return
        if self.ptr == 0:
            for stream in list(_by_number.values()):
                if not stream.is_non_blocking:
                    stream.drain()
        self._queue.append(work)
        if self.ptr == 0 or not machine().lazy:
            self.drain()

    def drain(self) -> None:
        """Do all that is queued, in order, also where several threads wait for it."""
        with _working:
            while self._queue:
                self._do_next()

    def _do_next(self) -> None:
        machine().check()
        work = self._queue.popleft()
        try:
            work()
        except KernelFault as error:
            machine().fault = CUDARuntimeError(ILLEGAL_ADDRESS, str(error))
            raise machine().fault from error

    def forbid_capture(self) -> None:
        """For what a capturing stream must not be asked: the capture is void."""
        if self._captured is not None:
            self._broken = True
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)

    @property
    def done(self) -> bool:
        self.forbid_capture()
        return not self._queue

    def synchronize(self) -> None:
        self.forbid_capture()
        machine().check()
        self.drain()

    # --- events ---------------------------------------------------------------------------------

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        if self._captured is not None:
            raise NotImplementedError("events in a capture are not part of the stand-in")
        mark = _Mark(self)
        event._mark = mark
        self.add(mark)
        return event

    def wait_event(self, event: Event) -> None:
        if self._captured is not None:
            self._broken = True
            raise CUDARuntimeError(CAPTURE_ISOLATION)
        if event._mark is not None:
            self.add(event._mark.reach)

    # --- graphs ---------------------------------------------------------------------------------

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.forbid_capture()
        self._captured, self._broken = [], False

    def end_capture(self) -> Graph:
        work, self._captured = self._captured, None
        if work is None:
            raise CUDARuntimeError(1)
        if self._broken:
            raise CUDARuntimeError(CAPTURE_INVALIDATED)
        return Graph(work)

    def is_capturing(self) -> bool:
        return self._captured is not None


class _Mark:
    """An event's place in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.done, self.time = stream, False, 0.0

    def __call__(self) -> None:
        self.done, self.time = True, machine().clock

    def reach(self) -> None:
        """Do the stream's work up to here."""
        with _working:
            while not self.done:
                self.stream._do_next()


class Event:
    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        machine().check()
        self._mark: _Mark | None = None
        self._timed = not disable_timing

    def record(self, stream: Stream | None = None) -> None:
        (get_current_stream() if stream is None else stream).record(self)

    def synchronize(self) -> None:
        machine().check()
        if self._mark is not None:
            self._mark.reach()

    @property
    def done(self) -> bool:
        return self._mark is None or self._mark.done


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events that were made for it and have happened."""
    start, end = start_event._mark, end_event._mark
    if not (start_event._timed and end_event._timed) or start is None or end is None:
        raise CUDARuntimeError(400)
    if not (start.done and end.done):
        raise CUDARuntimeError(600)
    return (end.time - start.time) / 1000


class Graph:
    """What was captured; it keeps no array alive, as CUDA's does not."""

    def __init__(self, work: list[Work]) -> None:
        self._work = work

    def launch(self, stream: Stream | None = None) -> None:
        stream = get_current_stream() if stream is None else stream
        for work in self._work:
            stream.add(work)


_local = threading.local()


def _stack() -> list[Stream]:
    if not hasattr(_local, "streams"):
        _local.streams = [Stream.null]
    stack: list[Stream] = _local.streams
    return stack


def get_current_stream(device_id: int = -1) -> Stream:
    machine().check()
    return _stack()[-1]


def stream_of(number: int) -> Stream:
    """The stream with this handle; 1 is another name of the null stream."""
    try:
        return _by_number[0 if number == 1 else number]
    except KeyError:
        raise CUDARuntimeError(1) from None


def synchronize_all() -> None:
    machine().check()
    for stream in list(_by_number.values()):
        stream.synchronize()


def reset() -> None:
    """Forget all streams but the null stream."""
    for stream in list(_by_number.values()):
        stream._queue.clear()
        stream._captured = None
    _by_number.clear()
    _local.__dict__.clear()
    Stream.null = Stream.__new__(Stream)
    Stream.null.__dict__.update(
        ptr=0,
        device_id=-1,
        is_non_blocking=False,
        _queue=deque(),
        _captured=None,
        _broken=False,
    )
    _by_number[0] = Stream.null
