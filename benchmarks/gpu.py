"""What one GPU shows in a few minutes: python benchmarks/gpu.py STORE --out FOLDER [--minutes 9].

In this order, so that a cut leaves the first parts, each in a process of its own that writes its JSON as it goes:

    tests    the tests marked `gpu`
    steps    a training step of gvsl at 64, 96 and 128 cubed in fp32, bf16 and bf16 compiled, with its peak memory and
             last loss, and at the smallest size compiled to CUDA graphs; a failure of the compiler is a line
    ncc      the local NCC at the same sizes beside MONAI's
    train    gvsl, gvsl with the paper's affine head and in-painting on STORE, as many steps as fit, and their probes

FOLDER gets tests.json, steps.json, ncc.json, train.json and records/, a record of each run; runs/ has the runs whole.
Volumes are not kept on the GPU: `--workers` processes read ahead, and train.json says how long one takes for a batch.

A machine without network needs some wheels and a store, which another one collects; git ignores runs/:

    python benchmarks/gpu.py STORE --collect runs/gpu_kit
    python -m pip install --no-index --no-deps --target runs/site runs/gpu_kit/wheels/*.whl
    PYTHONPATH=src:runs/site python benchmarks/gpu.py runs/gpu_kit/stores/STORE --out runs/gpu
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ncc import WINDOW, images, losses
from step import whole_step
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.cli.pretrain import pretrain_options
from gvsl.data import PairStream
from gvsl.errors import UserError
from gvsl.files import refuse_existing, write_text
from gvsl.hardware import device_facts, find_device, resolve_precision
from gvsl.methods import GVSL, Method
from gvsl.records import environment, read_record, utc_now
from gvsl.store import Store
from gvsl.training.module import channels_last
from gvsl.training.pretrain import build_method
from gvsl.types import PairBatch
from methods import memory, pairs

ROOT = Path(__file__).resolve().parents[1]
FRACTIONS = {"tests": 0.2, "steps": 0.3, "ncc": 0.05, "train": 1.0}
"""Maximum fraction of the budget that a part may take; training takes what is left."""
GRAPHS = "bf16 CUDA graphs"
VARIANTS: dict[str, tuple[str, str | None]] = {
    "fp32": ("fp32", None),
    "bf16": ("bf16", None),
    "bf16 compiled": ("bf16", "default"),
    GRAPHS: ("bf16", "reduce-overhead"),
}
"""Precision of a step, and torch.compile's mode if it is compiled."""
TRAINED = {
    "gvsl": ("gvsl", ()),
    "gvsl-pooled": ("gvsl", ("--pretext.affine-head", "pooled")),
    "inpainting": ("inpainting", ()),
}
"""Method and further options of each pre-training; the pooled head is the paper's."""
START_SECONDS = 15.0
"""Start and evaluation of a pre-training, beside its steps."""
SAFETY = 0.9
"""Fraction of the time that the steps of a pre-training are planned for."""
WHEELS = (
    "annotated-types blosc2 docstring-parser h2 hpack httpx hyperframe iniconfig jsonargparse monai ndindex nibabel "
    "numexpr pluggy pydantic pydantic-core pydicom pytest rich safetensors typing-inspection"
)
"""What the package and its GPU tests need beyond torch, lightning, scikit-learn, matplotlib, tensorboard and
huggingface-hub with what those need. Extras are left out."""
GLIBC = (17, 24, 27, 28)
"""Minor versions of glibc 2 whose wheels are taken."""
MAX_MEBIBYTES = 64


# --- tests ---


def tests(options: argparse.Namespace) -> None:
    """Run the files with GPU tests, each without the fixtures above its folder, which need packages of `dev`."""
    rows = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "mark.gpu" not in path.read_text(encoding="utf-8"):
            continue
        scope = ["--noconftest"] if path.parent == ROOT / "tests" else ["--confcutdir", str(path.parent)]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *scope, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        rows.append({"file": str(path.relative_to(ROOT)), "exit": done.returncode, "output": lines[-20:]})
        write(options, "tests", rows)
        print(f"  {rows[-1]['file']}: {lines[-1] if lines else 'no output'}", flush=True)


# --- steps and NCC ---


def steps(options: argparse.Namespace) -> None:
    """Time a step of gvsl at every size, compiled ones last, since that takes longest; CUDA graphs at the least."""
    device = find_device(options.device)
    rows: list[dict[str, Any]] = []
    for name, (precision, mode) in VARIANTS.items():
        if name not in options.variants:
            continue
        for size in [min(options.sizes)] if name == GRAPHS else options.sizes:
            torch.manual_seed(0)
            method = GVSL(UNet3D(width=options.width)).to(device)
            batch = pairs(size, options.step_pairs, device)
            row: dict[str, Any] = {"variant": name, "size": size, "pairs": options.step_pairs, "width": options.width}
            rows.append(row | time_step(method, batch, precision, mode, options.repeats))
            write(options, "steps", rows)
            print(f"  {name}, {size} cubed: {describe(rows[-1])}", flush=True)


def time_step(method: Method, batch: PairBatch, precision: str, mode: str | None, repeats: int) -> dict[str, Any]:
    """Return the seconds of a whole step (median, min, max), of the first, the peak memory in MiB and the last loss.

    Without enough memory, or if it can't be compiled, the row has the error instead.
    """
    device = batch.moving.device
    method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-4, fused=True)
    step = whole_step(method, optimiser, batch, precision)
    if mode is None:
        return timed_step(step, device, repeats)
    try:
        torch._dynamo.reset()  # else another size makes the shapes dynamic
        method.compile(mode=mode)
        return timed_step(step, device, repeats)
    except Exception as error:  # a compiler has errors of many kinds, and what it can't do ends no other part
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"}


def timed_step(step: Callable[[], Tensor], device: torch.device, repeats: int) -> dict[str, Any]:
    """Return what `time_calls` does of steps, and the last loss, by which variants are compared."""
    losses: list[Tensor] = []

    def work() -> None:
        losses[:] = [step()]  # none of an earlier step, which CUDA graphs overwrite

    timed = time_calls(work, device, repeats)
    return timed if "error" in timed else timed | {"last_loss": float(losses[0])}


def time_calls(work: Callable[[], None], device: torch.device, repeats: int) -> dict[str, Any]:
    """Return the seconds of some calls after a first one, and the peak memory in MiB; the error if memory ran out."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    try:
        for _ in range(repeats + 1):
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    except torch.OutOfMemoryError as error:
        return {"error": str(error).splitlines()[0]}
    first, *rest = seconds
    peak = memory(device)  # on a CPU that of the whole process so far
    if device.type == "cuda":
        torch.cuda.empty_cache()  # for the processes that follow
    timed = {"median": statistics.median(rest), "min": min(rest), "max": max(rest), "first": first}
    return timed | {"peak_mebibytes": peak}


def ncc(options: argparse.Namespace) -> None:
    """Time a forward and backward pass of the local NCC and of MONAI's."""
    device = find_device(options.device)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        for name, loss in losses().items():
            fixed, moved = (image.detach().to(device) for image in images(size))
            moved.requires_grad_()

            def work(loss: Callable[..., Any] = loss, fixed: Any = fixed, moved: Any = moved) -> None:
                moved.grad = None
                loss(fixed, moved).backward()

            rows.append({"loss": name, "size": size, "window": WINDOW} | time_calls(work, device, options.repeats))
            write(options, "ncc", rows)
            print(f"  {name}, {size} cubed: {describe(rows[-1])}", flush=True)


def describe(row: dict[str, Any]) -> str:
    """Return a timed row as text."""
    if "error" in row:
        return str(row["error"])
    spread = f"{row['median']:.4f} s ({row['min']:.4f} to {row['max']:.4f})"
    loss = f", last loss {row['last_loss']:.5f}" if "last_loss" in row else ""
    return f"{spread}, first {row['first']:.1f} s, {row['peak_mebibytes']:.0f} MiB{loss}"


# --- training ---


def train(options: argparse.Namespace) -> None:
    """Pre-train and probe each method in an equal part of the time that is left."""
    rows: list[dict[str, Any]] = []
    probe_seconds = options.probe_seconds
    common = ["--recipe", options.recipe, "--device", options.device, "--precision", options.precision]
    for index, (name, (method, further)) in enumerate(TRAINED.items()):
        share = (options.deadline - time.time()) / (len(TRAINED) - index) - probe_seconds - START_SECONDS
        row: dict[str, Any] = {"name": name}
        rows.append(row)
        run, probe = (options.out / "runs" / f"{kind}-{name}" for kind in ("pretrain", "linear"))
        pretrain = [str(options.store), "--out", str(run), "--method", method, *common, *further]
        pretrain += ["--batch-size", str(options.pairs), "--workers", str(options.workers)]
        linear = [str(options.store), "--out", str(probe), "--weights", str(run), "--mode", "linear", *common]
        try:
            row |= plan(pretrain, SAFETY * share, options)
            write(options, "train", rows)
            row["pretrain"] = gvsl(["pretrain", *pretrain, "--max-steps", str(row["steps"])], run, options)
            write(options, "train", rows)
            began = time.time()
            row["linear"] = gvsl(["transfer", *linear], probe, options)
            probe_seconds = time.time() - began
        except UserError as error:
            row["error"] = str(error)
        write(options, "train", rows)
        told = row.get("error") or f"{row['steps']} steps, linear probe {row['linear']['test/dice']:.3f} DSC"
        print(f"  {name}: {told}", flush=True)


def plan(argv: list[str], seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Return the number of steps of a pre-training that fit, and the seconds of a step and of reading its batch."""
    chosen = pretrain_options(argv)
    settings = chosen.settings
    stream = PairStream(Store.open(chosen.store), settings.data, settings.seed)
    stream.batch(0)  # the first opens the files
    began = time.perf_counter()
    read = stream.batch(1)
    reading = time.perf_counter() - began
    device = find_device(options.device)
    batch = read._replace(moving=channels_last(read.moving.to(device)), fixed=channels_last(read.fixed.to(device)))
    method = build_method(chosen.method, settings).to(device)
    trainer = resolve_precision(settings.trainer)
    timed = time_step(method, batch, trainer.precision, "default" if trainer.compile else None, options.repeats)
    if "error" in timed:
        raise UserError(str(timed["error"]))
    a_step = max(timed["median"], reading / max(settings.data.workers, 1))
    fitting = max(1, int(seconds / a_step))
    return {"steps": min(fitting, options.max_steps or fitting), "reading_seconds": reading, "step": timed}


def gvsl(argv: list[str], run: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run a command of gvsl in a process of its own, copy its record and curves, and return its metrics.

    Raises:
        UserError: the command failed, with its last line.
    """
    done = subprocess.run([sys.executable, "-m", "gvsl", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"gvsl {argv[0]} failed: {lines[-1]}")
    record = read_record(run)
    kept = options.out / "records" / run.name
    kept.mkdir(parents=True)
    for name in ("record.json", record.curves):
        if name is not None:
            shutil.copy(run / name, kept)
    return record.metrics


# --- kit ---


def collect(options: argparse.Namespace) -> None:
    """Fill a folder with wheels and a copy of the store, for a machine without network.

    Raises:
        UserError: the folder exists, pip finds no wheel, or the result is too large.
    """
    refuse_existing(options.collect)
    wheels = options.collect / "wheels"
    wheels.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", options.python, "--implementation", "cp", "--dest", str(wheels)]
    command += ["--constraint", str(ROOT / "constraints.txt")]
    for name in (*(f"manylinux_2_{minor}_x86_64" for minor in GLIBC), "manylinux2014_x86_64", "manylinux1_x86_64"):
        command += ["--platform", name]
    done = subprocess.run([*command, *WHEELS.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"pip can't collect the wheels: {done.stderr.strip().splitlines()[-1]}")
    store = Store.open(options.store)
    shutil.copytree(store.path, options.collect / "stores" / store.path.name)
    size = sum(path.stat().st_size for path in options.collect.rglob("*") if path.is_file()) / 2**20
    print(f"{options.collect}: {len(list(wheels.iterdir()))} wheels and the store {store.path.name}, {size:.1f} MiB")
    if size > MAX_MEBIBYTES:
        raise UserError(f"{options.collect} has {size:.0f} MiB, more than {MAX_MEBIBYTES}: take a smaller store")


# --- running ---

PARTS = {"tests": tests, "steps": steps, "ncc": ncc, "train": train}


def write(options: argparse.Namespace, part: str, rows: list[dict[str, Any]]) -> None:
    """Write a part's rows so far as JSON, with the hardware and versions."""
    found = environment(device_facts(find_device(options.device)))
    facts = {"created": utc_now(), "environment": found, "tf32": torch.backends.cudnn.allow_tf32, "rows": rows}
    write_text(options.out / f"{part}.json", json.dumps(facts, indent=1) + "\n")


def run_part(part: str, options: argparse.Namespace) -> None:
    """Run a part in a process of its own, and end it with its children when its time is over."""
    left = options.deadline - time.time()
    seconds = min(left, FRACTIONS[part] * 60 * options.minutes)
    print(f"{part}: at most {seconds:.0f} s", flush=True)
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part, "--deadline", str(options.deadline)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        process.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        print(f"{part}: cut off", flush=True)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the process and its children
            process.wait()


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store with labels, to pre-train and probe on")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="new folder of the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="all parts together take no longer")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 96, 128], help="sides of the volumes of steps and ncc"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of steps")
    parser.add_argument("--width", type=int, default=32, help="of steps")
    parser.add_argument("--step-pairs", type=int, default=2, help="pairs a step, of steps")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each")
    parser.add_argument("--recipe", default="quick", help="of training")
    parser.add_argument("--pairs", type=int, default=16, help="pairs a step, of training")
    parser.add_argument("--workers", type=int, default=8, help="processes that read volumes, of training")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of training")
    parser.add_argument("--max-steps", type=int, help="of each pre-training; as many as fit if not given")
    parser.add_argument("--probe-seconds", type=float, default=40.0, help="time set aside for the first probe")
    parser.add_argument(
        "--collect", type=Path, metavar="FOLDER", help="only fill this new folder for a machine without network"
    )
    parser.add_argument("--python", default="3.12", help="version of Python on that machine")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Collect, run one part, or run all parts one after the other.

    Raises:
        UserError: a folder exists, the store can't be opened, or there is no such device.
    """
    if options.collect is not None:
        collect(options)
        return
    if options.part is not None:
        PARTS[options.part](options)
        return
    options.deadline = time.time() + 60 * options.minutes
    refuse_existing(options.out)
    find_device(options.device)
    Store.open(options.store)
    options.out.mkdir(parents=True)
    for part in options.parts:
        run_part(part, options)


def main() -> int:
    """Run, and print a user's error as one line."""
    try:
        run(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
