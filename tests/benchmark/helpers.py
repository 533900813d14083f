"""Making processes die, as the system does where memory runs short."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def killing(log: Path, times: int) -> Iterator[list[int]]:
    """Kill the process that writes `log`, so many times, while the block runs; yields the ids of those killed."""
    over, killed = threading.Event(), list[int]()

    def watch() -> None:
        while len(killed) < times and not over.wait(0.02):
            for found in set(writers(log)) - set(killed):  # one that was killed takes a while to go
                with suppress(ProcessLookupError):
                    os.kill(found, signal.SIGKILL)
                    killed.append(found)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def writers(file: Path) -> list[int]:
    """The other processes that have a file open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if int(process.name) != os.getpid() and any(
                link.resolve() == file.resolve() for link in (process / "fd").iterdir()
            ):
                found.append(int(process.name))
    return found
