"""Memory of this process and of the machine."""

import ctypes
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gvsl.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` in glibc's malloc.h."""
KEEP_BELOW = 2**27
"""Freed blocks below this size, in bytes, are kept. Larger ones, of crops beyond 64 cubed, would add half to a step's
peak memory, for a tenth of its time."""

GROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of a container (cgroup v2)."""
SHARED = Path("/dev/shm")
"""Where Linux keeps the memory that processes share; containers often have 64 MB of it."""
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""Message of the plain RuntimeError that torch raises when the system is out of memory."""


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
        limit, used = (int((GROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        statistics = dict(line.split() for line in (GROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = int(statistics.get("inactive_file", 0))  # files that were read, which the kernel drops on demand
        found.append(max(0, limit - used + cached))
    return min(found, default=None)


def shared_memory() -> int | None:
    """Return the free memory that processes can share, in bytes; None if it has no limit of its own or is unknown."""
    try:
        return shutil.disk_usage(SHARED).free
    except OSError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for the errors by which numpy, torch and CUDA say that memory ran out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or NO_MEMORY in str(error)


@contextmanager
def explained_memory(fix: str) -> Iterator[None]:
    """Turn a lack of memory into one line.

    Args:
        fix: what to change.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "the GPU's memory" if type(error).__name__ == "OutOfMemoryError" else "the memory there is"
        raise UserError(f"this does not fit {where}: {fix}") from error
