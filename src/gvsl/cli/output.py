"""Output shared by several commands."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from gvsl.errors import UserError
from gvsl.files import shown
from gvsl.records import RunRecord
from gvsl.text import one_line, printable, visible

if TYPE_CHECKING:
    from gvsl.prediction.outcome import Predicted


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
        if sys.stdout is not None:  # it is None where the caller closed it
            stack.enter_context(redirect_stdout(cast(TextIO, VisibleStream(sys.stdout))))
        if sys.stderr is not None:
            stack.enter_context(redirect_stderr(cast(TextIO, VisibleStream(sys.stderr))))
        yield


def print_record(folder: Path, record: RunRecord) -> None:
    """Print a run's metrics on cases that it was not trained on, one per line with its interval, and its folder.

    Metrics of single structures are left to the record.
    """
    from gvsl.metrics.bootstrap import recorded_interval

    metrics = record.metrics
    for name, value in metrics.items():
        if name.startswith("train/") or name.count("/") > 1 or name.endswith(("_low", "_high")):
            continue
        ends = recorded_interval(metrics, name, len(record.cases))
        interval = "" if ends is None else f" (95 % CI {ends[0]:.4g} to {ends[1]:.4g})"
        print(f"{name:<20} {value:.4g}{interval}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def report_images(out: Path, outcome: "Predicted") -> None:
    """Print how many images were done, and each that failed with the reason.

    Raises:
        UserError: one failed.
    """
    failures = [(image.id, image.image, reason) for image, reason in outcome.failed]
    report_failures(out, "images", len(outcome.done), len(outcome.present), failures)


def report_failures(out: Path, things: str, done: int, present: int, failures: Sequence[tuple[str, Path, str]]) -> None:
    """Print how many things of a list were done or there already, and each that failed: its id, file and reason.

    Raises:
        UserError: one failed.
    """
    count = done + present + len(failures)
    print(f"{out}: {done} of {count} {things} done{f', {present} were there already' if present else ''}")
    for name, file, reason in failures:
        print(f"  {name} ({printable(shown(file))}): {one_line(reason)}")
    if failures:
        _, file, reason = failures[0]
        missed = f"{len(failures)} of {count} {things} were not done"
        raise UserError(f"{missed}; the first, {shown(file)}: {reason}")


def summary(command: Callable[..., object]) -> str:
    """Return the first line of the docstring of a command or a method."""
    return (command.__doc__ or "").splitlines()[0]
