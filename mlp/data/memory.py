"""How much memory there is and is used, in bytes, and how a user states an amount of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mlp.errors import InvalidSetting, as_int

UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
# Of systems that do not say how much they have.
UNKNOWN = 8 * 10**9


def as_bytes(size: int | str, name: str = "memory_limit") -> int:
    """A number of bytes, given as one or as text: "1GB", "512 MiB", "2.5g".

    KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024.

    Raises:
        InvalidSetting: anything else.

    >>> as_bytes("1GB"), as_bytes("1.5 MiB"), as_bytes(4096)
    (1000000000, 1572864, 4096)
    """
    number = as_int(size, -1)
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size.lower())
        if match and match[2] in UNITS:
            number = int(float(match[1]) * UNITS[match[2]])
    if number < 1:
        raise InvalidSetting(f'{name} must be a number of bytes, or like "2GB", not {size!r}')
    return number


def in_words(size: float) -> str:
    """A number of bytes to three digits.

    >>> in_words(1_234_567), in_words(950), in_words(46e9)
    ('1.23 MB', '950 B', '46 GB')
    """
    for unit in ("tb", "gb", "mb", "kb"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.3g} {unit.upper()}"
    return f"{size:.0f} B"


def default_limit() -> int:
    """Half of the memory that this process may use."""
    return available_memory() // 2


def available_memory() -> int:
    """The machine's memory, or less where a control group grants less."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no POSIX system
        total = UNKNOWN
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        granted = _read(path).strip()
        if granted.isdecimal():
            total = min(total, int(granted))
    return total


def resident_bytes() -> int:
    """What the process has in memory now; 0 where that is not known."""
    return _status("VmRSS")


def peak_bytes(process: int | str = "self") -> int:
    """The most that this or another process ever had in memory; 0 where that is not known."""
    return _status("VmHWM", process)


def _status(key: str, process: int | str = "self") -> int:
    # Not getrusage: its peak goes back to before the program was started.
    match = re.search(rf"^{key}:\s+(\d+) kB$", _read(f"/proc/{process}/status"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
