"""A share of the mutants of `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(count: int, seed: int) -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", str(count), "--seed", str(seed)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=7200)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-2000:]}"
    assert f"{count} mutants in" in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory by Linux's means")
def test_a_few_mutants_are_refused_or_harmless() -> None:
    fuzz(66, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory by Linux's means")
def test_ten_thousand_mutants_are_refused_or_harmless() -> None:
    fuzz(10_000, seed=2)
