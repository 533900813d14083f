"""The tables of docs/results.md from run records alone: python docs/results_table.py docs/records."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.methods import METHODS
from gvsl.results import RunRecord, find_records

Scores = NDArray[np.float64]
MATCHING = ("ncc_identity", "ncc_affine", "ncc", "dice_before", "dice_after", "folded")
SCRATCH = "scratch"


@dataclass(frozen=True)
class Column:
    """What runs must have in common to be compared."""

    store: str
    mode: str
    kernel: int
    labels: int


Probes = Mapping[Column, Mapping[tuple[str, int], Mapping[int, RunRecord]]]
"""Transfer runs by column, then by method and steps of pre-training, then by seed."""


def matching_table(records: Iterable[RunRecord]) -> list[str]:
    """One row a pre-training run that matches: means over its held-out pairs, and the spread of the overlap."""
    lines = [
        "| store | seed | steps | minutes | NCC loss: no warp | affine | all | DSC before | DSC after | folded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        if not record.cases:
            continue
        mean = {name: np.mean([row[name] for row in record.cases]) for name in MATCHING}
        spread = {name: np.std([row[name] for row in record.cases], ddof=1) for name in MATCHING}
        lines.append(
            f"| {record.store['name']} | {record.seed} | {record.config['trainer']['max_steps']} "
            f"| {record.seconds / 60:.0f} | {mean['ncc_identity']:.3f} | {mean['ncc_affine']:.3f} | {mean['ncc']:.3f} "
            f"| {mean['dice_before']:.3f} ± {spread['dice_before']:.3f} "
            f"| {mean['dice_after']:.3f} ± {spread['dice_after']:.3f} | {100 * mean['folded']:.2f} % |"
        )
    return lines


def probes_of(records: Iterable[RunRecord], steps: Mapping[str, int]) -> Probes:
    """The transfer runs, sorted out.

    Args:
        records: the transfer runs.
        steps: of each pre-training run, by its folder's name.
    """
    found: dict[Column, dict[tuple[str, int], dict[int, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        config = record.config
        column = Column(record.store["name"], config["mode"], config["kernel"], len(config["train_cases"]))
        method = config["method"]
        length = 0 if method == SCRATCH else steps[Path(config["weights"]).name]
        found[column][method, length][record.seed] = record
    return found


def labels_table(probes: Probes) -> list[str]:
    """GVSL beside the random network that each seed of it started from: a row a store, labels and steps."""
    lines = [
        "| store | labels | steps | random features | GVSL features | difference | cases ahead |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, rows in sorted(probes.items(), key=lambda item: (item[0].store, item[0].labels)):
        for (method, length), runs in sorted(rows.items()):
            if method == "gvsl":
                random, ours = _paired(rows[SCRATCH, 0], runs)
                gap = (ours - random).mean(axis=0)
                lines.append(
                    f"| {column.store} | {column.labels} | {length} | {_said(random)} | {_said(ours)} "
                    f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)} |"
                )
    return lines


def methods_table(probes: Probes, store: str, steps: int, minutes: Mapping[str, Sequence[float]]) -> list[str]:
    """Table 1 for one store, with all its labels: a row a method, best first."""
    column = max((column for column in probes if column.store == store), key=lambda column: column.labels)
    rows = probes[column]
    lines = [
        f"| {store}, {column.labels} labels | minutes | validation DSC | test DSC | to scratch | cases ahead |",
        "|---|---|---|---|---|---|",
    ]
    found: list[tuple[float, str]] = []
    for method in (SCRATCH, *METHODS):
        runs = rows.get((method, 0 if method == SCRATCH else steps), {})
        if not runs:
            continue
        random, ours = _paired(rows[SCRATCH, 0], runs)
        gap = (ours - random).mean(axis=0)
        validation = np.mean([runs[seed].metrics["val/dice"] for seed in sorted(runs)])
        took = f"{np.mean(minutes[method]):.1f}" if method != SCRATCH else ""
        beside = "| |" if method == SCRATCH else f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)} |"
        found.append((float(ours.mean()), f"| `{method}` | {took} | {validation:.3f} | {_said(ours)} {beside}"))
    return lines + [line for _, line in sorted(found, reverse=True)]


def _paired(random: Mapping[int, RunRecord], ours: Mapping[int, RunRecord]) -> tuple[Scores, Scores]:
    """Test DSC of the seeds that both have: rows are seeds, columns cases."""
    seeds = sorted(random.keys() & ours.keys())
    first, second = (np.array([[row["dice"] for row in runs[seed].cases] for seed in seeds]) for runs in (random, ours))
    return first, second


def _gap(gap: Scores) -> str:
    return f"{gap.mean():+.3f} ± {gap.std(ddof=1):.3f}"


def _said(table: Scores) -> str:
    """Mean, spread over cases of their means over seeds, and each seed's mean: rows are seeds, columns cases."""
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{table.mean():.3f} ± {table.mean(axis=0).std(ddof=1):.3f} ({seeds})"


if __name__ == "__main__":
    found = find_records([Path(folder) for folder in sys.argv[1:]])
    pretrained = {folder.name: record for folder, record in found if record.kind == "pretrain"}
    lengths = {name: int(record.config["trainer"]["max_steps"]) for name, record in pretrained.items()}
    probes = probes_of((record for _, record in found if record.kind == "transfer"), lengths)
    matching = [record for record in pretrained.values() if record.config["method"] == "gvsl"]
    print("\n".join(matching_table(matching)), end="\n\n")
    print("\n".join(labels_table(probes)), end="\n\n")
    common = min(lengths.values())
    for store in sorted({column.store for column in probes}):
        took = defaultdict(list)
        for record in pretrained.values():
            if record.store["name"] == store and record.config["trainer"]["max_steps"] == common:
                took[record.config["method"]].append(record.seconds / 60)
        print("\n".join(methods_table(probes, store, common, took)), end="\n\n")
