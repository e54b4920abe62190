"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

UNKNOWN = 4e9  # bytes, where the system does not tell
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def machine_memory() -> float:
    """Bytes of memory that the machine, or the container that this runs in, has."""
    try:
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return UNKNOWN
    return min([found, *(limit for path in LIMITS if (limit := _limit(Path(path))) is not None)])


def _limit(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None


def processors() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
