"""What the operating system knows: this process's peak memory, and how busy the processor is."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def peak_memory_mib() -> float | None:
    """Peak resident memory in MiB, or None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's ru_maxrss would begin with the parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def busy_seconds() -> float | None:
    """Core-seconds that anything has used since the system began; None where it does not tell.

    Time that a hypervisor gave to others counts too. In steps of a hundredth of a second.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
