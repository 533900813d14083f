"""Linear, fine-tuned and from scratch at few labels: python benchmarks/few_labels.py STORE RUNS OUT [--labels 5 10 20].

RUNS is the name of pre-training runs with {seed} in it, such as runs/hippocampus-gvsl-{seed}. Every run is one `gvsl
transfer --recipe quick` of the `--task`, whose folder lies in OUT as MODE-LABELS-SEED; what is there is not run again,
so that a stopped matrix goes on where it was. `docs/results_table.py` makes the table, `gvsl report OUT` the figure.
"""

import argparse
import sys
from itertools import product
from pathlib import Path

from gvsl.cli import main as gvsl
from gvsl.records import RECORD_NAME

MODES = ("linear", "random", "finetune", "scratch")
"""`random` is the linear probe on random features."""


def words(store: Path, task: str, weights: str, out: Path, mode: str, labels: int, seed: int) -> list[str]:
    """The command line of one run."""
    own = "scratch" if mode in ("random", "scratch") else weights.format(seed=seed)
    protocol = "linear" if mode == "random" else mode
    asked = {
        "--task": task,
        "--weights": own,
        "--mode": protocol,
        "--labels": labels,
        "--seed": seed,
        "--recipe": "quick",
        "--out": out,
    }
    return ["transfer", str(store), *(str(word) for item in asked.items() for word in item)]


def main() -> int:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", default="segmentation", help="as of gvsl transfer")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    options = parser.parse_args()
    failed = 0
    for seed, labels, mode in product(options.seeds, options.labels, options.modes):
        out = options.out / f"{mode}-{labels}-{seed}"
        if (out / RECORD_NAME).is_file():
            continue
        resumes = ["--resume"] if out.with_name(f"{out.name}.part").is_dir() else []
        failed += gvsl([*words(options.store, options.task, options.runs, out, mode, labels, seed), *resumes]) != 0
    print(f"{options.out}: {failed} runs failed" if failed else f"{options.out}: all runs are there")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
