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
    assert done.stdout.splitlines()[-1] == "20 kills, 0 faults", done.stdout
    assert done.returncode == 0
