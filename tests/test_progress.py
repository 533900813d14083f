import io
import time

import pytest

from gvsl.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    with progress(3, "preparing", unit="volumes", stream=out) as advance:
        for _ in range(3):
            advance()
    assert out.getvalue().startswith("preparing 3/3 volumes, ")
    assert out.getvalue().count("\n") == 1
    assert "a minute, in 0:00" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


def test_a_long_run_prints_the_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = io.StringIO()
    with progress(100, "preparing", unit="volumes", stream=out) as advance:
        for _ in range(100):
            now += 3
            advance()
    lines = out.getvalue().splitlines()
    assert len(lines) == 25
    assert lines[0] == "preparing 4/100 volumes, 20 a minute, 4:48 left"
    assert lines[-1] == "preparing 100/100 volumes, 20 a minute, in 5:00"


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time() -> None:
    out = Terminal()
    with progress(4, "preparing", unit="volumes", stream=out) as advance:
        advance()
        advance()
    assert "2/4" in out.getvalue()
    assert "a minute" in out.getvalue()
    assert "left" in out.getvalue()


def test_exceptions_propagate() -> None:
    with pytest.raises(KeyboardInterrupt), progress(4, "preparing", unit="volumes", stream=Terminal()):
        raise KeyboardInterrupt
