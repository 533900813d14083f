"""Progress with rate and remaining time: a bar on a terminal, plain lines on a pipe or in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Advance = Callable[[], None]
"""To be called after each unit of work."""
Show = Callable[[int, str], None]

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(total: int, title: str, unit: str, stream: TextIO | None = None) -> Iterator[Advance]:
    """Show the progress of `total` units, such as "volumes", on standard error or `stream`.

    Yields a function to call after each unit.
    """
    out = sys.stderr if stream is None else stream
    began, done = time.monotonic(), 0
    with (_bar if out.isatty() else _lines)(total, title, unit, out) as show:

        def advance() -> None:
            nonlocal done
            done += 1
            show(done, _pace(done, total, unit, time.monotonic() - began))

        yield advance


@contextmanager
def _bar(total: int, title: str, unit: str, out: TextIO) -> Iterator[Show]:
    from rich.console import Console  # only needed on a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    drawn = getattr(out, "stream", out)  # past what escapes control characters
    with Progress(*columns, console=Console(file=drawn)) as bar:
        task = bar.add_task(title, total=total, pace=unit)
        yield lambda done, pace: bar.update(task, completed=done, pace=pace)


@contextmanager
def _lines(total: int, title: str, unit: str, out: TextIO) -> Iterator[Show]:
    last = time.monotonic()

    def show(done: int, pace: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            print(f"{title} {done}/{total} {pace}", file=out, flush=True)

    yield show


def _pace(done: int, total: int, unit: str, seconds: float) -> str:
    """Format the rate, and the remaining time or, at the end, the total time."""
    rate = done / max(seconds, 1e-9)
    left = (total - done) / rate
    ending = f"{_clock(left)} left" if done < total else f"in {_clock(seconds)}"
    return f"{unit}, {60 * rate:.{0 if 60 * rate >= 10 else 1}f} a minute, {ending}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
