"""How this process's memory is kept between steps, and how much there is."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of `mallopt` in glibc's malloc.h."""
KEEP_BELOW = 2**30
"""Blocks below this many bytes are kept once they are freed."""


def keep_freed_memory() -> bool:
    """Have the C library keep what a step frees for the next step, and say whether it does.

    By default glibc hands every large block back to the system and gets it anew, page by page, at each operation:
    about a third of a CPU step's time (docs/results.md, speed). It holds for the whole process, so a program calls
    it, never an import; elsewhere than on glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    kept = library.mallopt(M_MMAP_THRESHOLD, KEEP_BELOW) and library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept)


def available_memory() -> int | None:
    """Bytes that this machine, or the container that it is, can still give; None where it can't be told."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # version 2 of the control groups says "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=None)
