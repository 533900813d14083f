"""How this process's memory is kept between steps."""

import ctypes
import sys

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
