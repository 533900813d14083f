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
    "volumes": 30,
    "stores": 32,
    "journals": 12,
    "weights": 38,
    "heads": 22,
    "elsewhere": 12,
    "published": 12,
    "methods": 12,
    "checkpoints": 12,
    "stopped": 22,
    "records": 2,
    "recipes": 6,
    "listings": 28,
    "predictions": 20,
}
"""Number of mutants of each kind: 260 that take about 10 seconds; a report of damaged records alone takes 0.7."""


def test_every_kind_is_damaged() -> None:
    assert SHARES.keys() == TARGETS.keys()
    assert sum(SHARES.values()) == 260


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
