"""The commands, nothing else: words on a command line -> typed settings -> one call into the package.

What is heavy (torch, Lightning) is imported by the command that needs it, so that help and mistakes answer at
once.
"""

import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from jsonargparse import Namespace, set_parsing_settings

from gvsl.arguments import (
    Command,
    add_path,
    add_recipe,
    new_parser,
    parse,
    peek,
    pretext_type,
    recipe_setting,
    settings_of,
)
from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.progress import progress
from gvsl.recipes import read_recipe
from gvsl.results import RunRecord
from gvsl.words import listed, nearest, one_line, one_of

TASKS = ("segmentation",)
USUAL = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)
"""What a path or a disk may refuse: the user's to mend, so it is said in one line."""
DEMO_CASES = 24
DEMO_SHAPE = (32, 32, 32)
DEMO_SEEDS = (0, 1)
OVERVIEW = """usage: gvsl COMMAND ...

Pre-train 3D medical image networks without labels, by matching scans of different subjects.

{commands}

gvsl COMMAND --help says how to use one. Start with: gvsl demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        run(words)
        sys.stdout.flush()
    except UserError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe, `| head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno not in USUAL:
            raise
        return _complain(f"{error.filename or 'the output'}: {error.strerror}")
    except KeyboardInterrupt as stop:
        print("gvsl: stopped", *stop.args, file=sys.stderr)
        return 130
    return 0


def run(words: Sequence[str]) -> None:
    """Run the command that `words` spell.

    Raises:
        UserError: there is no such command, its arguments are wrong, or it can't do what they ask.
    """
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        lines = (f"  {command:<10} {_summary(function)}" for command, function in COMMANDS.items())
        print(OVERVIEW.format(commands="\n".join(lines)), end="")
    elif name == "--version":
        print(f"gvsl {version('gvsl')}")
    elif name in COMMANDS:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        COMMANDS[name](words[1:])
    else:
        raise UserError(f"there is no command {name}{nearest(name, COMMANDS)}; gvsl --help lists them")


# --- the commands -------------------------------------------------------------------------------------------


def demo(words: Sequence[str]) -> None:
    """Show everything on a phantom: store, pre-training, a linear probe against random features, report.

    Prints each step as you would type it, and at the end where the report is and what it says. Takes under
    five minutes on two cores; nothing is downloaded.
    """
    parser = new_parser(demo, "[--out DIR] [--recipe NAME|FILE]")
    what = "the new folder for all of it"
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help=what)
    add_recipe(parser, default="demo")
    options = parse(parser, words)
    refuse_existing(options.out)
    read_recipe(options.recipe, "pretrain")  # a recipe that isn't there is said before anything is made
    _demo(options.out, options.recipe)


def prepare(words: Sequence[str]) -> None:
    """Turn a folder of volumes or a public dataset into a store, once.

    SOURCE is a folder with images/ (and labels/ of the same names, splits.json and labels.json where there are any),
    or a flat folder of volumes: NIfTI, NRRD or MetaImage files, or DICOM series at any depth. A file that can't be
    used is refused by name and the rest goes on; gvsl inspect lists what was refused and why, and which images are
    there twice.
    """
    from gvsl.datasets import DATASETS
    from gvsl.store import PRESETS, Preprocessing, duplicates
    from gvsl.store import prepare as prepare_store

    preset = one_of(PRESETS, "preset", peek(words, "--preset") or "mr")
    parser = new_parser(prepare, "SOURCE STORE [--dataset NAME] [--preset NAME] [--any.setting VALUE]")
    add_path(parser, "source", "SOURCE", "the folder that holds the volumes")
    add_path(parser, "store", "STORE", "the new folder to write")
    how = f"how SOURCE is laid out: {listed(DATASETS)}"
    parser.add_argument("--dataset", default="folder", metavar="NAME", help=how)
    kinds = f"the kind of scan, which decides the defaults below: {listed(PRESETS)}"
    parser.add_argument("--preset", default=preset, metavar="NAME", help=kinds)
    parser.add_argument("--jobs", type=int, default=1, help="processes to prepare with; -1 for one a core")
    leak = "take a store in which an image is learnt from under one name and held out under another"
    parser.add_argument("--allow-leakage", action="store_true", help=leak)
    defaults = {name: value for name, value in asdict(PRESETS[preset]).items() if name != "preset"}
    parser.add_class_arguments(Preprocessing, default=defaults, skip={"preset"})
    options = parse(parser, words)
    load = DATASETS[one_of(DATASETS, "dataset", options.dataset)]
    settings = settings_of(Preprocessing, options)
    refuse_existing(options.store)
    dataset = load(options.source)
    with progress(len(dataset.cases), "Prepare", "volumes") as advance:
        store = prepare_store(
            dataset.cases,
            options.store,
            settings,
            label_names=dataset.label_names,
            source=dataset.name,
            jobs=options.jobs,
            allow_leakage=options.allow_leakage,
            progress=advance,
        )
    print(f"{options.store}: {len(store.cases)} volumes prepared, {len(store.refused)} refused")
    if store.refused:
        print(f"gvsl inspect {shlex.quote(str(options.store))} says which were refused, and why")
    twice = duplicates((case.id, case.splits, case.content) for case in store.cases.values())
    if twice:
        print(f"Images under more than one name: {len(twice)}; gvsl inspect says which")


def inspect(words: Sequence[str]) -> None:
    """Say what is in a store, how it was prepared, and what was refused and why."""
    from gvsl.store import Store, describe

    parser = new_parser(inspect, "STORE")
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made")
    print(describe(Store.open(parse(parser, words).store)))


def pretrain(words: Sequence[str]) -> None:
    """Pre-train a backbone on a store's `pretrain` split, without labels.

    Writes RUN/weights (safetensors, and a config that says where they come from), RUN/record.json,
    RUN/curves.csv and the checkpoints that --resume goes on from.
    """
    options = pretrain_options(words)
    if not options.resume:
        refuse_existing(options.out)

    from gvsl.evaluation import awaits_evaluation, evaluate_pretraining
    from gvsl.memory import keep_freed_memory
    from gvsl.store import Store
    from gvsl.training import pretrain as train
    from gvsl.training.pretrain import CHECKPOINT

    # Lightning announces hardware that isn't there and services that nobody asked for.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    store = Store.open(options.store)
    try:
        if not (options.resume and awaits_evaluation(options.out)):
            train(store, options.out, options.settings, options.method, options.resume)
    except KeyboardInterrupt:
        resumable = (options.out / CHECKPOINT).is_file()
        mend = "--resume goes on with it" if resumable else "there is no checkpoint yet, so start again"
        raise KeyboardInterrupt(f"{options.out}: {mend}") from None
    _print_record(options.out, evaluate_pretraining(options.out, store))


def pretrain_options(words: Sequence[str]) -> Namespace:
    """What `gvsl pretrain` was told: store, out, method, resume, and PretrainSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.methods import METHODS
    from gvsl.training.settings import PretrainSettings

    asked = peek(words, "--method") or recipe_setting(words, "pretrain", "method") or "gvsl"
    method = one_of(METHODS, "method", asked)
    usage = "STORE --out RUN [--method NAME] [--recipe NAME|FILE] [--resume] [--any.setting VALUE]"
    parser = new_parser(pretrain, usage)
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made")
    add_path(parser, "--out", "RUN", "the new folder of this run")
    what = f"how to learn: {listed(METHODS)}"
    parser.add_argument("--method", default=method, metavar="NAME", help=what)
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with RUN where it stopped")
    parser.add_class_arguments(PretrainSettings, skip={"pretext"})
    parser.add_class_arguments(pretext_type(METHODS[method]), "pretext")
    options = parse(parser, words, method)
    options.settings = settings_of(PretrainSettings, options)
    return options


def methods(words: Sequence[str]) -> None:
    """List the methods that gvsl pretrain can learn by, a line each."""
    from gvsl.methods import METHODS

    parse(new_parser(methods, ""), words)
    for name, factory in METHODS.items():
        print(f"{name:<20} {_summary(factory)}")


def transfer(words: Sequence[str]) -> None:
    """Train a task on labelled cases, from pre-trained or random weights, and score the test split once."""
    options = transfer_options(words)
    refuse_existing(options.out)

    from gvsl.evaluation import transfer as evaluate
    from gvsl.memory import keep_freed_memory
    from gvsl.store import Store

    keep_freed_memory()

    weights = None if options.weights == "scratch" else Path(options.weights)
    record = evaluate(Store.open(options.store), weights, options.out, options.settings)
    _print_record(options.out, record)


def transfer_options(words: Sequence[str]) -> Namespace:
    """What `gvsl transfer` was told: store, task, weights, out, and TransferSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.transfer.settings import TransferSettings

    usage = (
        "STORE --task NAME --weights RUN|scratch --mode linear|finetune|scratch --out RUN"
        " [--recipe NAME|FILE] [--any.setting VALUE]"
    )
    parser = new_parser(transfer, usage)
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made, with labels")
    what = f"what to learn: {listed(TASKS)}"
    parser.add_argument("--task", default=TASKS[0], metavar="NAME", help=what)
    what = "the folder of a gvsl pretrain run, or the word scratch for random weights"
    parser.add_argument("--weights", required=True, metavar="RUN|scratch", help=what)
    add_path(parser, "--out", "RUN", "the new folder of this run")
    add_recipe(parser)
    parser.add_class_arguments(TransferSettings)
    options = parse(parser, words)
    one_of(TASKS, "task", options.task)
    options.settings = settings_of(TransferSettings, options)
    return options


def report(words: Sequence[str]) -> None:
    """Write what runs found as one HTML file that opens without a network."""
    from gvsl.report import summary_lines, write_report

    parser = new_parser(report, "DIR... --out FILE.html")
    what = "folders of runs, or folders with such folders in them"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=what)
    add_path(parser, "--out", "FILE.html", "the new file to write")
    options = parse(parser, words)
    refuse_existing(options.out)
    page = write_report(options.folders, options.out)
    print("\n".join(summary_lines(options.folders)))
    print(f"Report: {page.resolve()}")


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "prepare": prepare,
    "inspect": inspect,
    "methods": methods,
    "pretrain": pretrain,
    "transfer": transfer,
    "report": report,
}


# --- the demo -----------------------------------------------------------------------------------------------


def _demo(out: Path, recipe: str) -> None:
    """Run the demo's steps in `out`, each shown as a user would type it."""
    from gvsl.datasets.phantom import write_phantom

    phantom, store, pretrained = out / "phantom", out / "store", out / "pretrain"
    print(f"# 1. Make a phantom: {DEMO_CASES} subjects, as NIfTI files")
    call = f'write_phantom(Path("{phantom}"), count={DEMO_CASES}, shape={DEMO_SHAPE})'
    code = f"from pathlib import Path; from gvsl.datasets.phantom import write_phantom; {call}"
    print(f"$ python -c {shlex.quote(code)}", flush=True)
    with progress(DEMO_CASES, "Phantom", "subjects") as advance:
        write_phantom(phantom, count=DEMO_CASES, shape=DEMO_SHAPE, progress=advance)
    _step("2. Prepare it, once", "prepare", phantom, store, "--preset", "ct")
    _step("3. Pre-train without labels", "pretrain", store, "--out", pretrained, "--recipe", recipe)
    print("\n# 4. A linear probe: one convolution, trained with labels, on frozen features", flush=True)
    for seed in DEMO_SEEDS:
        for name, weights in (("gvsl", pretrained), ("scratch", "scratch")):
            options: list[object] = ["--task", "segmentation", "--weights", weights, "--mode", "linear"]
            options += ["--out", out / f"linear-{name}-{seed}", "--seed", seed, "--recipe", recipe]
            _step("", "transfer", store, *options)
    _step("5. Look at it", "report", out, "--out", out / "report.html")


def _step(title: str, *words: object) -> None:
    """Show one command as a user would type it, and run it."""
    typed = [str(word) for word in words]
    if title:
        print(f"\n# {title}")
    print(f"$ gvsl {shlex.join(typed)}", flush=True)
    run(typed)


# --- what is said ------------------------------------------------------------------------------------------


def _complain(message: str) -> int:
    """Say on one line what a user did wrong, and return the exit code for it."""
    print(f"gvsl: error: {one_line(message)}", file=sys.stderr)
    return 2


def _print_record(folder: Path, record: RunRecord) -> None:
    """What a run is worth on cases that it didn't learn from, one figure a line, and where it is."""
    for name, value in record.metrics.items():
        if not name.startswith("train/"):
            print(f"{name:<20} {value:.4g}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def _summary(described: Callable[..., object]) -> str:
    """The first line of a docstring."""
    return (described.__doc__ or "").splitlines()[0]
