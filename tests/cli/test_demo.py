"""gvsl demo."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_demo_makes_a_report_and_says_where(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("gvsl")
    done = subprocess.run([command, "demo", "--out", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("Report: "))
    assert page == tmp_path / "demo" / "report.html"
    assert page.stat().st_size > 10_000
    for name in ("prepare", "pretrain", "transfer", "report"):
        assert f"$ gvsl {name} demo" in done.stdout
    assert re.search(r"pretrain: it (matches|does not match) \(NCC gain", done.stdout)  # pairs enough for a verdict
    probes = re.search(r"on gvsl features: DSC (0\.\d+).*on random features: (0\.\d+)", done.stdout)
    assert probes is not None
    assert float(probes[1]) > float(probes[2])
