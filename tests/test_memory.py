"""The process keeps freed memory."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
import numpy
from gvsl.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
numpy.ones(2**23)  # 64 MiB to keep
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    numpy.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="keep_freed_memory does nothing but on glibc")
def test_freed_memory_is_reused() -> None:
    def faults(what: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM, what], text=True))

    assert faults("kept") * 10 < faults("handed back")
