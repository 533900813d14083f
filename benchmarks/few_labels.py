"""Labels carried from a few atlases onto held-out volumes, by every start: python benchmarks/few_labels.py STORE.

    python benchmarks/few_labels.py STORE --run RUN ... [--labels 1 3 5] [--draws 10] [--steps 0 10 40] --out FOLDER

A draw is which of the training cases are the atlases, as `gvsl transfer --labels N --seed DRAW` draws them. Every way
to match gives a field from each atlas that a draw needs to each volume of the split: refinement by gvsl from the affine
part and the field of a network, and from none, the control; and ANTs SyN (`--ants`, needs
`pip install "gvsl[benchmarks]"`). All fields carry labels by the same code, and several atlases vote by each rule.
With `--templates N`, every way of gvsl has a second row, of labels that also pass through N unlabelled volumes of the
split `pretrain`, chosen for each draw. FOLDER gets few_labels.md and few_labels.json, with the DSC of every case,
rewritten after each way. Seconds are processor time of one thread for one atlas and one volume, median. The last table
has, for the same steps and number of labels, each network's start less none: the mean over draws and cases, with a 95 %
interval over cases. With `--split test`, FOLDER/records has a record of every way, draw and rule, which `gvsl report`
draws beside the arms of `gvsl benchmark`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from registration import ANTS, Pair, by_ants, import_ants
from torch import Tensor

from gvsl.errors import UserError
from gvsl.files import write_text
from gvsl.geometry import spatial_shape
from gvsl.methods import GVSL
from gvsl.metrics.bootstrap import mean_with_interval
from gvsl.metrics.dice import dice_per_structure
from gvsl.propagation import Atlas, PropagationSettings
from gvsl.propagation.atlases import load_matcher, read_atlases
from gvsl.propagation.carry import Warped, labels_by, warped_onto
from gvsl.propagation.match import centred, common_shape
from gvsl.propagation.templates import candidates, choose_templates
from gvsl.propagation.vote import Voting, fuse
from gvsl.records import RunRecord, environment, read_record, utc_now, write_record
from gvsl.settings.carrying import CarrySettings
from gvsl.settings.propagation import Start
from gvsl.store import Store
from gvsl.transfer.carrying import volumes_to_label
from gvsl.transfer.cases import draw_labelled

STARTS = get_args(Start)
RULES = get_args(Voting)
MULTIPLE = 16
"""Divisor of the sides that volumes are padded to for ANTs, as for networks of up to five levels."""

Carry = Callable[[Atlas, Tensor], Warped]
"""Returns an atlas's image and class probabilities, warped onto an image."""


Choose = Callable[[Sequence[Atlas]], list[Atlas]]
"""Returns the templates of a draw's atlases."""


def no_templates(atlases: Sequence[Atlas]) -> list[Atlas]:
    """Return none."""
    return []


@dataclass(frozen=True)
class Way:
    """A way to match, with the run of its network."""

    name: str
    carry: Carry
    start: str
    steps: int
    seed: int | None = None
    method: str = "scratch"
    """What matches, for the records; `scratch` is no network."""
    weights: str = "scratch"
    templates: int = 0
    choose: Choose = no_templates


def ways(options: argparse.Namespace, store: Store) -> Iterator[Way]:
    """Yield every way to match: refinement from no network, from each run, and ANTs."""
    methods = [(str(run), read_record(run), load_matcher(run)) for run in options.run]
    if not methods:
        raise UserError("there is no network to compare: give --run")
    for steps in options.steps:
        for start in options.starts:
            if start != "field" and not steps:
                continue  # nothing but the field carries labels without refinement
            for weights, record, method in methods[:1] if start == "none" else methods:
                for templates in sorted({0, options.templates}):
                    settings = PropagationSettings(refine=steps, start=start, templates=templates)
                    name = f"{start}, {steps} steps" + (f", {templates} templates" if templates else "")
                    way = Way(
                        name,
                        _by_gvsl(method, settings),
                        start,
                        steps,
                        templates=templates,
                        choose=_chosen(method, settings, store),
                    )
                    if start != "none":
                        way = replace(way, seed=record.seed, method=str(record.config["method"]), weights=weights)
                    yield way
    if options.ants:
        ants = import_ants()
        for name in options.ants:
            yield Way(name, _by_ants(by_ants(ants, ANTS[name], 1)), name, 0, method=name, weights=name)


def _by_gvsl(method: GVSL, settings: PropagationSettings) -> Carry:
    return lambda atlas, image: warped_onto(method, atlas, image, settings)


def _chosen(method: GVSL, settings: PropagationSettings, store: Store) -> Choose:
    def choose(atlases: Sequence[Atlas]) -> list[Atlas]:
        ids = candidates(volumes_to_label(store, [atlas.id for atlas in atlases], CarrySettings()), settings)
        return choose_templates(
            method, atlases, ids, lambda case: torch.from_numpy(store.channels(case))[None], settings
        )

    return choose if settings.templates else no_templates


def _by_ants(register: Callable[[Pair], Any]) -> Carry:
    def carry(atlas: Atlas, image: Tensor) -> Warped:
        shape = common_shape([spatial_shape(atlas.image), spatial_shape(image)], MULTIPLE)
        moving, fixed = centred(atlas.image, shape), centred(image, shape)
        dvf = register(Pair("", moving, fixed, torch.zeros_like(moving), torch.zeros_like(fixed))).dvf
        return labels_by(dvf, atlas, moving, spatial_shape(image))

    return carry


def measure(
    way: Way, draws: dict[tuple[int, int], list[str]], atlases: dict[str, Atlas], targets: dict[str, Any]
) -> Any:
    """Return the DSC of every target by draw and rule, and the seconds of a match."""
    scores: dict[str, dict[str, float]] = {}
    seconds = []
    templates = {key: way.choose([atlases[name] for name in drawn]) for key, drawn in draws.items()}
    for target, (image, truth) in targets.items():
        carried = {}
        for name in sorted({case for drawn in draws.values() for case in drawn}):
            began = time.process_time()
            carried[name] = way.carry(atlases[name], image)
            seconds.append(time.process_time() - began)
        for (count, draw), drawn in draws.items():
            voters = [carried[name] for name in drawn]
            voters += [way.carry(template, image) for template in templates[count, draw]]
            images, labels, known = (
                torch.cat(parts)
                for parts in zip(*((each.image, each.labels, each.votes) for each in voters), strict=True)
            )
            for rule in RULES if len(voters) > 1 else RULES[:1]:
                votes, _ = fuse(image, images, labels, rule, known=known)
                found = dice_per_structure(votes.argmax(1, keepdim=True), truth, labels.shape[1])
                key = f"{count} {draw} {rule if len(voters) > 1 else 'alone'}"
                scores.setdefault(key, {})[target] = float(np.mean(found))
    return {
        "name": way.name,
        "start": way.start,
        "steps": way.steps,
        "templates": way.templates,
        "seed": way.seed,
        "seconds": statistics.median(seconds),
        "scores": scores,
    }


def write_records(way: Way, row: dict[str, Any], facts: dict[str, Any], folder: Path) -> None:
    """Write a record of each draw and rule, as `gvsl transfer --mode carried` does; one atlas fits every rule."""
    for key, scores in row["scores"].items():
        count, draw, rule = key.split()
        for voting in RULES if rule == "alone" else [rule]:
            carrying = {"voting": voting, "least_dice": 0.0}
            if way.start in STARTS:
                carrying |= {"refine": way.steps, "start": way.start, "templates": way.templates}
            name = f"{way.method}-{way.start}-{way.steps}-{way.templates}-{way.seed}-{voting}-{count}-{draw}".replace(
                " ", "-"
            )
            record = RunRecord(
                kind="transfer",
                name=name,
                seed=int(draw),
                config={
                    "task": "segmentation",
                    "mode": "carried",
                    "method": way.method,
                    "weights": way.weights,
                    "labels": int(count),
                    "train_cases": facts["draws"][f"{count} {draw}"],
                    "carrying": carrying,
                },
                store=facts["store"],
                status="finished",
                created=facts["created"],
                environment=facts["environment"],
                metrics={
                    **mean_with_interval("test/dice", list(scores.values())),
                    "seconds_per_volume": row["seconds"],
                },
                cases=[{"id": case, "dice": score} for case, score in scores.items()],
            )
            write_record(record, folder / name)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the mean DSC of every way by number of labels and rule, with the spread over draws."""
    keys = sorted({(int(key.split()[0]), key.split()[2]) for row in rows for key in row["scores"]})
    heads = ["1 label" if rule == "alone" else f"{count} by {rule}" for count, rule in keys]
    lines = [f"| | seed | s | {' | '.join(heads)} |", f"|---|---|---|{'---|' * len(keys)}"]
    for row in rows:
        cells = []
        for count, rule in keys:
            means = [
                statistics.fmean(found.values())
                for key, found in row["scores"].items()
                if key.split()[0] == str(count) and key.split()[2] == rule
            ]
            spread = f" ({min(means):.3f} to {max(means):.3f})" if len(means) > 1 else ""
            cells.append(f"{statistics.fmean(means):.3f}{spread}" if means else "")
        seed = "" if row["seed"] is None else row["seed"]
        lines.append(f"| {row['name']} | {seed} | {row['seconds']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def gains(rows: Sequence[dict[str, Any]]) -> str:
    """Return what each network's start gains over none at the same steps and number of labels, votes by `local`."""
    lines = [
        "| start | seed | labels | gain over none | 95 % over cases | draws ahead |",
        "|---|---|---|---|---|---|",
    ]
    controls = {_budget(row): row["scores"] for row in rows if row["start"] == "none"}
    for row in rows:
        if row["start"] not in ("affine", "field") or _budget(row) not in controls:
            continue
        shown = [key for key in row["scores"] if key.split()[2] in ("alone", "local")]
        for count in sorted({int(key.split()[0]) for key in shown}):
            draws = [
                {case: score - controls[_budget(row)][key][case] for case, score in row["scores"][key].items()}
                for key in shown
                if key.split()[0] == str(count)
            ]
            gain = mean_with_interval("gain", [statistics.fmean(draw[case] for draw in draws) for case in draws[0]])
            ahead = sum(statistics.fmean(draw.values()) > 0 for draw in draws)
            lines.append(
                f"| {row['name']} | {row['seed']} | {count} | {gain['gain']:+.4f} | "
                f"{_interval(gain)} | {ahead} of {len(draws)} |"
            )
    return "\n".join(lines) + "\n"


def _interval(gain: dict[str, float]) -> str:
    """Return the interval of a gain; of fewer than five cases there is none."""
    return f"{gain['gain_low']:+.4f} to {gain['gain_high']:+.4f}" if "gain_low" in gain else "too few cases"


def _budget(row: dict[str, Any]) -> tuple[int, int]:
    """Return what rows must have in common to be compared."""
    return row["steps"], row.get("templates", 0)


def compare(options: argparse.Namespace) -> None:
    """Measure all ways, and write the results after each.

    Raises:
        UserError: ANTs is missing, or a run or the store can't be used.
    """
    torch.set_num_threads(1)
    store = Store.open(options.store)
    draws = {
        (count, draw): draw_labelled(store.split("train"), count, draw)
        for count in options.labels
        for draw in range(options.draws)
    }
    atlases = read_atlases({store: sorted({case for drawn in draws.values() for case in drawn})})
    targets: dict[str, tuple[Tensor, Tensor]] = {}
    for case in store.split(options.split)[: options.volumes]:
        classes = np.searchsorted([0, *atlases.labels], store.label(case))
        targets[case] = (torch.from_numpy(store.image(case))[None, None], torch.from_numpy(classes)[None, None])
    facts = {
        "created": utc_now(),
        "environment": environment(),
        "store": {"name": store.path.name, "hash": store.hash},
        "split": options.split,
        "runs": [str(run) for run in options.run],
        "draws": {f"{count} {draw}": drawn for (count, draw), drawn in draws.items()},
    }
    rows: list[dict[str, Any]] = []
    for way in ways(options, store):
        rows.append(measure(way, draws, {atlas.id: atlas for atlas in atlases.atlases}, targets))
        if options.split == "test":
            write_records(way, rows[-1], facts, options.out / "records")
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "few_labels.json", json.dumps({**facts, "rows": rows}, indent=1) + "\n")
        title = (
            f"Store {store.path.name}, split {options.split}, {len(targets)} volumes, {options.draws} draws. "
            f"{facts['created']}, one core of {environment()['processor']}, torch {environment()['torch']}.\n\n"
        )
        write_text(options.out / "few_labels.md", f"{title}{table(rows)}\n{gains(rows)}")
        print(table(rows[-1:]).splitlines()[-1], flush=True)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store with labels")
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="pre-trainings that match, of different seeds")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 3, 5], help="numbers of atlases")
    parser.add_argument("--draws", type=int, default=10, help="draws of the atlases")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 10, 40], help="steps of refinement")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS), help="what is refined")
    parser.add_argument("--templates", type=int, default=0, help="volumes that labels also pass through")
    parser.add_argument("--ants", nargs="*", choices=ANTS, default=[], help="rows of ANTs")
    parser.add_argument("--split", default="val", help="whose volumes get labels")
    parser.add_argument("--volumes", type=int, help="only the first of them")
    parser.add_argument("--out", type=Path, default=Path("runs/few_labels"), help="folder of the results")
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
