import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gvsl.cli import main

from .helpers import make_folder

CaptureFixture = pytest.CaptureFixture[str]
Complaint = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    assert main(["prepare", str(make_folder(tmp_path / "source")), str(tmp_path / "store")]) == 0
    return tmp_path / "store"


@pytest.fixture
def complaint(capsys: CaptureFixture) -> Complaint:
    """Run a command that must fail as a user's mistake does, and return its one line."""

    def run(*words: object) -> str:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 2
        *progress, last = said.err.splitlines()
        assert re.fullmatch(r"gvsl: error: .+", last), said.err
        assert all(re.match(r"Prepare \d+/\d+ ", line) for line in progress), said.err
        assert "Traceback" not in said.out + said.err
        return said.err

    return run
