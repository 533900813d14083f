"""Registration of a store's held-out pairs by gvsl and by ANTs, side by side: python benchmarks/registration.py STORE.

    python benchmarks/registration.py STORE [--run RUN ...] [--refine 30 ...] --out FOLDER

Each volume of the split is the fixed one once, with the next as the moving one, as in `gvsl pretrain`'s evaluation; the
crop is that of the runs, without any `--crop` or that of the recipe `quick`. Every row ends in a displacement field on
the fixed volume's grid, and all fields are scored by the same code. FOLDER gets registration.md and registration.json,
rewritten after each row. Seconds are processor time of one thread, median over pairs, so that other programs on the
machine do not lengthen them. ANTs needs `pip install "gvsl[benchmarks]"`; `--without-ants` leaves its rows out.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.data import DataSettings, read_crop, subjects_to_pair
from gvsl.data.crop import Shape
from gvsl.data.pairs import crop_for
from gvsl.errors import UserError
from gvsl.files import write_text
from gvsl.geometry import nonpositive_jacobian_fraction, warp
from gvsl.methods import GVSL
from gvsl.methods.load_method import load_method
from gvsl.metrics.dice import dice_per_structure
from gvsl.records import environment, read_record, utc_now
from gvsl.refinement import RefinementSettings, refine
from gvsl.splits import some_of
from gvsl.store import Store
from gvsl.training.evaluate import MOST
from gvsl.training.matched_pairs import across_subjects, label_crop
from gvsl.transfer.augmentation import warp_classes

QUICK_VOXELS = 100_000
"""`data.most_voxels` of the recipe `quick`."""
ANTS_AFFINE = {"type_of_transform": "Affine"}
ANTS: dict[str, dict[str, Any]] = {
    "ANTs SyN": {"type_of_transform": "SyN"},
    "ANTs SyN, 100x70x50x20": {"type_of_transform": "SyN", "reg_iterations": (100, 70, 50, 20)},
    "ANTs SyN, CC": {"type_of_transform": "SyN", "syn_metric": "CC", "syn_sampling": 4},
    "ANTs SyNCC": {"type_of_transform": "SyNCC"},
}
"""Arguments of `ants.registration` by row. With CC: SyN's default iterations, and last ANTs' own preset, with many more
(a minute or more a pair)."""

NUMBERS = ("dsc", "dsc_sd", "dsc_interpolated", "folded", "seconds", "refinement_seconds")
"""Values of a row that are averaged over its seeds."""
NETWORK_PARTS = {"affine part": "affine", "field": "dvf"}
"""Fields of a `Matching` by the name of their row."""


@dataclass(frozen=True)
class Pair:
    """A pair of crops with their label maps."""

    name: str
    moving: Tensor
    """(1, 1, D, H, W), in [0, 1]."""
    fixed: Tensor
    """(1, 1, D, H, W), in [0, 1]."""
    label: Tensor
    """Class indices of the moving volume, (1, 1, D, H, W)."""
    truth: Tensor
    """Class indices of the fixed volume, (1, 1, D, H, W)."""


@dataclass(frozen=True)
class Found:
    """A pair's field and the time it took."""

    dvf: Tensor
    """(1, 3, D, H, W), in voxels: out(p) = moving(p + dvf(p))."""
    seconds: float
    """Processor seconds of the registration or of the network."""
    refinement: float = 0.0
    """Processor seconds of the refinement."""


Register = Callable[[Pair], Found]


@dataclass(frozen=True)
class Row:
    """A way to register, with its seed, of ANTs or of a run of gvsl, and that run's folder."""

    name: str
    register: Register
    run: str | None = None
    seed: int | None = None


# --- pairs and scores ---


def read_pairs(store: Store, split: str, crop: Shape) -> list[Pair]:
    """Return the pairs of a split that `gvsl.training.evaluate` measures, in its order.

    Raises:
        UserError: the split has fewer than two volumes, or one without a label map.
    """
    ids = some_of(store.split(split), MOST)
    unlabelled = [case for case in ids if not store.has_label(case)]
    if len(ids) < 2 or unlabelled:
        missing = f"{unlabelled[0]} has none" if unlabelled else f"it has {len(ids)}"
        raise UserError(f"{store.path}: split {split!r} needs two or more labelled volumes, and {missing}")
    images = {case: read_crop(store, case, crop)[None] for case in ids}
    labels = {case: label_crop(store, case, crop) for case in ids}
    return [
        Pair(f"{moving}->{fixed}", images[moving], images[fixed], labels[moving], labels[fixed])
        for moving, fixed in across_subjects(ids, subjects_to_pair(store, ids))
    ]


def score(pair: Pair, found: Found, classes: int) -> dict[str, Any]:
    """Return a pair's metrics.

    `dsc` is the mean Dice of its structures with labels warped by nearest neighbour, as registration is usually scored;
    `dsc_interpolated` that with each class interpolated and the largest share taken, as `gvsl propagate` carries them.
    """
    nearest = warp(pair.label.float(), found.dvf, mode="nearest").to(pair.label.dtype)
    interpolated = warp_classes(pair.label.long(), found.dvf).clamp(min=0)

    def dsc(warped: Tensor) -> float:
        return float(np.mean(dice_per_structure(warped, pair.truth, classes)))

    return {
        "id": pair.name,
        "dsc": dsc(nearest),
        "dsc_interpolated": dsc(interpolated),
        "folded": float(nonpositive_jacobian_fraction(found.dvf)),
        "seconds": found.seconds,
        "refinement_seconds": found.refinement,
    }


def measure(row: Row, pairs: Sequence[Pair], classes: int) -> dict[str, Any]:
    """Register all pairs in one way, and return the row's summary with the metrics of each pair."""
    cases = [score(pair, row.register(pair), classes) for pair in pairs]
    scores = [case["dsc"] for case in cases]
    return {
        "name": row.name,
        "run": row.run,
        "seed": row.seed,
        "dsc": statistics.fmean(scores),
        "dsc_sd": statistics.stdev(scores),
        "dsc_interpolated": statistics.fmean(case["dsc_interpolated"] for case in cases),
        "folded": statistics.fmean(case["folded"] for case in cases),
        "seconds": statistics.median(case["seconds"] for case in cases),
        "refinement_seconds": statistics.median(case["refinement_seconds"] for case in cases),
        "cases": cases,
    }


# --- ways to register ---


def identity(pair: Pair) -> Found:
    """Leave the moving volume where it is."""
    return Found(torch.zeros(1, 3, *pair.fixed.shape[2:]), 0.0)


def import_ants() -> ModuleType:
    """Import antspyx, limited to one thread.

    Raises:
        UserError: it is not installed.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # read when the library is loaded
    try:
        import ants
    except ImportError as error:
        raise UserError(
            f'ANTs can\'t be imported ({error}): pip install "gvsl[benchmarks]", or give --without-ants'
        ) from None
    module: ModuleType = ants
    return module


def by_ants(ants: ModuleType, arguments: dict[str, Any], seed: int) -> Register:
    """Return a registration by `ants.registration`, whose metrics sample at random; only that call is timed."""

    def register(pair: Pair) -> Found:
        moving, fixed = (ants.from_numpy(image[0, 0].numpy().astype(np.float32)) for image in (pair.moving, pair.fixed))
        ants.config.set_ants_deterministic(on=True, seed_value=seed)
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            result = ants.registration(fixed, moving, outprefix=f"{folder}/", **arguments)
            seconds = time.process_time() - began
            return Found(field_of(ants, fixed, moving, result["fwdtransforms"], Path(folder)), seconds)

    return register


def field_of(ants: ModuleType, fixed: Any, moving: Any, transforms: list[str], folder: Path) -> Tensor:
    """Return the composition of ANTs' transforms as a DVF, (1, 3, D, H, W) in voxels.

    Images from arrays have voxels of 1 mm at the origin, so that millimetres are voxels and axes keep their order.
    """
    path = ants.apply_transforms(fixed, moving, transforms, compose=f"{folder}/composed-")
    vectors = ants.image_read(path).numpy()
    return torch.from_numpy(np.moveaxis(vectors, -1, 0).astype(np.float32))[None]


def by_network(method: GVSL, part: str) -> Register:
    """Return the network's matching: its `affine` part, or its whole `dvf`."""

    @torch.no_grad()
    def register(pair: Pair) -> Found:
        began = time.process_time()
        matching = method.match(pair.moving, pair.fixed)
        return Found(getattr(matching, part).float(), time.process_time() - began)

    return register


def by_refinement(start: Register, steps: int) -> Register:
    """Return the refinement of another registration's field on the pair itself."""

    def register(pair: Pair) -> Found:
        found = start(pair)
        began = time.process_time()
        dvf = refined(found.dvf, pair, steps)
        return Found(dvf, found.seconds, time.process_time() - began)

    return register


def refined(dvf: Tensor, pair: Pair, steps: int) -> Tensor:
    """Refine a field on its pair by `steps` steps of gvsl's optimiser."""
    return refine(dvf, pair.moving, pair.fixed, RefinementSettings(steps=steps))


def remembered(register: Register) -> Register:
    """Return a registration that keeps each pair's result, since a row and its refinements need the same one."""
    kept: dict[str, Found] = {}

    def once(pair: Pair) -> Found:
        if pair.name not in kept:
            kept[pair.name] = register(pair)
        return kept[pair.name]

    return once


# --- rows ---


def baseline_rows(ants: ModuleType | None, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows without a network: no warp, ANTs, and the refinement from no warp and from ANTs' affine map."""
    yield Row("no warp", identity)
    if ants is not None:
        for seed in options.ants_seeds:
            affine = remembered(by_ants(ants, ANTS_AFFINE, seed))
            yield Row("ANTs affine", affine, seed=seed)
            chosen = {name: arguments for name, arguments in ANTS.items() if name not in options.without}
            for name, arguments in chosen.items():
                yield Row(name, by_ants(ants, arguments, seed), seed=seed)
            yield from refined_rows({"ANTs affine": affine}, options.refine, seed=seed)
    yield from refined_rows({"no warp": identity}, options.refine)


def run_rows(run: Path, refinements: Sequence[int]) -> Iterator[Row]:
    """Yield the rows of a pre-training: affine part, field, and the refinements from both.

    Raises:
        UserError: the run's method doesn't match pairs.
    """
    method = load_method(run)
    if not isinstance(method, GVSL) or method.matching is None:
        raise UserError(f"{run} was trained by a method that doesn't match pairs: name a run of gvsl")
    seed = read_record(run).seed
    starts = {f"gvsl {name}": remembered(by_network(method, part)) for name, part in NETWORK_PARTS.items()}
    for name, register in starts.items():
        yield Row(name, register, str(run), seed)
    yield from refined_rows(starts, refinements, str(run), seed)


def refined_rows(
    starts: dict[str, Register], refinements: Sequence[int], run: str | None = None, seed: int | None = None
) -> Iterator[Row]:
    """Yield the refinements of each start, all by the same number of steps."""
    for steps in refinements:
        for name, start in starts.items():
            yield Row(f"{name}, {steps} steps", by_refinement(start, steps), run, seed)


# --- output ---


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a line for each row's name, averaged over the seeds of its runs."""
    lines = [
        "| | label DSC | sd over pairs | labels interpolated | folded | s a pair | s of refinement | DSC by seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        same = [row for row in rows if row["name"] == name]
        mean = {key: statistics.fmean(row[key] for row in same) for key in NUMBERS}
        seeds = ", ".join(f"{row['dsc']:.3f} ({row['seed']})" for row in same if row["seed"] is not None)
        refinement = f"{mean['refinement_seconds']:.2f}" if mean["refinement_seconds"] else ""
        lines.append(
            f"| {name} | {mean['dsc']:.3f} | {mean['dsc_sd']:.3f} | "
            f"{mean['dsc_interpolated']:.3f} | {mean['folded']:.2%} | {mean['seconds']:.2f} | "
            f"{refinement} | {seeds} |"
        )
    return "\n".join(lines) + "\n"


def write_results(out: Path, facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write registration.json and registration.md, each whole."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "registration.json", json.dumps({**facts, "rows": list(rows)}, indent=1) + "\n")
    found = facts["environment"]
    title = (
        f"Store {facts['store']['name']}, split {facts['split']}, {facts['pairs']} pairs of "
        f"{' x '.join(map(str, facts['crop']))} voxels. {facts['created']}, one core of {found['processor']}, "
        f"torch {found['torch']}, antspyx {found.get('antspyx', 'left out')}.\n\n"
    )
    write_text(out / "registration.md", title + table(rows))


def common_crop(store: Store, runs: Sequence[Path], chosen: Sequence[int] | None = None) -> Shape:
    """Return the crop of the runs, or without runs the chosen one, or the one that the recipe `quick` chooses.

    Raises:
        UserError: the crops differ.
    """
    crops = {tuple(read_record(run).config["data"]["crop"]) for run in runs} | ({tuple(chosen)} if chosen else set())
    if len(crops) > 1:
        raise UserError(f"the crops of the runs and --crop differ, {sorted(crops)}: compare runs of one crop")
    for crop in crops:
        return crop[0], crop[1], crop[2]
    return crop_for(store, DataSettings(most_voxels=QUICK_VOXELS))


def compare(options: argparse.Namespace) -> None:
    """Measure all rows, and write the results after each.

    Raises:
        UserError: ANTs is missing, or a run or the store can't be used.
    """
    torch.set_num_threads(1)
    ants = None if options.without_ants else import_ants()
    store = Store.open(options.store)
    crop = common_crop(store, options.run, options.crop)
    pairs = read_pairs(store, options.split, crop)[: options.pairs]
    if len(pairs) < 2:
        raise UserError(f"--pairs is {options.pairs}: give 2 or more")
    found = environment() | ({} if ants is None else {"antspyx": version("antspyx")})
    facts = {
        "created": utc_now(),
        "environment": found,
        "threads": 1,
        "store": {"name": store.path.name, "hash": store.hash},
        "split": options.split,
        "crop": list(crop),
        "pairs": len(pairs),
        "ants": {name: {key: str(value) for key, value in chosen.items()} for name, chosen in ANTS.items()},
    }
    rows = list(baseline_rows(ants, options))
    rows += [row for run in options.run for row in run_rows(run, options.refine)]
    done: list[dict[str, Any]] = []
    for row in rows:
        done.append(measure(row, pairs, 1 + len(store.label_names)))
        write_results(options.out, facts, done)
        print(table(done[-1:]).splitlines()[-1], flush=True)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store with labels")
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="pre-trainings by gvsl, of different seeds")
    parser.add_argument("--refine", type=int, nargs="+", default=[], help="steps of refinement, a set of rows for each")
    parser.add_argument("--split", default="val", help="whose volumes are paired")
    parser.add_argument("--crop", type=int, nargs=3, help="in voxels, without runs; that of `quick` if not given")
    parser.add_argument("--pairs", type=int, help="only the first of the pairs")
    parser.add_argument("--ants-seeds", type=int, nargs="+", default=[1], help="seeds of ANTs, a set of rows for each")
    parser.add_argument("--without", nargs="+", choices=ANTS, default=[], help="rows of ANTs to leave out")
    parser.add_argument("--without-ants", action="store_true", help="leave out all rows of ANTs")
    parser.add_argument("--out", type=Path, default=Path("runs/registration"), help="folder of the results")
    return parser.parse_args()


def main() -> int:
    """Compare, and print a user's error as one line."""
    try:
        compare(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
