"""gvsl demo: every step on a phantom, shown as a user would type it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import Command, add_recipe, new_parser, parse
from gvsl.cli.data import phantom, prepare
from gvsl.cli.pretrain import pretrain
from gvsl.cli.report import report
from gvsl.cli.transfer import transfer
from gvsl.files import refuse_existing
from gvsl.recipes import read_recipe

CASES = 26
VAL = 5
"""As many held-out pairs as a verdict on the matching needs."""
SIDE = 32
SEEDS = (0, 1)


def demo(argv: Sequence[str]) -> None:
    """Run every step on a phantom: store, pre-training, linear probe against random features, report.

    Prints each step as you would type it, and finally the results and the path of the report. Takes a few
    minutes on two cores, and downloads nothing.
    """
    parser = new_parser(demo, "[--out DIR] [--recipe NAME|FILE]")
    what = "the new folder for all outputs"
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help=what)
    add_recipe(parser, default="demo")
    options = parse(parser, argv)
    out, recipe = options.out, options.recipe
    refuse_existing(out)
    read_recipe(recipe, "pretrain")  # a missing recipe is reported before anything is made
    cohort, store, pretrained = out / "phantom", out / "store", out / "pretrain"
    size = ("--count", CASES, "--val", VAL, "--size", SIDE)
    _step(f"1. Generate a phantom: {CASES} subjects, as NIfTI files", phantom, cohort, *size)
    _step("2. Prepare it, once", prepare, cohort, store, "--preset", "ct")
    _step("3. Pre-train without labels", pretrain, store, "--out", pretrained, "--recipe", recipe)
    print("\n# 4. A linear probe: one convolution, trained with labels, on frozen features", flush=True)
    for seed in SEEDS:
        for name, weights in (("gvsl", pretrained), ("scratch", "scratch")):
            arguments: list[object] = ["--task", "segmentation", "--weights", weights, "--mode", "linear"]
            arguments += ["--out", out / f"linear-{name}-{seed}", "--seed", seed, "--recipe", recipe]
            _step("", transfer, store, *arguments)
    _step("5. Look at it", report, out, "--out", out / "report.html")


def _step(title: str, command: Command, *arguments: object) -> None:
    """Show one command as a user would type it, and run it."""
    argv = [str(argument) for argument in arguments]
    if title:
        print(f"\n# {title}")
    print(f"$ gvsl {shlex.join([command.__name__, *argv])}", flush=True)
    command(argv)
