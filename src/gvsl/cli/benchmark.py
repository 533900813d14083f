"""gvsl benchmark: the matrix of Table 1."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from gvsl.arguments import add_path, new_parser, parse, settings_of
from gvsl.cli.data import phantom, prepare
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.progress import progress
from gvsl.recipes import read_recipe
from gvsl.text import listed, one_line, one_of

if TYPE_CHECKING:
    from gvsl.benchmark import Column, Matrix
    from gvsl.training.pretrain_settings import PretrainSettings
    from gvsl.transfer import TransferSettings

PHANTOM_CASES = 32
"""Of each kind: enough for both classes in every split."""
PHANTOM_SIDE = 32
PHANTOM_SOURCE = "shc"
"""The phantoms that all methods are pre-trained on: hearts, as in the paper."""


def benchmark(words: Sequence[str]) -> None:
    """Fill the matrix of Table 1: methods x stores x modes x seeds, and write the table and the report.

    Without --stores, on phantoms that it makes, all pre-trained on that of hearts. Writes DIR/runs (a folder a run,
    named by all that decides it), DIR/failed with the reasons, DIR/table1.md, .csv and .tex, DIR/report.html, and
    DIR/figure6.pdf, figure7.pdf and figure8.pdf where there are runs for them. Run again, it goes on where it was. If
    a run failed, the exit code is 2, after all has been written.
    """
    from gvsl.benchmark import Place, run_matrix

    options = benchmark_options(words)
    columns = columns_of(options.stores, options.out)
    matrix = matrix_of(options, columns, source_of(options.pretrain, options.stores, columns))
    if options.dry_run:
        _print_estimates(matrix, options.out, options.processes, options.retry_failed)
        return
    place = settings_of(Place, options)
    with progress(len(matrix), "benchmark", "runs") as advance:

        def done(run: Any, reason: str | None) -> None:
            advance()
            if reason is not None:
                print(f"{run.name} failed: {one_line(reason)}", file=sys.stderr)

        run_matrix(matrix, options.out, place, retry_failed=options.retry_failed, advance=done)
    _write_findings(matrix, options.out)
    _complain_of_failures(matrix, options.out)


def _write_findings(matrix: "Matrix", out: Path) -> None:
    """Table, figures and report, of the matrix's own runs."""
    from gvsl.benchmark import folders_of, strangers
    from gvsl.methods import METHODS
    from gvsl.report import as_csv, as_latex, as_markdown, read_report, write_figures, write_report

    data = read_report(folders_of(matrix, out))
    table = data.table1.in_order(("scratch", *METHODS))
    for suffix, text in (("md", as_markdown(table)), ("csv", as_csv(table)), ("tex", as_latex(table))):
        write_text(out / f"table1.{suffix}", text)
    page = out / "report.html"  # an earlier one gives way to this one
    with whole_file(page) as temporary:
        write_report(data, temporary)
    for figure in {*out.glob("figure[678].svg"), *out.glob("figure[678].pdf")} - set(write_figures(data, out)):
        figure.unlink()  # of an earlier matrix
    print(as_markdown(table), end="")
    others = strangers(matrix, out)
    if others:
        print(f"Left out, as they are of another matrix: {len(others)} runs in {out}; gvsl report {out} shows all")
    print(f"Report: {page}")


def _complain_of_failures(matrix: "Matrix", out: Path) -> None:
    """Say so if a run of the matrix failed, now or in an earlier call.

    Raises:
        UserError: one did.
    """
    from gvsl.benchmark import is_finished, was_failed

    failed = [run for run in matrix if was_failed(run, out) and not is_finished(run, out)]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(matrix)} runs failed: the reasons are in {out / 'failed'} and in the report, "
            f"what they printed in {out / 'logs'}; --retry-failed tries them again"
        )


def benchmark_options(words: Sequence[str]) -> Namespace:
    """What `gvsl benchmark` was told.

    Raises:
        UserError: an option is unknown, missing or of another type, or there is no such method, mode or recipe.
    """
    from gvsl.benchmark import Place
    from gvsl.methods import METHODS

    usage = (
        "--out DIR [--stores [TASK=]STORE ...] [--pretrain STORE] [--methods NAME ...] [--seeds N ...]"
        " [--recipe NAME|FILE] [--dry-run]"
    )
    parser = new_parser(benchmark, usage)
    add_path(parser, "--out", "DIR", "the folder of the matrix; what is finished in it is kept")
    what = (
        "stores with train, val and test splits, each TASK=STORE or STORE for its own kind; phantoms if none is given"
    )
    parser.add_argument("--stores", nargs="+", default=[], metavar="STORE", help=what)
    what = (
        "the store that every method is pre-trained on, as in the paper; each column's own if not given, and of the "
        f"phantoms that of {PHANTOM_SOURCE}"
    )
    parser.add_argument("--pretrain", type=Path, default=None, metavar="STORE", help=what)
    what = f"the rows, beside scratch: {listed(METHODS)}"
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help=what)
    what = "linear, finetune or both"
    parser.add_argument("--modes", nargs="+", default=["linear", "finetune"], metavar="MODE", help=what)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the first weights and all draws"
    )
    what = "the settings of pre-training and transfer"
    parser.add_argument("--recipe", default="demo", metavar="NAME|FILE", help=what)
    what = (
        "print the missing runs, the time each should take, and the disk needed, by short runs of each kind in a "
        "temporary folder, which takes minutes; in DIR it writes nothing but the phantoms, where no store is given"
    )
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


def columns_of(stores: Sequence[str], out: Path) -> list["Column"]:
    """The columns of a matrix: the stores given, or phantoms of every kind, made in `out` if they are not there."""
    from gvsl.benchmark import Column
    from gvsl.datasets.tasks import TASKS
    from gvsl.phantom.cohort import ANATOMIES
    from gvsl.store import Store

    given = [item.rpartition("=")[::2] for item in stores]
    if not given:
        for task, anatomy in ANATOMIES.items():
            source, made = out / "phantoms" / task, out / "stores" / task
            if not source.is_dir():
                phantom([str(source), "--task", task, "--count", str(PHANTOM_CASES), "--size", str(PHANTOM_SIDE)])
            if not made.is_dir():
                prepare([str(source), str(made), "--preset", anatomy.preset])
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


def source_of(given: Path | None, stores: Sequence[str], columns: Sequence["Column"]) -> "Column | None":
    """The store that all are pre-trained on, as a column; none if each is pre-trained on its own.

    Raises:
        UserError: it is no store, has nothing to pre-train on, or learns from an image that a column holds out.
    """
    from gvsl.benchmark import Column
    from gvsl.store import Store, refuse_seen

    if given is None:
        return None if stores else next(column for column in columns if column.task == PHANTOM_SOURCE)
    store = Store.open(given)
    if not store.split("pretrain"):
        raise UserError(f"{given} has no case in the split pretrain: name a store that has")
    learnt = [(case.id, case.splits, case.content) for case in store.cases.values()]
    for column in columns:
        others = Store.open(column.store).cases.values()
        refuse_seen(learnt, [(case.id, case.splits, case.content) for case in others])
    return Column("segmentation", given, store.hash)


def matrix_of(options: Namespace, columns: Sequence["Column"], source: "Column | None") -> "Matrix":
    """The runs, each with what its own command would make of the recipe."""
    from gvsl.benchmark import build_matrix
    from gvsl.store import Store

    contracts = {column: Store.open(column.store).preprocessing for column in {*columns, *([source] if source else [])}}

    def pretrain_settings(method: str, seed: int) -> "PretrainSettings":
        words = ["STORE", "--out", "RUN", "--method", method, "--seed", str(seed), "--recipe", options.recipe]
        settings: PretrainSettings = pretrain_options(words).settings
        return settings

    def transfer_settings(column: "Column", mode: str, seed: int) -> "TransferSettings":
        words = ["STORE", "--out", "RUN", "--weights", "scratch", "--mode", mode, "--seed", str(seed)]
        if source and contracts[source] != contracts[column]:
            words += ["--allow_preprocessing_mismatch", "true"]
        settings: TransferSettings = transfer_options([*words, "--recipe", options.recipe]).settings
        return settings

    return build_matrix(
        columns, options.methods, options.modes, options.seeds, pretrain_settings, transfer_settings, source
    )


def _print_estimates(matrix: "Matrix", out: Path, processes: int, retry_failed: bool) -> None:
    """What would be done of a matrix, what each run should take, and all of it together."""
    from gvsl.benchmark import estimate, is_finished, kind_of, was_failed

    missing = [run for run in matrix if not is_finished(run, out)]
    failed = [] if retry_failed else [run for run in missing if was_failed(run, out)]
    wanted = [run for run in missing if run not in failed]
    with progress(len({kind_of(run) for run in wanted}), "calibration", "kinds of runs") as advance:
        found = estimate(wanted, advance)
    for item in wanted:
        print(f"{item.name:<60} {found[item.name].seconds:8.0f} s {found[item.name].megabytes:8.1f} MB")
    seconds = sum(found[item.name].seconds for item in wanted)
    disk = sum(found[item.name].megabytes for item in wanted)
    print(
        f"{len(wanted)} of {len(matrix)} runs missing: about {seconds / 60:.0f} minutes of one process, {disk:.0f} MB"
    )
    if failed:
        print(f"runs that failed before, and are tried again with --retry-failed alone: {len(failed)}")
    if processes > 1:
        print(f"{processes} processes share the cores; by how much that shortens it depends on them")
