import subprocess
import sys

import pytest

from .conftest import SCRIPTS


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes by /proc")
def test_twenty_kills_lose_and_leave_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "drill.py"), "20"], capture_output=True, text=True, check=False
    )
    last = done.stdout.splitlines()[-1]
    assert last.startswith("20 kills in "), done.stdout + done.stderr
    assert last.endswith("0 lost, 0 differs, 0 left, 0 failed"), done.stdout
    assert done.returncode == 0
