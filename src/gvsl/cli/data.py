"""gvsl phantom, prepare and inspect: synthetic volumes, and stores of prepared volumes."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from gvsl.arguments import add_path, add_settings, new_parser, parse, peek, settings_of
from gvsl.errors import UserError
from gvsl.files import claimed, refuse_existing, refuse_url
from gvsl.progress import progress
from gvsl.settings.names import DATASET_NAMES, PHANTOM_NAMES, TASK_SUMMARIES
from gvsl.text import one_of, printable

if TYPE_CHECKING:
    from gvsl.datasets import Dataset
    from gvsl.preparation import PrepareSummary
    from gvsl.store import Store


def phantom(argv: Sequence[str]) -> None:
    """Write synthetic subjects as NIfTI files, with labels and splits, to try every command without data.

    Every subject depends only on --seed and its number. gvsl prepare OUT STORE reads them.
    """
    usage = "OUT [--task NAME] [--count N] [--val N] [--seed N] [--size N] [--view-variation FRACTION]"
    parser = new_parser(phantom, usage)
    add_path(parser, "out", "OUT", "the new folder to write")
    tasks = "; ".join(f"{name}, {TASK_SUMMARIES[name]}" for name in PHANTOM_NAMES)
    what = f"the task, which decides the anatomy: {tasks}"
    parser.add_argument("--task", default="shc", metavar="NAME", help=what)
    parser.add_argument("--count", type=int, default=60, metavar="N", help="the number of subjects")
    what = "the number of subjects in the split val; an eighth if not given"
    parser.add_argument("--val", type=int, default=None, metavar="N", help=what)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of the cohort")
    parser.add_argument(
        "--size", type=int, default=64, metavar="N", help="number of voxels along each side, of 1 mm each"
    )
    variation = (
        "maximum offset of the anatomy along each axis as a fraction of the side, up to 0.3; "
        "the extent of the field of view and the pose vary in proportion"
    )
    parser.add_argument("--view-variation", type=float, default=0.0, metavar="FRACTION", help=variation)
    options = parse(parser, argv)
    refuse_existing(options.out)

    from gvsl.phantom.cohort import ANATOMIES, write_phantom

    with claimed(options.out, "gvsl phantom"), progress(options.count, "phantom", "subjects") as advance:
        sides = (options.size, options.size, options.size)
        write_phantom(
            options.out,
            options.count,
            options.seed,
            sides,
            task=options.task,
            val=options.val,
            view_variation=options.view_variation,
            progress=advance,
        )
    print(f"{options.out}: {options.count} subjects")
    preset = ANATOMIES[options.task].preset
    print(f"gvsl prepare {shlex.quote(str(options.out))} STORE --preset {preset} prepares them")


def prepare(argv: Sequence[str]) -> None:
    """Convert a folder of volumes or a public dataset into a store, once.

    SOURCE is a folder with images/ (and optionally labels/ with the same names, splits.json and labels.json), or a
    folder of volumes at any depth, with or without label maps among them: NIfTI, NRRD, MetaImage or MGZ files, or DICOM
    series. With --dataset it is the official release of a public dataset (docs/datasets). A file that can't be used is
    refused by name and the others are prepared; gvsl inspect lists the refused files with the reasons, and duplicate
    images.

    Repeat the command to continue where it was stopped. In an existing store, it prepares only what is missing or
    has changed, and removes nothing.
    """
    options = _prepare_options(argv)

    from gvsl.datasets import DATASETS
    from gvsl.preparation import PrepareSummary
    from gvsl.preparation import prepare as prepare_store
    from gvsl.preprocessing.channels import parse_channel, with_channels
    from gvsl.preprocessing.spec import Preprocessing, describe_range

    if options.processes is not None and options.dask is not None:
        raise UserError("--processes is for this machine, and --dask for a cluster: leave one out")
    load = DATASETS[one_of(DATASETS, "dataset", options.dataset)]
    asked = [parse_channel(text) for text in options.channels]
    options.channels = ()
    settings = settings_of(Preprocessing, options)
    refuse_url(options.source, "a source")
    dataset = load(options.source, **_arguments_of(load, options, [each.name for each in asked]))
    settings = with_channels(settings, dataset.channels, asked)
    done: list[PrepareSummary] = []
    with ExitStack() as stack:
        store = prepare_store(
            dataset.cases,
            options.store,
            settings,
            label_names=dataset.label_names,
            label_values=dataset.label_values,
            source=dataset.name,
            processes=options.processes,
            dask=options.dask,
            allow_leakage=options.allow_leakage,
            progress=lambda count: stack.enter_context(progress(count, "Prepare", "volumes")),
            on_done=done.append,
        )
    print(f"{options.store}: {_describe(done[0])}")
    if settings.channels:
        print(f"Channels: {', '.join(f'{each.name} ({describe_range(each)})' for each in settings.channels)}")
    for line in _cautions(store, dataset, options.store):
        print(line)


def _prepare_options(argv: Sequence[str]) -> Namespace:
    """Return the options of `prepare`; the defaults of the settings are those of the preset."""
    from gvsl.preprocessing.presets import PRESETS
    from gvsl.preprocessing.spec import Preprocessing

    preset = one_of(PRESETS, "preset", peek(argv, "--preset") or "mr")
    usage = (
        "SOURCE STORE [--dataset NAME [--fold N]] [--preset NAME] [--channels NAME ...]"
        " [--processes N | --dask ADDRESS] [--SETTING VALUE ...]"
    )
    parser = new_parser(prepare, usage)
    add_path(parser, "source", "SOURCE", "the folder of the volumes")
    add_path(parser, "store", "STORE", "the folder to write, or to add to")
    how = f"the layout of SOURCE: {', '.join(DATASET_NAMES)}"
    parser.add_argument("--dataset", default="folder", metavar="NAME", help=how)
    which = "the fold of the dataset's cross-validation, counted from 0; its default splits if not given"
    parser.add_argument("--fold", type=int, default=None, metavar="N", help=which)
    kinds = f"the kind of scan, which sets the defaults below: {', '.join(PRESETS)}"
    parser.add_argument("--preset", default=preset, metavar="NAME", help=kinds)
    how_many = "number of processes; if not given, one per core as far as memory allows"
    parser.add_argument("--processes", type=int, default=None, metavar="N", help=how_many)
    where = "address of a Dask scheduler to run on, such as tcp://host:8786"
    parser.add_argument("--dask", type=str, default=None, metavar="ADDRESS", help=where)
    leak = (
        "accept an image (even under two names) or a subject in both training and held-out splits, or in val and test"
    )
    parser.add_argument("--allow-leakage", action="store_true", help=leak)
    which = (
        "the channels to use of multi-channel images, in this order: all, or names in dataset.json or suffixes of "
        "file names such as T1w T2w, each optionally with its range, as in CT=window:-160:240 PET=percentiles:0:99.9"
    )
    parser.add_argument("--channels", type=str, nargs="+", default=[], metavar="NAME", help=which)
    own = {"preset", "channels"}
    defaults = {name: value for name, value in asdict(PRESETS[preset]).items() if name not in own}
    add_settings(parser, Preprocessing, default=defaults, skip=own)
    return parse(parser, argv)


def _cautions(store: "Store", dataset: "Dataset", folder: Path) -> Iterator[str]:
    """Yield what a user should know about a prepared store besides the numbers, a line each."""
    from gvsl.datasets import describe_endings
    from gvsl.preprocessing.spec import AIR_HU
    from gvsl.store import describe_lungs, duplicates

    yield from map(printable, dataset.notes)
    yield from (f"Lungs: {line}" for line in describe_lungs(store))
    if store.refused:
        yield f"gvsl inspect {shlex.quote(str(folder))} lists the refused files with the reasons"
    if dataset.passed_over:
        count = sum(dataset.passed_over.values())
        yield f"{count} files skipped, not volumes by their suffix: {describe_endings(dataset.passed_over)}"
    cases = list(store.cases.values())
    airless = sum(case.without_air for case in cases)
    if airless:
        offset = "their intensities may be offset by 1024; gvsl inspect lists them"
        yield f"{airless} volumes have no voxel below {AIR_HU:g} HU: {offset}"
    odd = [case for case in cases if case.notes]
    if odd:
        first = printable(f"{odd[0].id}: {odd[0].notes[0]}")
        yield f"{len(odd)} volumes have notes; gvsl inspect lists them; the first, {first}"
    repeated = len(duplicates((case.id, case.splits, case.content) for case in cases))
    if repeated:
        yield f"{repeated} images exist under more than one name; gvsl inspect lists them"


def _arguments_of(load: Callable[..., "Dataset"], options: Namespace, channels: Sequence[str]) -> dict[str, Any]:
    """Return the fold, the channels and the permission to leak as arguments of a dataset, as far as it takes them."""
    known = signature(load).parameters
    if options.fold is not None and "fold" not in known:
        raise UserError(f"{options.dataset} has no folds: leave out --fold")
    if channels and "channels" not in known:
        raise UserError(f"{options.dataset} has images of one channel: leave out --channels")
    found = {} if options.fold is None else {"fold": options.fold}
    found |= {"channels": channels} if channels else {}
    return found | ({"allow_leakage": options.allow_leakage} if "allow_leakage" in known else {})


def inspect(argv: Sequence[str]) -> None:
    """Show the contents of a store, or the results of a run.

    For a store: how it was prepared, and the refused files with the reasons. For a run: its metrics, whether it
    matches, and findings, each with the setting to change.
    """
    from gvsl.records import RECORD_NAME

    parser = new_parser(inspect, "STORE|RUN [--verify]")
    add_path(parser, "store", "STORE|RUN", "a folder written by gvsl prepare, or its URL, or the folder of a run")
    what = "read every array of the store, and verify its checksums and hash"
    parser.add_argument("--verify", action="store_true", help=what)
    options = parse(parser, argv)
    folder = options.store
    if (folder / RECORD_NAME).is_file():
        from gvsl.report import summary_lines

        if options.verify:
            raise UserError(f"{folder} is a run: --verify is for stores")
        print("\n".join(summary_lines([folder])))
        return

    from gvsl.store import Store, describe

    if options.verify:
        _verify(Store.open(folder))
    else:
        print(describe(Store.open(folder)))


def _verify(store: "Store") -> None:
    """Read every array of a store; UserError if one is damaged."""
    from gvsl.store import verify

    with progress(len(store.cases), "Verify", "volumes") as advance:
        found = verify(store, advance)
    for line in found.damaged:
        print(line)
    if found.damaged:
        raise UserError(
            f"{len(found.damaged)} of {len(store.cases)} volumes of {store.place} are damaged; copy them again, or "
            "prepare the store again elsewhere"
        )
    older = f"; {found.without} of them, of an earlier gvsl, without checksums of their chunks" if found.without else ""
    print(f"{store.place}: all {found.arrays} arrays of {len(store.cases)} volumes are as they were written{older}")


def _describe(work: "PrepareSummary") -> str:
    """Summarise a run of prepare in one line."""
    parts = [f"{work.prepared} volumes prepared" + (f" ({work.changed} of them had changed)" if work.changed else "")]
    parts += [f"{work.resumed} prepared already by a run that was stopped"] if work.resumed else []
    parts += [f"{work.kept} unchanged"] if work.kept else []
    parts.append(f"{work.refused} refused")
    parts += [f"{len(work.stale)} kept although their files can no longer be used"] if work.stale else []
    parts += [f"{len(work.gone)} kept although SOURCE no longer has them"] if work.gone else []
    return ", ".join(parts)
