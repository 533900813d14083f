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
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace, set_parsing_settings

from gvsl.arguments import (
    Command,
    add_path,
    add_recipe,
    default_settings,
    for_method,
    for_mode,
    new_parser,
    parse,
    peek,
    recipe_setting,
    settings_of,
)
from gvsl.errors import UserError
from gvsl.files import refuse_existing, whole_file, write_text
from gvsl.progress import progress
from gvsl.recipes import read_recipe
from gvsl.results import RunRecord
from gvsl.words import listed, nearest, one_line, one_of

if TYPE_CHECKING:
    from gvsl.benchmark import Column, Matrix
    from gvsl.store import Work
    from gvsl.training.settings import PretrainSettings
    from gvsl.transfer import TransferSettings

USUAL = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)
"""What a path or a disk may refuse: the user's to mend, so it is said in one line."""
DEMO_CASES = 24
DEMO_SIDE = 32
DEMO_SEEDS = (0, 1)
PHANTOM_CASES = 32
"""Of each kind, for a benchmark: enough for both classes in every split."""
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


def phantom(words: Sequence[str]) -> None:
    """Write made-up subjects as NIfTI files, with labels and splits: the whole way can be walked without data.

    Every subject is a function of --seed and its number alone. gvsl prepare OUT STORE --preset ct reads them.
    """
    from gvsl.datasets.phantom import ANATOMIES, write_phantom
    from gvsl.datasets.tasks import TASKS

    parser = new_parser(phantom, "OUT [--task NAME] [--count N] [--seed N] [--size N]")
    add_path(parser, "out", "OUT", "the new folder to write")
    what = f"what is asked of the subjects: {'; '.join(f'{name}, {TASKS[name].summary}' for name in ANATOMIES)}"
    parser.add_argument("--task", default="shc", metavar="NAME", help=what)
    parser.add_argument("--count", type=int, default=60, metavar="N", help="how many subjects")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the cohort")
    parser.add_argument("--size", type=int, default=64, metavar="N", help="voxels a side, of 1 mm")
    options = parse(parser, words)
    refuse_existing(options.out)
    with progress(options.count, "phantom", "subjects") as advance:
        sides = (options.size, options.size, options.size)
        write_phantom(options.out, options.count, options.seed, sides, task=options.task, progress=advance)
    print(f"{options.out}: {options.count} subjects")
    print(f"gvsl prepare {shlex.quote(str(options.out))} STORE --preset ct goes on with them")


def prepare(words: Sequence[str]) -> None:
    """Turn a folder of volumes or a public dataset into a store, once.

    SOURCE is a folder with images/ (and labels/ of the same names, splits.json and labels.json where there are any),
    or a flat folder of volumes: NIfTI, NRRD or MetaImage files, or DICOM series at any depth. A file that can't be
    used is refused by name and the rest goes on; gvsl inspect lists what was refused and why, and which images are
    there twice.

    Given again, it goes on where it was stopped; on a store that is there it does only what is missing or has
    changed, and removes nothing.
    """
    from gvsl.datasets import DATASETS
    from gvsl.store import PRESETS, Preprocessing, Work, duplicates
    from gvsl.store import prepare as prepare_store

    preset = one_of(PRESETS, "preset", peek(words, "--preset") or "mr")
    usage = "SOURCE STORE [--dataset NAME] [--preset NAME] [--processes N | --dask ADDRESS] [--any.setting VALUE]"
    parser = new_parser(prepare, usage)
    add_path(parser, "source", "SOURCE", "the folder that holds the volumes")
    add_path(parser, "store", "STORE", "the folder to write, or to add to")
    how = f"how SOURCE is laid out: {listed(DATASETS)}"
    parser.add_argument("--dataset", default="folder", metavar="NAME", help=how)
    kinds = f"the kind of scan, which decides the defaults below: {listed(PRESETS)}"
    parser.add_argument("--preset", default=preset, metavar="NAME", help=kinds)
    how_many = "how many to prepare with; without it one a core, as far as there is memory"
    parser.add_argument("--processes", type=int, default=None, metavar="N", help=how_many)
    where = "the scheduler of a Dask cluster to prepare on, such as tcp://host:8786"
    parser.add_argument("--dask", type=str, default=None, metavar="ADDRESS", help=where)
    leak = "take a store in which an image is learnt from under one name and held out under another"
    parser.add_argument("--allow-leakage", action="store_true", help=leak)
    defaults = {name: value for name, value in asdict(PRESETS[preset]).items() if name != "preset"}
    parser.add_class_arguments(Preprocessing, default=defaults, skip={"preset"})
    options = parse(parser, words)
    load = DATASETS[one_of(DATASETS, "dataset", options.dataset)]
    settings = settings_of(Preprocessing, options)
    dataset = load(options.source)
    done: list[Work] = []
    with ExitStack() as stack:
        store = prepare_store(
            dataset.cases,
            options.store,
            settings,
            label_names=dataset.label_names,
            source=dataset.name,
            processes=options.processes,
            dask=options.dask,
            allow_leakage=options.allow_leakage,
            progress=lambda count: stack.enter_context(progress(count, "Prepare", "volumes")),
            tell=done.append,
        )
    print(f"{options.store}: {_told(done[0])}")
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
    default = default_settings(METHODS[method])
    parser.add_class_arguments(type(default), "pretext", default=asdict(default))
    options = parse(parser, words, lambda settings: for_method(settings, method, METHODS))
    options.settings = settings_of(PretrainSettings, options)
    return options


def methods(words: Sequence[str]) -> None:
    """List the methods of gvsl pretrain, with what each learns from."""
    from gvsl.methods import METHODS

    parse(new_parser(methods, ""), words)
    width = max(len(name) for name in METHODS)
    for name, factory in METHODS.items():
        print(f"{name:<{width}}  {_summary(factory)}")


def transfer(words: Sequence[str]) -> None:
    """Train a task on labelled cases, from pre-trained or random weights, and score the test split once.

    Writes RUN: record.json, curves.csv, pictures/, and the network with all that gvsl predict needs. Until RUN is
    there, RUN.part holds the state that --resume goes on from.
    """
    options = transfer_options(words)
    refuse_existing(options.out)

    from gvsl.evaluation import run_task
    from gvsl.memory import keep_freed_memory
    from gvsl.store import Store
    from gvsl.transfer import part_folder

    keep_freed_memory()
    weights = None if options.weights == "scratch" else options.weights
    store = Store.open(options.store)
    try:
        record = run_task(options.task, store, weights, options.out, options.settings, resume=options.resume)
    except KeyboardInterrupt:
        resumable = part_folder(options.out).is_dir()
        mend = "--resume goes on with it" if resumable else "nothing was kept yet, so start again"
        raise KeyboardInterrupt(f"{options.out}: {mend}") from None
    if weights is not None:
        print(f"{weights}: {record.config['weights_keys']}")
    _print_record(options.out, record)


def transfer_options(words: Sequence[str]) -> Namespace:
    """What `gvsl transfer` was told: store, task, weights, out, and TransferSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.datasets.tasks import TASKS
    from gvsl.transfer.settings import MODES, TransferSettings

    mode = peek(words, "--mode") or recipe_setting(words, "transfer", "mode") or TransferSettings.mode
    usage = (
        "STORE --task NAME --weights RUN|scratch --mode linear|finetune|scratch --out RUN"
        " [--recipe NAME|FILE] [--resume] [--any.setting VALUE]"
    )
    parser = new_parser(transfer, usage)
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made, with labels")
    what = f"what to learn: {'; '.join(f'{name}, {task.summary}' for name, task in TASKS.items())}"
    parser.add_argument("--task", default="segmentation", metavar="NAME", help=what)
    what = (
        "the folder of a gvsl pretrain run, its model.safetensors, a name on the Hugging Face Hub like owner/name, "
        "or the word scratch for random weights"
    )
    parser.add_argument("--weights", required=True, metavar="RUN|scratch", help=what)
    add_path(parser, "--out", "RUN", "the new folder of this run")
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with RUN where it stopped")
    parser.add_class_arguments(TransferSettings)
    options = parse(parser, words, lambda settings: for_mode(settings, mode, MODES))
    one_of(TASKS, "task", options.task)
    options.settings = settings_of(TransferSettings, options)
    return options


def predict(words: Sequence[str]) -> None:
    """Segment or classify images by a run of gvsl transfer, each in its own geometry.

    Writes DIR/NAME.nii.gz for each image, with the image's own grid and header, and DIR/labels.json with the names; a
    classification writes DIR/scores.csv. An image that can't be used is listed with the reason, and the rest is
    done; the exit code is then 2.
    """
    from gvsl.evaluation import PredictSettings, find_images
    from gvsl.evaluation import predict as predict_images
    from gvsl.memory import keep_freed_memory

    parser = new_parser(predict, "RUN IMAGE... --out DIR [--output labels|probabilities] [--mirror true]")
    add_path(parser, "run", "RUN", "the folder of a gvsl transfer run")
    what = "NIfTI files, or folders of them"
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=what)
    add_path(parser, "--out", "DIR", "the folder to write into, made if need be")
    parser.add_class_arguments(PredictSettings)
    options = parse(parser, words)
    images = find_images(options.images)
    keep_freed_memory()
    outcome = predict_images(options.run, images, options.out, settings_of(PredictSettings, options))
    print(f"{options.out}: {len(outcome.done)} of {len(images)} images done")
    for image, reason in outcome.failed:
        print(f"  {image}: {one_line(reason)}")
    if outcome.failed:
        first, reason = outcome.failed[0]
        raise UserError(f"{len(outcome.failed)} of {len(images)} images were not done; the first, {first}: {reason}")


def benchmark(words: Sequence[str]) -> None:
    """Fill the matrix of Table 1: methods x stores x modes x seeds, and write the table and the report.

    Without --stores, on phantoms that it makes. Writes DIR/runs (a folder a run, named by all that decides it),
    DIR/failed with the reasons, DIR/table1.md, .csv and .tex, DIR/report.html and the figures that there are runs for,
    DIR/figure6.svg, figure7.svg and figure8.svg. Run again, it goes on where it was.
    """
    from gvsl.benchmark import Place, estimate, run_matrix
    from gvsl.methods import METHODS
    from gvsl.report import as_csv, as_latex, as_markdown, table1, write_figures, write_report
    from gvsl.results import find_records

    options = benchmark_options(words)
    columns = _columns(options.stores, options.out)
    matrix = _matrix(options, columns)
    if options.dry_run:
        _print_estimates(matrix, options.out, options.processes, estimate)
        return
    place = settings_of(Place, options)
    with progress(len(matrix), "benchmark", "runs") as advance:

        def done(run: Any, reason: str | None) -> None:
            advance()
            if reason is not None:
                print(f"{run.name} failed: {one_line(reason)}", file=sys.stderr)

        failures = run_matrix(matrix, options.out, place, retry_failed=options.retry_failed, advance=done)
    folders = [options.out / name for name in ("runs", "failed") if (options.out / name).is_dir()]
    records = [record for _, record in find_records(folders)]
    table = table1(records, ("scratch", *METHODS))
    for suffix, text in (("md", as_markdown(table)), ("csv", as_csv(table)), ("tex", as_latex(table))):
        write_text(options.out / f"table1.{suffix}", text)
    page = options.out / "report.html"  # an earlier one is of the same runs, and gives way to this one
    with whole_file(page) as temporary:
        write_report([options.out / "runs"], temporary)
    write_figures([options.out / "runs"], options.out)
    print(as_markdown(table), end="")
    print(f"Report: {page}")
    if failures:
        raise UserError(f"{len(failures)} runs failed, see {options.out / 'failed'}; --retry-failed tries them again")


def benchmark_options(words: Sequence[str]) -> Namespace:
    """What `gvsl benchmark` was told.

    Raises:
        UserError: an option is unknown, missing or of another type, or there is no such method, mode or recipe.
    """
    from gvsl.benchmark import Place
    from gvsl.methods import METHODS

    usage = (
        "--out DIR [--stores [TASK=]STORE ...] [--methods NAME ...] [--seeds N ...] [--recipe NAME|FILE] [--dry-run]"
    )
    parser = new_parser(benchmark, usage)
    add_path(parser, "--out", "DIR", "the folder of the matrix; what is finished in it is kept")
    what = (
        "stores with train, val and test splits, each TASK=STORE or STORE for its own kind; phantoms if none is given"
    )
    parser.add_argument("--stores", nargs="+", default=[], metavar="STORE", help=what)
    what = f"the rows, beside scratch: {listed(METHODS)}"
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help=what)
    what = "linear, finetune or both"
    parser.add_argument("--modes", nargs="+", default=["linear", "finetune"], metavar="MODE", help=what)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the first weights and all draws"
    )
    what = "the settings of pre-training and transfer"
    parser.add_argument("--recipe", default="demo", metavar="NAME|FILE", help=what)
    what = "print the runs, the time each should take by a short calibration, and the disk needed; run nothing"
    parser.add_argument("--dry-run", action="store_true", help=what)
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that failed before")
    parser.add_class_arguments(Place)
    options = parse(parser, words)
    for method in options.methods:
        one_of(METHODS, "method", method)
    for mode in options.modes:
        one_of(("linear", "finetune"), "mode", mode)
    read_recipe(options.recipe, "pretrain")
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
    "phantom": phantom,
    "prepare": prepare,
    "inspect": inspect,
    "pretrain": pretrain,
    "methods": methods,
    "transfer": transfer,
    "predict": predict,
    "benchmark": benchmark,
    "report": report,
}


# --- the demo -----------------------------------------------------------------------------------------------


def _demo(out: Path, recipe: str) -> None:
    """Run the demo's steps in `out`, each shown as a user would type it."""
    phantom, store, pretrained = out / "phantom", out / "store", out / "pretrain"
    size = ("--count", DEMO_CASES, "--size", DEMO_SIDE)
    _step(f"1. Make a phantom: {DEMO_CASES} subjects, as NIfTI files", "phantom", phantom, *size)
    _step("2. Prepare it, once", "prepare", phantom, store, "--preset", "ct")
    _step("3. Pre-train without labels", "pretrain", store, "--out", pretrained, "--recipe", recipe)
    print("\n# 4. A linear probe: one convolution, trained with labels, on frozen features", flush=True)
    for seed in DEMO_SEEDS:
        for name, weights in (("gvsl", pretrained), ("scratch", "scratch")):
            options: list[object] = ["--task", "segmentation", "--weights", weights, "--mode", "linear"]
            options += ["--out", out / f"linear-{name}-{seed}", "--seed", seed, "--recipe", recipe]
            _step("", "transfer", store, *options)
    _step("5. Look at it", "report", out, "--out", out / "report.html")


def _columns(stores: Sequence[str], out: Path) -> list["Column"]:
    """The columns of a matrix: the stores given, or phantoms of every kind, made in `out` if they are not there."""
    from gvsl.benchmark import Column
    from gvsl.datasets.phantom import ANATOMIES
    from gvsl.datasets.tasks import TASKS
    from gvsl.store import Store

    given = [item.rpartition("=")[::2] for item in stores]
    if not given:
        for task in ANATOMIES:
            source, made = out / "phantoms" / task, out / "stores" / task
            if not source.is_dir():
                run(["phantom", str(source), "--task", task, "--count", str(PHANTOM_CASES), "--size", str(DEMO_SIDE)])
            if not made.is_dir():
                run(["prepare", str(source), str(made), "--preset", "ct"])
            given.append((task, str(made)))
    columns = []
    for task, place in given:
        store = Store.open(Path(place))
        own = "classification" if any(case.target is not None for case in store.cases.values()) else "segmentation"
        columns.append(Column(one_of(TASKS, "task", task) if task else own, Path(place), store.hash))
    names = [column.store.name for column in columns]
    if len(set(names)) < len(names):
        raise UserError(
            f"two stores are called {max(names, key=names.count)}: rename one, since the table goes by names"
        )
    return columns


def _matrix(options: Namespace, columns: Sequence["Column"]) -> "Matrix":
    """The runs, each with what its own command would make of the recipe."""
    from gvsl.benchmark import build_matrix

    def pretrain_settings(method: str, seed: int) -> "PretrainSettings":
        words = ["STORE", "--out", "RUN", "--method", method, "--seed", str(seed), "--recipe", options.recipe]
        settings: PretrainSettings = pretrain_options(words).settings
        return settings

    def transfer_settings(mode: str, seed: int) -> "TransferSettings":
        words = ["STORE", "--out", "RUN", "--weights", "scratch", "--mode", mode, "--seed", str(seed)]
        settings: TransferSettings = transfer_options([*words, "--recipe", options.recipe]).settings
        return settings

    return build_matrix(columns, options.methods, options.modes, options.seeds, pretrain_settings, transfer_settings)


def _print_estimates(matrix: "Matrix", out: Path, processes: int, estimate: Callable[..., Any]) -> None:
    """What is missing of a matrix, what each run should take, and all of it together."""
    from gvsl.benchmark import is_finished

    missing = [run for run in matrix if not is_finished(run, out)]
    found = estimate(missing)
    for item in missing:
        print(f"{item.name:<60} {found[item.name].seconds:8.0f} s {found[item.name].megabytes:8.1f} MB")
    seconds = sum(found[item.name].seconds for item in missing)
    disk = sum(found[item.name].megabytes for item in missing)
    print(
        f"{len(missing)} of {len(matrix)} runs missing: about {seconds / 60:.0f} minutes of one process, {disk:.0f} MB"
    )
    if processes > 1:
        print(f"{processes} processes share the cores; by how much that shortens it depends on them")


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
    """What a run is worth on cases that it didn't learn from, one figure a line, and where it is.

    The ends of an interval stand behind its figure; those of single structures are in the record.
    """
    metrics = record.metrics
    for name, value in metrics.items():
        if name.startswith("train/") or name.count("/") > 1 or name.endswith(("_low", "_high")):
            continue
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = f" (95 % of {ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else ""
        print(f"{name:<20} {value:.4g}{interval}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def _told(work: "Work") -> str:
    """What a run of prepare did."""
    said = [f"{work.prepared} volumes prepared" + (f" ({work.changed} of them had changed)" if work.changed else "")]
    said += [f"{work.resumed} prepared already by a run that was stopped"] if work.resumed else []
    said += [f"{work.kept} kept as they are"] if work.kept else []
    said.append(f"{work.refused} refused")
    said += [f"{len(work.stale)} kept though their files can't be used any more"] if work.stale else []
    said += [f"{len(work.gone)} kept though SOURCE doesn't have them any more"] if work.gone else []
    return ", ".join(said)


def _summary(command: Callable[..., object]) -> str:
    """The first line of a docstring, of a command or of a method."""
    return (command.__doc__ or "").splitlines()[0]
