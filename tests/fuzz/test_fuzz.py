"""A share of the mutants of `make fuzz`."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import BAD, SECONDS, read_mutant
from .targets import TARGETS

ROOT = Path(__file__).parents[2]

SHARES = {
    "volumes": 64,
    "stores": 75,
    "journals": 28,
    "weights": 70,
    "heads": 50,
    "elsewhere": 20,
    "published": 20,
    "methods": 24,
    "checkpoints": 22,
    "stopped": 52,
    "records": 5,
    "recipes": 12,
    "listings": 50,
    "predictions": 28,
}
"""Number of mutants of each kind: 520 that take about 20 seconds; a report of damaged records alone takes 0.7."""


def test_every_kind_is_damaged() -> None:
    assert SHARES.keys() == TARGETS.keys()
    assert sum(SHARES.values()) == 520


@pytest.mark.no_cover  # it is slow where coverage is measured, and its damage has tests of its own beside each reader
@pytest.mark.parametrize("name", TARGETS)
def test_mutants_are_refused_or_harmless(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "original").mkdir()
    TARGETS[name].make(tmp_path / "original")
    for number in range(SHARES[name]):
        signal.alarm(round(10 * SECONDS))  # ends the process of a mutant that hangs, on however busy a machine
        how, verdict, text = read_mutant(tmp_path / "original", tmp_path / "mutant", name, 1, number)
        signal.alarm(0)
        assert verdict not in BAD, f"{number}: {how}: {text}"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory by Linux's means")
def test_ten_thousand_mutants_are_refused_or_harmless() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", "10000", "--seed", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=7200)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-2000:]}"
    assert "10000 mutants in" in done.stdout
