"""gvsl benchmark: the matrix of Table 1."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from gvsl.arguments import add_path, add_settings, new_parser, parse, print_note, settings_of
from gvsl.cli.data import phantom, prepare
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.progress import progress
from gvsl.recipes import read_recipe
from gvsl.settings.benchmark import CARRYING_MODES, FROM_NONE, MODES, TABLE_MODES, UNAUGMENTED, Executor
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.pretrain import PretrainSettings
from gvsl.settings.transfer import TransferSettings
from gvsl.text import one_line, one_of

if TYPE_CHECKING:
    from gvsl.benchmark.matrix import Column, Matrix

PHANTOM_CASES = 32
"""Subjects of each phantom: enough for both classes in every split."""
PHANTOM_VAL = 5
"""As many held-out pairs as a verdict on the matching needs."""
PHANTOM_SIDE = 32
PHANTOM_SOURCE = "shc"
"""The phantom that all methods are pre-trained on: hearts, as in the paper."""


def benchmark(argv: Sequence[str]) -> None:
    """Compare methods over stores, modes and seeds (the paper's Table 1), and write the table and the report.

    Without --stores, it generates phantoms and pre-trains on the hearts. Writes DIR/runs (one folder per run, named by
    everything that decides its results), DIR/failed with the reasons, DIR/table1.md, .csv and .tex, DIR/report.html,
    and figures 6, 7 and 8 if there are runs for them. Repeat the command to continue where it was stopped. If a
    run failed, the exit code is 2, after everything has been written.
    """
    options = benchmark_options(argv)
    matrix = find_matrix(options)
    if options.dry_run:
        _print_estimates(matrix, options)
        return

    from gvsl.benchmark.schedule import run_matrix

    with progress(len(matrix), "benchmark", "runs") as advance:

        def report_run(run: Any, reason: str | None) -> None:
            advance()
            if reason is not None:
                print(f"{run.name} failed: {one_line(reason)}", file=sys.stderr)

        executor = settings_of(Executor, options)
        run_matrix(matrix, options.out, executor, retry_failed=options.retry_failed, advance=report_run)
    _write_results(matrix, options.out)


def benchmark_options(argv: Sequence[str]) -> Namespace:
    """Return the options of `gvsl benchmark`.

    Raises:
        UserError: an option is unknown, missing or of another type, or there is no such method, mode or recipe.
    """
    usage = (
        "--out DIR [--stores [TASK=]STORE ...] [--pretrain STORE] [--methods NAME ...] [--modes MODE ...]"
        " [--labels N ... [--draws N ...]] [--seeds N ...] [--recipe NAME|FILE] [--dry-run]"
    )
    parser = new_parser(benchmark, usage)
    add_path(parser, "--out", "DIR", "the folder of the matrix; finished runs in it are kept")
    what = (
        "stores with train, val and test splits, each as TASK=STORE, or as STORE for segmentation or classification, "
        "depending on its labels; phantoms if not given"
    )
    parser.add_argument("--stores", nargs="+", default=[], metavar="STORE", help=what)
    what = (
        "the store that every method is pre-trained on, as in the paper; if not given, each column's own store, or "
        f"for phantoms that of {PHANTOM_SOURCE}"
    )
    parser.add_argument("--pretrain", type=Path, default=None, metavar="STORE", help=what)
    what = f"the rows besides scratch: {', '.join(PRETEXTS)}; all if not given"
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help=what)
    what = f"what is trained: {'; '.join(f'{name}, {text}' for name, text in MODES.items())}"
    parser.add_argument("--modes", nargs="+", default=list(TABLE_MODES), metavar="MODE", help=what)
    what = "numbers of labelled training cases, one column for each; the recipe's number, or all, if not given"
    parser.add_argument("--labels", nargs="+", type=int, default=[], metavar="N", help=what)
    what = (
        "number of draws of the labelled cases, one for all of --labels or one for each; draw i has the weights of "
        "the i-th of --seeds, which repeat in turn; if not given, one draw for each seed"
    )
    parser.add_argument("--draws", nargs="+", type=int, default=[], metavar="N", help=what)
    what = "seeds of the random weights and, without --draws, of all random draws"
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help=what)
    what = "the settings of pre-training and transfer"
    parser.add_argument("--recipe", default="demo", metavar="NAME|FILE", help=what)
    what = (
        "list the missing runs with the estimated time and disk space of each; takes minutes for short runs of each "
        "kind in a temporary folder, and writes nothing to DIR except phantoms if no store is given"
    )
    parser.add_argument("--dry-run", action="store_true", help=what)
    parser.add_argument("--retry-failed", action="store_true", help="repeat runs that failed before")
    add_settings(parser, Executor)
    options = parse(parser, argv)
    options.methods = options.methods or list(PRETEXTS)
    for axis in ("methods", "modes", "labels", "seeds"):
        options[axis] = list(dict.fromkeys(options[axis]))
    for method in options.methods:
        one_of(PRETEXTS, "method", method)
    for mode in options.modes:
        one_of(MODES, "mode", mode)
    options.draws = _draws(options)
    read_recipe(options.recipe, "pretrain")
    return options


def _draws(options: Namespace) -> dict[int | None, int] | None:
    """Return the number of draws of each number of labels, or None if there is a draw for each seed.

    Raises:
        UserError: there are no numbers of labels, or another number of them, or a number of draws is below 1.
    """
    if not options.draws:
        return None
    if not options.labels:
        raise UserError("--draws needs the number of labelled cases: give it by --labels")
    if len(options.draws) not in (1, len(options.labels)):
        raise UserError(
            f"--draws has {len(options.draws)} numbers and --labels {len(options.labels)}: give one for all, or one "
            "for each"
        )
    if min(options.draws) < 1:
        raise UserError(f"--draws is {min(options.draws)}: give 1 or more")
    each = options.draws if len(options.draws) > 1 else options.draws * len(options.labels)
    return dict(zip(options.labels, each, strict=True))


def find_matrix(options: Namespace) -> "Matrix":
    """Return the runs, each with the settings that its own command would take from the recipe.

    Raises:
        UserError: a store or a setting can't be used.
    """
    from gvsl.benchmark.matrix import build_matrix, find_columns, find_source
    from gvsl.datasets.tasks import TASKS
    from gvsl.propagation.atlases import matches
    from gvsl.store import Store

    given = [_task_and_store(item) for item in options.stores]
    for task, _ in given:
        one_of(TASKS, "task", task or "segmentation")
    columns = find_columns(given or _phantom_stores(options.out), options.labels)
    source = None if given else next(column for column in columns if column.task == PHANTOM_SOURCE)
    if options.pretrain is not None:
        source = find_source(options.pretrain, columns)
    stores = {column.store for column in (*columns, *([source] if source else []))}
    preprocessing = {path: Store.open(path).preprocessing for path in stores}
    notes: dict[str, None] = {}

    def pretrain_settings(method: str, seed: int) -> PretrainSettings:
        argv = ["STORE", "--out", "RUN", "--method", method, "--seed", str(seed), "--recipe", options.recipe]
        settings: PretrainSettings = pretrain_options(argv, notes.setdefault).settings
        return settings

    def transfer_settings(column: "Column", mode: str, seed: int) -> TransferSettings:
        chosen = {
            UNAUGMENTED: ["--mode", "scratch", "--augment.rate", "0"],
            FROM_NONE: ["--mode", "carried", "--carrying.start", "none"],
        }.get(mode, ["--mode", mode])
        argv = ["STORE", "--out", "RUN", "--weights", "scratch", *chosen, "--seed", str(seed)]
        argv += [] if column.labels is None else ["--labels", str(column.labels)]
        if source and preprocessing[source.store] != preprocessing[column.store]:
            argv.append("--allow-preprocessing-mismatch")
        settings: TransferSettings = transfer_options([*argv, "--recipe", options.recipe], notes.setdefault).settings
        return settings

    axes = options.methods, options.modes, options.seeds
    matching = [method for method in options.methods if matches(method)]
    for mode in CARRYING_MODES.intersection(options.modes):
        if not matching:
            raise UserError(f"mode {mode} needs a method that matches volumes, and none of --methods does: add gvsl")
        for column in columns:
            if TASKS[column.task].kind != "segmentation":
                raise UserError(f"mode {mode} carries label maps, and {column.store} has none: leave out the store")
    matrix = build_matrix(columns, *axes, pretrain_settings, transfer_settings, source, options.draws, matching)
    for text in notes:
        print_note(text)
    return matrix


def _task_and_store(text: str) -> tuple[str, Path]:
    """Split TASK=STORE; the task is empty if there is none. A path that exists, or a URL, may hold a "=" itself."""
    task, given, path = text.partition("=")
    return ("", Path(text)) if not given or "/" in task or Path(text).exists() else (task, Path(path))


def _phantom_stores(out: Path) -> list[tuple[str, Path]]:
    """Return a task and a store for every phantom, made in `out` if they are missing."""
    from gvsl.phantom.cohort import ANATOMIES

    for task, anatomy in ANATOMIES.items():
        source, store = out / "phantoms" / task, out / "stores" / task
        if not source.is_dir():
            size = ["--count", str(PHANTOM_CASES), "--val", str(PHANTOM_VAL), "--size", str(PHANTOM_SIDE)]
            phantom([str(source), "--task", task, *size])
        if not store.is_dir():
            prepare([str(source), str(store), "--preset", anatomy.preset])
    return [(task, out / "stores" / task) for task in ANATOMIES]


def _write_results(matrix: "Matrix", out: Path) -> None:
    """Write table, figures and report of the matrix's own runs.

    Raises:
        UserError: a run failed, now or in an earlier call.
    """
    from gvsl.benchmark.folder import folders_of, is_finished, strangers, was_failed
    from gvsl.report import as_csv, as_latex, as_markdown, read_report, write_figures, write_report

    data = read_report(folders_of(matrix, out))
    table = data.table1.in_order(("scratch", *PRETEXTS))
    for suffix, text in (("md", as_markdown(table)), ("csv", as_csv(table)), ("tex", as_latex(table))):
        write_text(out / f"table1.{suffix}", text)
    page = out / "report.html"
    with whole_file(page) as temporary:  # replaces an earlier report
        write_report(data, temporary)
    for figure in set(out.glob("figure[678].pdf")) - set(write_figures(data, out)):
        figure.unlink()  # of an earlier matrix
    print(as_markdown(table), end="")
    others = strangers(matrix, out)
    if others:
        print(
            f"Left out: {len(others)} runs of another matrix in {out}; gvsl report {out} --out all.html shows them too"
        )
    print(f"Report: {page}")
    failed = [run for run in matrix if was_failed(run, out) and not is_finished(run, out)]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(matrix)} runs failed: the reasons are in {out / 'failed'} and in the report, "
            f"the output in {out / 'logs'}; --retry-failed repeats them"
        )


def _print_estimates(matrix: "Matrix", options: Namespace) -> None:
    """Print the missing runs of a matrix with the estimated time and disk space of each, and the totals."""
    from gvsl.benchmark.calibrate import estimate, kind_of
    from gvsl.benchmark.folder import is_finished, was_failed

    missing = [run for run in matrix if not is_finished(run, options.out)]
    failed = [] if options.retry_failed else [run for run in missing if was_failed(run, options.out)]
    wanted = [run for run in missing if run not in failed]
    with progress(len({kind_of(run) for run in wanted}), "calibration", "kinds of runs") as advance:
        found = estimate(wanted, advance)
    for item in wanted:
        print(f"{item.name:<60} {found[item.name].seconds:8.0f} s {found[item.name].megabytes:8.1f} MB")
    minutes = sum(found[item.name].seconds for item in wanted) / 60
    disk = sum(found[item.name].megabytes for item in wanted)
    print(f"{len(wanted)} of {len(matrix)} runs missing: about {minutes:.0f} minutes of one process, {disk:.0f} MB")
    if failed:
        print(f"runs that failed before, repeated only with --retry-failed: {len(failed)}")
    if options.processes > 1:
        print(f"{options.processes} processes share the cores: the speed-up depends on them")
