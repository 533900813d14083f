"""The tables of docs/results.md from run records alone: python docs/results_table.py docs/records."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.results import RunRecord, find_records

Scores = NDArray[np.float64]
MATCHING = ("ncc_identity", "ncc_affine", "ncc", "dice_before", "dice_after", "folded")


def matching_table(records: Sequence[RunRecord]) -> list[str]:
    """One row a pre-training run: means over its held-out pairs, and the spread of the overlap."""
    lines = [
        "| store | seed | steps | minutes | NCC loss: no warp | affine | all | DSC before | DSC after | folded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        mean = {name: np.mean([row[name] for row in record.cases]) for name in MATCHING}
        spread = {name: np.std([row[name] for row in record.cases], ddof=1) for name in MATCHING}
        lines.append(
            f"| {record.store['name']} | {record.seed} | {record.config['trainer']['max_steps']} "
            f"| {record.seconds / 60:.0f} | {mean['ncc_identity']:.3f} | {mean['ncc_affine']:.3f} | {mean['ncc']:.3f} "
            f"| {mean['dice_before']:.3f} ± {spread['dice_before']:.3f} "
            f"| {mean['dice_after']:.3f} ± {spread['dice_after']:.3f} | {100 * mean['folded']:.2f} % |"
        )
    return lines


def linear_table(records: Sequence[RunRecord], steps: Mapping[str, int]) -> list[str]:
    """One row a store, protocol, number of labels and length of pre-training, each seed beside the same random one.

    Args:
        records: the transfer runs.
        steps: of each pre-training run, by its folder's name.
    """
    random: dict[tuple[str, str, int, int], dict[int, Scores]] = defaultdict(dict)
    trained: dict[tuple[str, str, int, int, int], dict[int, Scores]] = defaultdict(dict)
    for record in records:
        config = record.config
        key = (record.store["name"], config["mode"], config["kernel"], len(config["train_cases"]))
        scores = np.array([row["dice"] for row in record.cases])
        if config["method"] == "scratch":
            random[key][record.seed] = scores
        else:
            trained[*key, steps[Path(config["weights"]).name]][record.seed] = scores
    lines = [
        "| store | mode | head | labels | steps | random features | GVSL features | difference | cases ahead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (store, mode, kernel, labels, length), runs in sorted(trained.items()):
        seeds = sorted(runs.keys() & random[store, mode, kernel, labels].keys())
        ours = np.stack([runs[seed] for seed in seeds])
        theirs = np.stack([random[store, mode, kernel, labels][seed] for seed in seeds])
        gap = (ours - theirs).mean(axis=0)
        lines.append(
            f"| {store} | {mode} | {kernel}x{kernel}x{kernel} | {labels} | {length} | {_said(theirs)} | {_said(ours)} "
            f"| {gap.mean():+.3f} ± {gap.std(ddof=1):.3f} | {(gap > 0).sum()} of {len(gap)} |"
        )
    return lines


def _said(table: Scores) -> str:
    """Mean, spread over cases of their means over seeds, and each seed's mean: rows are seeds, columns cases."""
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{table.mean():.3f} ± {table.mean(axis=0).std(ddof=1):.3f} ({seeds})"


if __name__ == "__main__":
    found = find_records([Path(folder) for folder in sys.argv[1:]])
    pretrained = {folder.name: record for folder, record in found if record.kind == "pretrain"}
    lengths = {name: int(record.config["trainer"]["max_steps"]) for name, record in pretrained.items()}
    print("\n".join(matching_table(list(pretrained.values()))), end="\n\n")
    print("\n".join(linear_table([record for _, record in found if record.kind == "transfer"], lengths)))
