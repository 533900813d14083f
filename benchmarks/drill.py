"""Kill every command that writes, again and again, and check that nothing is lost, changed or left behind.

    python benchmarks/drill.py            200 kills; hours on a busy core
    python benchmarks/drill.py 20         fewer

Each round runs one command on phantoms, kills it up to four times at moments drawn over the time that it takes
undisturbed, by SIGKILL and SIGTERM in turn, starts it again at once each time, as a user would, and lets the last one
end. The result must be that of the undisturbed command, bit by bit. Temporary files lie on another disk where there is
one (/dev/shm); pre-training reads volumes in a process of its own; the benchmark runs two at once. Exit code 1 if
anything is wrong.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch  # noqa: F401 - once here, and not in every process
from safetensors import safe_open

import gvsl.benchmark.schedule
import gvsl.prediction
import gvsl.report
import gvsl.training.trainer
from gvsl.benchmark.folder import RUNS
from gvsl.cli import main as gvsl
from gvsl.records import RECORD_NAME, read_record
from gvsl.training.checkpoints import has_checkpoint, read_checkpoint

RECIPE = """
pretrain:
  backbone: {width: 8, levels: 3}
  data: {batch_size: 1, workers: 1, crop: [16, 16, 16]}
  trainer: {max_steps: 8, checkpoint_every: 1, log_every: 2}
transfer:
  width: 8
  levels: 3
  crop: [16, 16, 16]
  loss: dice_ce
  clusters: {points: 0}
  linear: {optimiser: lbfgs, max_steps: 3, validate_every: 1, checkpoint_every: 1}
  finetune: &all {learning_rate: 1e-3, max_steps: 8, validate_every: 2, checkpoint_every: 1}
  scratch: *all
"""
MOST_KILLS = 4
"""In one round."""
PATIENCE = 300.0
"""Seconds that a command may take to end, on a busy machine."""
GONE = 10.0
"""Seconds within which the helpers of a command that was killed end, on a busy machine."""
TRACES = (".gvsl-*", "*.part", "*.partial", "*.new", "*.old")


@dataclass(frozen=True)
class Command:
    """A command to disturb: its words, given its output, and what of that must come out the same."""

    name: str
    words: Callable[[Path], list[str]]
    digest: Callable[[Path], dict[str, str]]
    done: Callable[[Path], int]
    """Units of work that are on the disk; a kill must not lower it."""
    resumes: bool = False
    """It takes --resume to continue."""
    share: int = 1
    """Rounds of it among those of all."""


@dataclass
class Tally:
    """What has happened to a command."""

    rounds: int = 0
    kills: int = 0
    terms: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def start(words: Sequence[str], log: Path, scratch: Path) -> int:
    """Run gvsl in a process and a session of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        with log.open("ab") as file:
            file.write(f"$ gvsl {' '.join(words)}\n".encode())
            file.flush()
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = gvsl(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """Return a process's exit code, negative for a signal, or None if it has not ended after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def members(session: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state, _, _, its = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its) == session and state != "Z":
                found.append(int(process.name))
    return found


def survivors(session: int) -> list[str]:
    """Return the processes of a session that have not ended after GONE seconds, by id and command, and kill them."""
    until = time.monotonic() + GONE
    while members(session) and time.monotonic() < until:
        time.sleep(0.05)
    found = []
    for left in members(session):
        with suppress(OSError):
            found.append(f"{left} {Path(f'/proc/{left}/cmdline').read_bytes().replace(bytes(1), b' ')[:120]!r}")
            os.kill(left, signal.SIGKILL)
    return found


def traces(folder: Path) -> list[str]:
    """Return what is left of work in progress."""
    return sorted(str(path.relative_to(folder)) for pattern in TRACES for path in folder.rglob(pattern))


def tensors(path: Path) -> str:
    """Return a hash of the tensors of a safetensors file."""
    digest = hashlib.sha256()
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
    return digest.hexdigest()


def content(path: Path) -> str:
    """Return a hash of a file, of what is in it if it is gzipped."""
    data = path.read_bytes()
    return hashlib.sha256(gzip.decompress(data) if path.suffix == ".gz" else data).hexdigest()


def of_tree(folder: Path) -> dict[str, str]:
    """Return a hash of every file."""
    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def of_run(folder: Path) -> dict[str, str]:
    """Return hashes of what a run has learnt and measured."""
    found = {path.name: tensors(path) for path in sorted(folder.rglob("*.safetensors"))}
    record = read_record(folder)
    found["record"] = json.dumps([record.status, record.metrics, record.cases], sort_keys=True)
    return found | {"curves": content(folder / "curves.csv")}


def of_predictions(folder: Path) -> dict[str, str]:
    """Return a hash of every label map."""
    return {path.name: content(path) for path in sorted(folder.glob("*.nii.gz"))}


def of_benchmark(folder: Path) -> dict[str, str]:
    """Return hashes of every run, and the table."""
    runs = sorted((folder / RUNS).iterdir())
    return {run.name: json.dumps(of_run(run)) for run in runs} | {"table": content(folder / "table1.csv")}


def steps(run: Path) -> int:
    """Return the steps of a pre-training that are in its checkpoint."""
    if (run / RECORD_NAME).is_file() and read_record(run).status == "finished":
        return sys.maxsize
    return read_checkpoint(run)[1] if has_checkpoint(run) else 0


def transferred(run: Path) -> int:
    """Return the steps of a transfer that are in its checkpoint."""
    state = run.with_name(f"{run.name}.part") / "state.json"
    if run.exists():
        return sys.maxsize
    return int(json.loads(state.read_text())["step"]) if state.exists() else 0


def journaled(store: Path) -> int:
    """Return the cases that are prepared."""
    journal = store.with_name(f"{store.name}.partial") / "journal.jsonl"
    if store.exists():
        return sys.maxsize
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def finished(folder: Path) -> int:
    """Return the runs of a benchmark that are finished."""
    records = (folder / RUNS).glob(f"[!.]*/{RECORD_NAME}")
    return sum(json.loads(path.read_text())["status"] == "finished" for path in records)


def there(out: Path) -> int:
    """Return whether an output that is written at once is there."""
    return sys.maxsize if out.exists() else 0


def commands(root: Path) -> list[Command]:
    """Return all commands that write, on the inputs in `root`."""
    source, store, recipe, run = (str(root / name) for name in ("source", "store", "recipe.yaml", "transferred"))
    learn = ["--recipe", recipe, "--device", "cpu"]
    matrix = ["--stores", store, "--methods", "simclr", "--modes", "linear", "--recipe", recipe, "--processes", "2"]
    task = [store, "--task", "segmentation", "--weights", "scratch", "--mode", "scratch", *learn]
    return [
        Command("phantom", lambda out: ["phantom", str(out), "--count", "6", "--size", "16"], of_tree, there),
        Command(
            "prepare",
            lambda out: ["prepare", source, str(out), "--preset", "ct", "--processes", "2"],
            of_tree,
            journaled,
            share=2,
        ),
        Command("pretrain", lambda out: ["pretrain", store, "--out", str(out), *learn], of_run, steps, True, 5),
        Command("transfer", lambda out: ["transfer", *task, "--out", str(out)], of_run, transferred, True, 4),
        Command(
            "predict",
            lambda out: ["predict", run, f"{source}/images", "--out", str(out), "--device", "cpu"],
            of_predictions,
            lambda out: len(of_predictions(out)),
            share=3,
        ),
        Command("benchmark", lambda out: ["benchmark", "--out", str(out), *matrix], of_benchmark, finished, share=2),
        Command(
            "report",
            lambda out: ["report", run, "--out", f"{out}/page.html"],
            lambda _: {},
            lambda out: there(out / "page.html"),
        ),
    ]


def continued(command: Command, out: Path, log: Path, scratch: Path) -> int:
    """Start a command again, as the message of the stopped one says, and return its process."""
    words = command.words(out)
    begun = has_checkpoint(out) or (out.with_name(f"{out.name}.part") / "state.json").exists()
    return start([*words, "--resume"] if command.resumes and begun else words, log, scratch)


def disturb(
    command: Command,
    root: Path,
    kills: int,
    expected: dict[str, str],
    seconds: float,
    draws: random.Random,
    tally: Tally,
) -> None:
    """Run a command, kill it so many times, let it end, and note what is wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"{command.name}-", dir=root))
    scratch = Path(tempfile.mkdtemp(prefix="drill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else root))
    out, log = folder / "out", root / f"{folder.name}.log"
    before, code = 0, None

    def fault(text: str) -> None:
        tally.faults.append(f"{command.name}: {text}; see {log}")
        print(tally.faults[-1], file=sys.stderr, flush=True)

    for _ in range(kills):
        child = continued(command, out, log, scratch)
        delay = draws.uniform(0.02, 0.95) * seconds
        code = wait(child, delay)
        if code is not None:
            if code and before < sys.maxsize:
                fault(f"exit code {code} of its own")
            last = child
            break
        sent = signal.SIGTERM if (tally.kills + tally.terms) % 2 else signal.SIGKILL
        os.kill(child, sent)
        code = wait(child, PATIENCE)
        if sent == signal.SIGKILL:
            tally.kills += 1
        else:
            tally.terms += 1
            if code not in (0, 130) and not (code == -signal.SIGTERM and delay < 1):
                fault(f"exit code {code} after SIGTERM")
        if code is None:
            fault("did not end")
            os.kill(child, signal.SIGKILL)
            wait(child, PATIENCE)
        if draws.random() < 0.5:  # else it is started again at once
            for left in survivors(child):
                fault(f"left process {left}")
        now = command.done(out)
        if now < before:
            fault(f"lost work: {now} done where {before} were")
        before = now
    else:
        last = continued(command, out, log, scratch)
        code = wait(last, PATIENCE)
    if code and before < sys.maxsize:
        fault(f"exit code {code} when it was started again")
    elif code is None:
        fault("hung when it was started again")
        os.killpg(last, signal.SIGKILL)
        wait(last, PATIENCE)
    else:
        found = command.digest(out)
        changed = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        if changed:
            fault(f"another result: {', '.join(sorted(changed)[:4])}")
    for left in [*traces(folder), *map(str, scratch.iterdir())]:
        fault(f"left {left}")
    shutil.rmtree(scratch)
    for left in survivors(last):
        fault(f"left process {left} at the end")
    tally.rounds += 1


def drill(root: Path, count: int, seed: int, only: Sequence[str]) -> dict[str, Tally]:
    """Disturb all commands until `count` kills are reached."""
    (root / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    setup = [
        ["phantom", str(root / "source"), "--count", "8", "--size", "16"],
        ["prepare", str(root / "source"), str(root / "store"), "--preset", "ct", "--processes", "1"],
    ]
    log, draws = root / "reference.log", random.Random(seed)
    for words in setup:
        if wait(start(words, log, root), PATIENCE):
            raise SystemExit(f"the preparation failed; see {log}")
    known = commands(root)
    references: dict[str, tuple[dict[str, str], float]] = {}
    transfer = next(command for command in known if command.name == "transfer")
    for command in [transfer, *(command for command in known if command is not transfer)]:
        out = root / ("transferred" if command is transfer else f"undisturbed-{command.name}")
        began = time.monotonic()
        if wait(start(command.words(out), log, root), PATIENCE) != 0:
            raise SystemExit(f"{command.name} fails undisturbed; see {log}")
        references[command.name] = command.digest(out), time.monotonic() - began
    tallies = {command.name: Tally() for command in known if not only or command.name in only}
    turns = [command for command in known if command.name in tallies for _ in range(command.share)]
    while sum(tally.kills + tally.terms for tally in tallies.values()) < count:
        for command in draws.sample(turns, len(turns)):
            left = count - sum(tally.kills + tally.terms for tally in tallies.values())
            if left <= 0:
                break
            tally, began = tallies[command.name], time.monotonic()
            disturb(command, root, min(left, draws.randint(1, MOST_KILLS)), *references[command.name], draws, tally)
            tally.seconds += time.monotonic() - began
            print(f"{count - left} kills so far", file=sys.stderr, flush=True)
    return tallies


def main() -> int:
    """Drill, and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=200, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="COMMAND", help="commands to disturb; all if not given"
    )
    parser.add_argument("--keep", type=Path, help="a folder to work in, which is kept; a temporary one if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gvsl-drill-") as temporary:
        root = Path(temporary) if options.keep is None else options.keep
        root.mkdir(parents=True, exist_ok=True)
        tallies = drill(root.resolve(), options.count, options.seed, options.only)
    print(f"{'command':<10} {'rounds':>6} {'SIGKILL':>8} {'SIGTERM':>8} {'faults':>7} {'seconds':>8}")
    for name, tally in tallies.items():
        row = f"{tally.rounds:>6} {tally.kills:>8} {tally.terms:>8} {len(tally.faults):>7} {tally.seconds:>8.0f}"
        print(f"{name:<10} {row}")
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print(*faults, sep="\n")
    total = sum(tally.kills + tally.terms for tally in tallies.values())
    print(f"{total} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
