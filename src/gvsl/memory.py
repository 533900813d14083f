"""Memory of this process and of the machine."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` in glibc's malloc.h."""
KEEP_BELOW = 2**30
"""Freed blocks below this size, in bytes, are kept."""


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for reuse, and return True if it does.

    By default glibc returns every large block to the system and requests it again, page by page, for each operation:
    about a third of a CPU step's time (docs/results.md, speed). The setting affects the whole process, so a program
    calls this and no import does; without glibc it has no effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    kept = library.mallopt(M_MMAP_THRESHOLD, KEEP_BELOW) and library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept)


def available_memory() -> int | None:
    """Return the free memory of the machine or container, in bytes; None if it is unknown."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # cgroup v2 has "max" without a limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=None)
