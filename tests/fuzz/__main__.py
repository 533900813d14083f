"""Fuzzing of every reader: python -m tests.fuzz --count 10000 --seed 0.

Each mutant is one damaged copy of a small original, and a function of its target, the seed and its number. It is read
in a process of its own kind: torch is imported once, memory and time are limited, and a process that dies or hangs is
replaced. Counted are exceptions that are no refusals, hangs, memory, and content that was accepted although it isn't
finite or contradicts itself.
"""

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""A mutant that takes longer hangs; time in which its process waits for a core does not count."""
MEMORY = 2**30
"""Memory beyond that of the process before, above which a mutant counts."""
LIMIT = 3 * 2**30
"""Address space beyond that of the process before, at which allocations fail."""
BAD = ("traceback", "hang", "memory", "nonsense")


@dataclass
class Worker:
    """A process that reads mutants, one after the other."""

    process: int
    tasks: Any
    answers: Any
    mutant: tuple[str, int] | None = None
    since: float = 0.0
    waited: float = 0.0
    """Seconds that it has waited for a core before the mutant."""

    def seconds(self) -> float:
        """Return how long it has been at its mutant."""
        return time.monotonic() - self.since - (_waited(self.process) - self.waited)


def main() -> int:
    """Read mutants and print the figures; the exit code is 1 if any was read in a wrong way."""
    from .targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", default=[], choices=list(TARGETS), metavar="TARGET")
    parser.add_argument("--mutant", type=int, help="the number of one mutant of --only, whose traceback is shown")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = Path(tempfile.mkdtemp(prefix="gvsl-fuzz-"))
    try:
        for name in options.only or TARGETS:
            (root / name).mkdir()
            TARGETS[name].make(root / name)
            read_mutant(root / name, root / "mutant", name, options.seed, -1)  # what is imported late is there now
        if options.mutant is not None:
            return _show(root, options.only[0], options.seed, options.mutant)
        return _run(root, _drawn(options), options.seed, options.processes)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _drawn(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the mutants' targets and numbers, evenly by the targets' weights."""
    from .targets import TARGETS

    names = [name for name in options.only or TARGETS for _ in range(TARGETS[name].weight)]
    return [(names[number % len(names)], number) for number in range(options.count)]


def read_mutant(original: Path, folder: Path, name: str, seed: int, number: int) -> tuple[str, str, str]:
    """Make one mutant in `folder` and read it; return how it was damaged, the verdict and its details."""
    from gvsl.errors import UserError

    from .mutants import copy_of
    from .targets import TARGETS, read_quietly

    target, draw = TARGETS[name], random.Random(f"{name} {seed} {number}")
    copy_of(original, folder)
    files = sorted(path for path in folder.glob(draw.choice(target.files)) if path.is_file())
    path = draw.choice(files)
    how = f"{path.relative_to(folder)}: {target.hurt(path, draw)}"
    target.repair(folder, draw)
    try:
        problem = read_quietly(target, folder)
    except UserError as error:
        return how, "refused", str(error)
    except MemoryError:
        return how, "memory", "MemoryError"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        own = [item for item in traceback.extract_tb(error.__traceback__) if "/gvsl/" in item.filename]
        where = " < ".join(f"{Path(item.filename).name}:{item.lineno}" for item in [frame, *own[::-1][:3]])
        return how, "traceback", f"{type(error).__name__}: {str(error)[:150]} at {where}"
    return (how, "nonsense", problem) if problem else (how, "passed", "")


def _show(root: Path, name: str, seed: int, number: int) -> int:
    from . import targets

    folder = root / "mutant"
    print(*read_mutant(root / name, folder, name, seed, number), sep="\n")
    print(targets.TARGETS[name].read(folder))
    return 0


@dataclass
class Run:
    """The mutants that wait, the processes, and the verdicts so far."""

    root: Path
    seed: int
    waiting: list[tuple[str, int]]
    workers: list[Worker]
    verdicts: Counter[tuple[str, str]]
    largest: int = 0

    def count(self, worker: Worker, verdict: str, text: str) -> None:
        """Count the verdict on a process's mutant, and print it if it is bad."""
        assert worker.mutant is not None
        name, number = worker.mutant
        self.verdicts[name, verdict] += 1
        if verdict in BAD:
            print(ascii(f"{name} {number}: {verdict}: {text}")[1:-1][:600], file=sys.stderr, flush=True)
        worker.mutant = None

    def hand_out(self) -> None:
        """Give each idle process a mutant, and replace those that hang."""
        for number, worker in enumerate(self.workers):
            if worker.mutant is None and self.waiting:
                worker.mutant = name, index = self.waiting.pop()
                worker.since, worker.waited = time.monotonic(), _waited(worker.process)
                worker.tasks.write(f"{name} {index}\n")
                worker.tasks.flush()
            elif worker.mutant and worker.seconds() > SECONDS:
                self.count(worker, "hang", f"more than {SECONDS:g} s")
                self.workers[number] = _restart(self.root, number, self.seed, worker)

    def collect(self) -> None:
        """Wait for answers, for half a second, and replace processes that died."""
        ready, _, _ = select.select([worker.answers for worker in self.workers if worker.mutant], [], [], 0.5)
        for number, worker in enumerate(self.workers):
            if worker.answers not in ready:
                continue
            line = worker.answers.readline()
            if not line:
                self.count(worker, "memory", "its process died")
                self.workers[number] = _restart(self.root, number, self.seed, worker)
                continue
            how, verdict, text, used = json.loads(line)
            self.largest = max(self.largest, used)
            over = used > MEMORY and verdict not in BAD
            self.count(worker, "memory" if over else verdict, f"{how}: {text} ({used / 2**20:.0f} MiB)")


def _run(root: Path, mutants: list[tuple[str, int]], seed: int, count: int) -> int:
    """Let processes read the mutants, and print the figures."""
    began = time.monotonic()
    workers = [_start(root, number, seed) for number in range(min(count, len(mutants)))]
    run = Run(root, seed, mutants[::-1], workers, Counter())
    try:
        while run.waiting or any(worker.mutant for worker in run.workers):
            run.hand_out()
            run.collect()
    except KeyboardInterrupt:  # Ctrl-C, or the end of a time limit: the figures so far are shown
        print("stopped", file=sys.stderr)
    for worker in run.workers:
        _stop(worker)
    return _print_figures(run.verdicts, run.largest, time.monotonic() - began)


def _print_figures(verdicts: Counter[tuple[str, str]], largest: int, seconds: float) -> int:
    columns = ("refused", "passed", *BAD)  # passed: accepted, or refused where what comes after it is read too
    print(f"{'':<12}" + "".join(f"{column:>11}" for column in columns))
    for name in dict.fromkeys(name for name, _ in sorted(verdicts)):
        print(f"{name:<12}" + "".join(f"{verdicts[name, column]:>11}" for column in columns))
    totals = {column: sum(found for (_, verdict), found in verdicts.items() if verdict == column) for column in columns}
    print(f"{'all':<12}" + "".join(f"{totals[column]:>11}" for column in columns))
    print(f"{verdicts.total()} mutants in {seconds:.0f} s; at most {largest / 2**20:.0f} MiB beyond the process before")
    return int(any(totals[column] for column in BAD))


def _start(root: Path, number: int, seed: int) -> Worker:
    """Fork a process that reads mutants from a pipe; all imports are made already."""
    task_out, task_in = os.pipe()
    answer_out, answer_in = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(task_in)
        os.close(answer_out)
        try:
            _serve(root, root / f"worker-{number}", seed, os.fdopen(task_out), os.fdopen(answer_in, "w"))
        finally:
            os._exit(0)
    os.close(task_out)
    os.close(answer_in)
    return Worker(process, os.fdopen(task_in, "w"), os.fdopen(answer_out))


def _stop(worker: Worker) -> None:
    os.kill(worker.process, signal.SIGKILL)
    os.waitpid(worker.process, 0)
    worker.tasks.close()
    worker.answers.close()


def _restart(root: Path, number: int, seed: int, worker: Worker) -> Worker:
    _stop(worker)
    return _start(root, number, seed)


def _serve(root: Path, folder: Path, seed: int, tasks: Any, answers: Any) -> None:
    """Read mutants until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    size = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
    for task in tasks:
        name, number = task.split()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the largest memory so far
        before = _memory("VmRSS")
        how, verdict, text = read_mutant(root / name, folder / "mutant", name, seed, int(number))
        answers.write(json.dumps([how, verdict, text[:400], _memory("VmHWM") - before]) + "\n")
        answers.flush()


def _waited(process: int) -> float:
    """Return for how many seconds a process has waited for a core."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):  # it has ended, or the system doesn't count
        return 0.0


def _memory(name: str) -> int:
    """Return a figure of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    raise SystemExit(main())
