"""Kill every command that writes, again and again, and check that nothing is lost, changed or left behind.

    python benchmarks/drill.py                      200 kills; hours on a busy core
    python benchmarks/drill.py 20                   fewer
    python benchmarks/drill.py --keep DIR           after a stop, the same command goes on
    python benchmarks/drill.py --keep DIR --tally   what has happened so far, at any moment

Each round runs one command on phantoms, kills it up to four times at moments drawn over the time that it takes
undisturbed, by SIGKILL and SIGTERM in turn, starts it again at once each time, as a user would, and lets the last one
end. The result must be that of the undisturbed command, bit by bit. Temporary files lie on another disk where there is
one (/dev/shm); pre-training reads volumes in a process of its own; the benchmark runs two at once. The demo, which has
no way to go on, begins anew. Exit code 1 if anything is wrong.
"""

import argparse
import csv
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - once here, and not in every process
from safetensors import safe_open

import gvsl
import gvsl.benchmark.schedule
import gvsl.export.export
import gvsl.prediction.propagate
import gvsl.prediction.register
import gvsl.publication
import gvsl.report
import gvsl.training.trainer
from gvsl.cli import main as gvsl_main
from gvsl.files import is_temporary
from gvsl.records import RECORD_NAME, RUNS, read_record
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
"""In one round; fewer where there are fewer kills than commands."""
PATIENCE = 900.0
"""Seconds that a command may take to end, on a busy machine."""
GONE = 10.0
"""Seconds within which the helpers of a command that was killed end, on a busy machine."""
TRACES = ("*.part", "*.partial", "*.new", "*.old")
"""What unfinished work is called, beside temporary files."""
KINDS = ("lost", "differs", "left", "failed")
"""Of faults: work that was done is gone, another result, something is left behind, a wrong exit code or a hang."""
REFERENCES, TALLY = "references.json", "tally.json"


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
    anew: bool = False
    """It can't continue: what a stopped one wrote is removed before the next."""
    share: int = 1
    """Rounds of it among those of all."""


@dataclass
class Tally:
    """What has happened to a command."""

    rounds: int = 0
    kills: int = 0
    terms: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Each with its kind: lost, differs, left or failed."""
    seconds: float = 0.0

    @property
    def all(self) -> int:
        """Kills by either signal."""
        return self.kills + self.terms


def start(words: Sequence[str], log: Path, scratch: Path) -> int:
    """Run gvsl in a process and a session of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        with log.open("ab") as file:
            file.write(f"$ gvsl {' '.join(words)}\n".encode())
            file.flush()
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = gvsl_main(list(words))
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
    try:
        while time.monotonic() < until:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    except KeyboardInterrupt:  # the drill itself is stopped
        os.killpg(child, signal.SIGKILL)
        raise
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
    found = {path for pattern in TRACES for path in folder.rglob(pattern)}
    found |= {path for path in folder.rglob("*") if is_temporary(path.name)}
    return sorted(str(path.relative_to(folder)) for path in found)


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


def of_pairs(folder: Path) -> dict[str, str]:
    """Return a hash of every file of registered pairs, without the seconds that they took."""
    found = {name: mark for name, mark in of_tree(folder).items() if name.endswith((".gz", ".h5", ".tfm"))}
    for path in sorted(folder.glob("*/registered.json")):
        record = json.loads(path.read_text())
        found[path.parent.name] = json.dumps({**record, "inputs": None, "seconds": None}, sort_keys=True)
    return found | of_table(folder / "registered.csv")


def of_maps(folder: Path) -> dict[str, str]:
    """Return a hash of every map that was carried, and their table."""
    return of_predictions(folder) | of_table(folder / "propagated.csv")


def of_table(path: Path) -> dict[str, str]:
    """Return the rows of a table, whatever their order, without seconds."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return {"table": json.dumps(sorted(rows, key=str))}


def of_demo(folder: Path) -> dict[str, str]:
    """Return hashes of what every run of the demo has learnt and measured."""
    runs = sorted(path.parent for path in folder.glob(f"*/{RECORD_NAME}"))
    page = (folder / "report.html").read_text(encoding="utf-8").count("</html>")
    return {run.name: json.dumps(of_run(run)) for run in runs} | {"page": str(page)}


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


def counted(pattern: str) -> Callable[[Path], int]:
    """Return what counts the files of an output that match a pattern."""
    return lambda out: len(list(out.glob(pattern)))


def commands(root: Path) -> list[Command]:
    """Return all commands that write, on the inputs in `root`; those whose results others take come first."""
    source, store, recipe, pairs = (str(root / name) for name in ("source", "store", "recipe.yaml", "pairs.csv"))
    matcher, run = (str(root / f"undisturbed-{name}") for name in ("pretrain", "transfer"))
    learn = ["--recipe", recipe, "--device", "cpu"]
    matrix = ["--stores", store, "--methods", "simclr", "--modes", "linear", "--recipe", recipe, "--processes", "2"]
    task = [store, "--task", "segmentation", "--weights", "scratch", "--mode", "scratch", *learn]
    carry = [store, store, "--split", "test", "--weights", matcher, "--device", "cpu"]
    return [
        Command("pretrain", lambda out: ["pretrain", store, "--out", str(out), *learn], of_run, steps, True, share=5),
        Command(
            "transfer", lambda out: ["transfer", *task, "--out", str(out)], of_run, transferred, resumes=True, share=4
        ),
        Command("phantom", lambda out: ["phantom", str(out), "--count", "6", "--size", "16"], of_tree, there),
        Command(
            "prepare",
            lambda out: ["prepare", source, str(out), "--preset", "ct", "--processes", "2"],
            of_tree,
            journaled,
            share=2,
        ),
        Command(
            "transfer --carry",
            lambda out: ["transfer", *task, "--carry", matcher, "--out", str(out)],
            of_run,
            transferred,
            resumes=True,
            share=2,
        ),
        Command(
            "predict",
            lambda out: ["predict", run, f"{source}/images", "--out", str(out), "--device", "cpu"],
            of_predictions,
            counted("[!.]*.nii.gz"),
            share=3,
        ),
        Command(
            "propagate",
            lambda out: ["propagate", *carry, "--out", str(out)],
            of_maps,
            counted("[!.]*.nii.gz"),
            share=2,
        ),
        Command(
            "register",
            lambda out: ["register", "--pairs", pairs, "--weights", matcher, "--out", str(out), "--device", "cpu"],
            of_pairs,
            counted("[!.]*/registered.json"),
            share=2,
        ),
        Command("export", lambda out: ["export", run, str(out), "--to", "torchscript"], of_tree, there, share=2),
        Command(
            "export --store",
            lambda out: ["export", matcher, str(out), "--to", "nnunet", "--store", store, "--dataset", "Dataset001_A"],
            of_tree,
            there,
            share=2,
        ),
        Command("push", lambda out: ["push", run, "someone/something", "--out", str(out)], of_tree, there),
        Command(
            "push --dry-run", lambda out: ["push", run, "someone/something", "--dry-run"], lambda _: {}, lambda _: 0
        ),
        Command("benchmark", lambda out: ["benchmark", "--out", str(out), *matrix], of_benchmark, finished, share=2),
        Command(
            "report",
            lambda out: ["report", run, "--out", f"{out}/page.html"],
            lambda _: {},
            lambda out: there(out / "page.html"),
        ),
        Command(
            "demo",
            lambda out: ["demo", "--out", str(out), "--recipe", str(root / "demo.yaml")],
            of_demo,
            lambda _: 0,
            anew=True,
        ),
    ]


def continued(command: Command, out: Path, log: Path, scratch: Path) -> int:
    """Start a command again, as the message of the stopped one says, and return its process."""
    words = command.words(out)
    if command.anew:
        shutil.rmtree(out, ignore_errors=True)
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
    folder = Path(tempfile.mkdtemp(prefix=f"{command.name.replace(' ', '')}-", dir=root))
    scratch = Path(tempfile.mkdtemp(prefix="drill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else root))
    out, log = folder / "out", root / f"{folder.name}.log"
    before, code = 0, None

    def fault(kind: str, text: str) -> None:
        tally.faults.append((kind, f"{command.name}: {text}; see {log}"))
        print(tally.faults[-1][1], file=sys.stderr, flush=True)

    for _ in range(kills):
        child = continued(command, out, log, scratch)
        delay = draws.uniform(0.02, 0.95) * seconds
        code = wait(child, delay)
        if code is not None:
            if code and before < sys.maxsize:
                fault("failed", f"exit code {code} of its own")
            last = child
            break
        sent = signal.SIGTERM if tally.all % 2 else signal.SIGKILL
        os.kill(child, sent)
        code = wait(child, PATIENCE)
        if sent == signal.SIGKILL:
            tally.kills += 1
        else:
            tally.terms += 1
            if code not in (0, 130) and not (code == -signal.SIGTERM and delay < 1):
                fault("failed", f"exit code {code} after SIGTERM")
        if code is None:
            fault("failed", "did not end")
            os.kill(child, signal.SIGKILL)
            wait(child, PATIENCE)
        if draws.random() < 0.5:  # else it is started again at once
            for left in survivors(child):
                fault("left", f"left process {left}")
        now = command.done(out)
        if now < before:
            fault("lost", f"lost work: {now} done where {before} were")
        before = now
    else:
        last = continued(command, out, log, scratch)
        code = wait(last, PATIENCE)
    if code and before < sys.maxsize:
        fault("failed", f"exit code {code} when it was started again")
    elif code is None:
        fault("failed", "hung when it was started again")
        os.killpg(last, signal.SIGKILL)
        wait(last, PATIENCE)
    else:
        found = command.digest(out)
        changed = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        if changed:
            fault("differs", f"another result: {', '.join(sorted(changed)[:4])}")
    for left in [*traces(folder), *map(str, scratch.iterdir())]:
        fault("left", f"left {left}")
    shutil.rmtree(scratch)
    for left in survivors(last):
        fault("left", f"left process {left} at the end")
    tally.rounds += 1


def code_hash() -> str:
    """Return a hash of the package and of this script, by which results of other code are told."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(gvsl.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def prepare_inputs(root: Path) -> None:
    """Write the inputs of all commands, unless an earlier call did."""
    log = root / "reference.log"
    (root / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    whole = RECIPE.replace("crop: [16, 16, 16]", "crop: [32, 32, 32]")  # the demo's volumes are larger
    (root / "demo.yaml").write_text(whole, encoding="utf-8")
    ids = [f"{root}/source/images/phantom_{number:03}.nii.gz" for number in range(4)]
    labels = [path.replace("/images/", "/labels/") for path in ids]
    rows = [",".join((ids[one], ids[one + 1], labels[one], labels[one + 1])) for one in range(3)]
    (root / "pairs.csv").write_text("\n".join(["moving,fixed,moving_labels,fixed_labels", *rows]) + "\n")
    for words in (
        ["phantom", str(root / "source"), "--count", "8", "--size", "16"],
        ["prepare", str(root / "source"), str(root / "store"), "--preset", "ct", "--processes", "1"],
    ):
        name = "source" if words[0] == "phantom" else "store"
        if not (root / name).exists() and wait(start(words, log, root), PATIENCE):
            raise SystemExit(f"the preparation failed; see {log}")


def references(root: Path, known: Sequence[Command], names: Sequence[str]) -> dict[str, tuple[dict[str, str], float]]:
    """Return what each command gives undisturbed, and the seconds that it takes; kept for the next call."""
    path, log = root / REFERENCES, root / "reference.log"
    mark = code_hash()
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"code": mark, "found": {}}
    if kept["code"] != mark:
        raise SystemExit(f"{root} is of other code; remove it, or name another folder")
    needed = {*names, "pretrain", "transfer"}  # the others take their results
    for command in known:
        if command.name not in needed or command.name in kept["found"]:
            continue
        out = root / f"undisturbed-{command.name.replace(' ', '')}"
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out.with_name(f"{out.name}.part"), ignore_errors=True)
        began = time.monotonic()
        if wait(start(command.words(out), log, root), PATIENCE) != 0:
            raise SystemExit(f"{command.name} fails undisturbed; see {log}")
        kept["found"][command.name] = command.digest(out), time.monotonic() - began
        write_whole(path, kept)
    return {name: (found[0], found[1]) for name, found in kept["found"].items()}


def write_whole(path: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    temporary.replace(path)


def read_tally(root: Path) -> dict[str, Tally]:
    """Return the tally of earlier calls."""
    path = root / TALLY
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        name: Tally(**{**row, "faults": [(kind, text) for kind, text in row["faults"]]}) for name, row in rows.items()
    }


def drill(root: Path, count: int, seed: int, only: Sequence[str]) -> dict[str, Tally]:
    """Disturb all commands until `count` kills are reached, those of earlier calls in the same folder included."""
    known = commands(root)
    turns = [command for command in known if not only or command.name in only for _ in range(command.share)]
    prepare_inputs(root)
    expected = references(root, known, [command.name for command in turns])
    tallies = {command.name: Tally() for command in turns} | read_tally(root)
    most = min(MOST_KILLS, max(1, count // len(tallies)))  # few kills reach many commands
    while (done := sum(tally.all for tally in tallies.values())) < count:
        draws = random.Random(f"{seed} {sum(tally.rounds for tally in tallies.values())}")
        rare = min(tallies[command.name].rounds / command.share for command in turns)
        command = draws.choice([each for each in turns if tallies[each.name].rounds / each.share == rare])
        tally, began = tallies[command.name], time.monotonic()
        disturb(command, root, min(count - done, draws.randint(1, most)), *expected[command.name], draws, tally)
        tally.seconds += time.monotonic() - began
        write_whole(root / TALLY, {name: asdict(each) for name, each in tallies.items()})
        print(f"{sum(each.all for each in tallies.values())} kills so far", file=sys.stderr, flush=True)
    return tallies


def print_tally(tallies: dict[str, Tally]) -> int:
    """Print what happened, and return the number of faults."""
    print(f"{'command':<16} {'rounds':>6} {'SIGKILL':>8} {'SIGTERM':>8} " + "".join(f"{kind:>8}" for kind in KINDS))
    for name, tally in tallies.items():
        kinds = [sum(kind == each for each, _ in tally.faults) for kind in KINDS]
        print(
            f"{name:<16} {tally.rounds:>6} {tally.kills:>8} {tally.terms:>8} " + "".join(f"{each:>8}" for each in kinds)
        )
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    if faults:
        print(*(text for _, text in faults), sep="\n")
    figures = ", ".join(f"{sum(kind == each for each, _ in faults)} {kind}" for kind in KINDS)
    rounds, seconds = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("rounds", "seconds"))
    print(f"{sum(tally.all for tally in tallies.values())} kills in {rounds} rounds and {seconds:.0f} s: {figures}")
    return len(faults)


def main() -> int:
    """Drill, and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=200, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="COMMAND", help="commands to disturb; all if not given"
    )
    what = "a folder to work in, which is kept, and in which the next call goes on; a temporary one if not given"
    parser.add_argument("--keep", type=Path, metavar="DIR", help=what)
    parser.add_argument("--tally", action="store_true", help="print what has happened in --keep so far, and end")
    options = parser.parse_args()
    unknown = {*options.only} - {command.name for command in commands(Path())}
    if unknown or (options.tally and options.keep is None):
        parser.error(f"there is no command {', '.join(sorted(unknown))}" if unknown else "--tally needs --keep")
    with tempfile.TemporaryDirectory(prefix="gvsl-drill-") as temporary:
        root = (Path(temporary) if options.keep is None else options.keep).resolve()
        if not options.tally:
            root.mkdir(parents=True, exist_ok=True)
            with suppress(KeyboardInterrupt):  # the tally is shown, and the next call goes on
                drill(root, options.count, options.seed, options.only)
        return 1 if print_tally(read_tally(root)) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
