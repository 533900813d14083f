"""The process keeps freed memory; a lack of it is one line."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gvsl.errors import UserError
from gvsl.memory import explained_memory

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


def test_a_lack_of_memory_is_one_line_with_the_fix_and_other_errors_are_left() -> None:
    fix = "give a smaller crop"
    with pytest.raises(UserError, match=f"^this does not fit the memory there is: {fix}$"), explained_memory(fix):
        np.empty(2**60, np.uint8)
    with pytest.raises(UserError, match=f"^this does not fit the memory there is: {fix}$"), explained_memory(fix):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(UserError, match=f"^this does not fit the GPU's memory: {fix}$"), explained_memory(fix):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), explained_memory(fix):
        raise RuntimeError("shapes")
