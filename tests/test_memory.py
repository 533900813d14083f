"""The process keeps freed memory; a lack of it is one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl import memory
from gvsl.errors import UserError
from gvsl.memory import available_memory, explained_memory

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


def test_files_that_were_read_take_no_memory_from_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"max": "8000000", "current": "7000000", "stat": "anon 1000000\ninactive_file 5000000\n"}
    for name, text in texts.items():
        (tmp_path / f"memory.{name}").write_text(text, encoding="ascii")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert available_memory() == 6_000_000
    (tmp_path / "memory.max").write_text("max", encoding="ascii")
    assert available_memory() != 6_000_000  # that of the machine
