"""Output shared by several commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from gvsl.records import RunRecord
from gvsl.text import visible


class VisibleStream:
    """A text stream in which control characters of what is written are escaped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        """The stream itself, for what draws on a terminal."""

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return all else from the stream itself."""
        return getattr(self.stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Escape control characters in all that is printed: names and texts in files come from strangers."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(cast(TextIO, VisibleStream(sys.stdout))))
        stack.enter_context(redirect_stderr(cast(TextIO, VisibleStream(sys.stderr))))
        yield


def print_record(folder: Path, record: RunRecord) -> None:
    """Print a run's metrics on cases that it was not trained on, one per line with its interval, and its folder.

    Metrics of single structures are left to the record.
    """
    metrics = record.metrics
    for name, value in metrics.items():
        if name.startswith("train/") or name.count("/") > 1 or name.endswith(("_low", "_high")):
            continue
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = f" (95 % CI {ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else ""
        print(f"{name:<20} {value:.4g}{interval}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def summary(command: Callable[..., object]) -> str:
    """Return the first line of the docstring of a command or a method."""
    return (command.__doc__ or "").splitlines()[0]
