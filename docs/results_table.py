"""The tables of docs/results.md from run records alone: python docs/results_table.py docs/records."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gvsl.results import RunRecord, find_records

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


def linear_table(records: Sequence[RunRecord]) -> list[str]:
    """One row a store, protocol and number of labels: both sides, and their paired difference."""
    groups: dict[tuple[str, str, int, int], dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config = record.config
        key = (record.store["name"], config["mode"], config["kernel"], len(config["train_cases"]))
        groups[key][config["method"]].append(record)
    lines = [
        "| store | mode | head | labels | seeds | random features | GVSL features | difference | cases ahead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (store, mode, kernel, labels), sides in sorted(groups.items()):
        if sides.keys() != {"scratch", "gvsl"}:
            continue
        tables = {
            name: np.array([[row["dice"] for row in record.cases] for record in runs]) for name, runs in sides.items()
        }
        means = {name: table.mean(axis=0) for name, table in tables.items()}
        gap = means["gvsl"] - means["scratch"]
        lines.append(
            f"| {store} | {mode} | {kernel}x{kernel}x{kernel} | {labels} | {len(tables['gvsl'])} "
            f"| {_said(tables['scratch'])} | {_said(tables['gvsl'])} | {gap.mean():+.3f} ± {gap.std(ddof=1):.3f} "
            f"| {(gap > 0).sum()} of {len(gap)} |"
        )
    return lines


def _said(table: np.ndarray) -> str:
    """Mean, spread over cases of their means over seeds, and each seed's mean: rows are seeds, columns cases."""
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{table.mean():.3f} ± {table.mean(axis=0).std(ddof=1):.3f} ({seeds})"


if __name__ == "__main__":
    found = [record for _, record in find_records([Path(folder) for folder in sys.argv[1:]])]
    print("\n".join(matching_table([record for record in found if record.kind == "pretrain"])), end="\n\n")
    print("\n".join(linear_table([record for record in found if record.kind == "transfer"])))
