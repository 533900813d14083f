"""The tables of docs/results.md from run records alone: python docs/results_table.py docs/records."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.evaluation.intervals import bootstrap
from gvsl.evaluation.ranking import auc
from gvsl.methods import METHODS
from gvsl.results import RunRecord, find_records

Scores = NDArray[np.float64]
MATCHING = ("ncc_identity", "ncc_affine", "ncc", "dice_before", "dice_after", "folded")
SCRATCH, RANDOM = "scratch", "random"
ARMS = {
    RANDOM: "linear, random features",
    "linear": "linear, GVSL features",
    SCRATCH: "from scratch",
    "finetune": "fine-tuned from GVSL",
}


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
            random, ours = _paired(rows.get((SCRATCH, 0), {}), runs)
            if method == "gvsl" and column.mode == "linear" and ours.size:
                gap = (ours - random).mean(axis=0)
                lines.append(
                    f"| {column.store} | {column.labels} | {length} | {_said(random)} | {_said(ours)} "
                    f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)} |"
                )
    return lines


def few_table(probes: Probes) -> list[str]:
    """Linear, fine-tuned and from scratch by labels: a row a store, labels and way of training."""
    lines = [
        "| store | labels | | test figure (95 % interval) | each seed | steps to 95 % of the best |",
        "|---|---|---|---|---|---|",
    ]
    arms: dict[tuple[str, int], dict[str, Mapping[int, RunRecord]]] = defaultdict(dict)
    for column, rows in probes.items():
        for (method, _), runs in rows.items():
            if method in ("gvsl", SCRATCH):
                name = column.mode if column.mode != "linear" or method == "gvsl" else RANDOM
                arms[column.store, column.labels][name] = runs
    for (store, labels), found in sorted(arms.items()):
        if "finetune" in found:
            lines += [
                f"| {store} | {labels} | {ARMS[name]} | {_figures(found[name])} |" for name in ARMS if name in found
            ]
    return lines


def _figures(runs: Mapping[int, RunRecord]) -> str:
    """DSC or AUC with the interval over cases of its mean over seeds, each seed's, and the steps to nearly the best."""
    records = [runs[seed] for seed in sorted(runs)]
    key = "dice" if "dice" in records[0].cases[0] else "auc"
    each = ", ".join(f"{record.metrics[f'test/{key}']:.3f}" for record in records)
    adam = records[0].config["mode"] != "linear"  # a step of L-BFGS is another thing
    steps = [record.metrics["steps_to_95"] for record in records if adam]
    low, high = bootstrap(len(records[0].cases), partial(_drawn, records, key))
    mean = np.mean([record.metrics[f"test/{key}"] for record in records])
    taken = f"{np.mean(steps):.0f} ({', '.join(f'{step:.0f}' for step in steps)})" if adam else ""
    name = {"dice": "DSC", "auc": "AUC"}[key]
    return f"{name} {mean:.3f} ({low:.3f} to {high:.3f}) | {each} | {taken}"


def _drawn(records: Sequence[RunRecord], key: str, drawn: NDArray[np.int64]) -> float | None:
    """The mean over runs of a figure over the cases drawn."""
    if key == "dice":
        return float(np.mean([[record.cases[index]["dice"] for index in drawn] for record in records]))
    truth = np.array([records[0].cases[index]["target"] for index in drawn])
    if not 0 < truth.sum() < truth.size:
        return None
    scores = [np.array([record.cases[index]["score"] for index in drawn]) for record in records]
    return float(np.mean([auc(truth, each) for each in scores]))


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
        random, ours = _paired(rows.get((SCRATCH, 0), {}), runs)
        if not ours.size:
            continue
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
    transfers = [record for _, record in found if record.kind == "transfer"]
    probes = probes_of((record for record in transfers if "test/dice" in record.metrics), lengths)
    matching = [record for record in pretrained.values() if record.config["method"] == "gvsl"]
    print("\n".join(matching_table(matching)), end="\n\n")
    print("\n".join(labels_table(probes)), end="\n\n")
    print("\n".join(few_table(probes_of(transfers, lengths))), end="\n\n")
    common = min(lengths.values())
    for store in sorted({column.store for column in probes}):
        took = defaultdict(list)
        for record in pretrained.values():
            if record.store["name"] == store and record.config["trainer"]["max_steps"] == common:
                took[record.config["method"]].append(record.seconds / 60)
        print("\n".join(methods_table(probes, store, common, took)), end="\n\n")
