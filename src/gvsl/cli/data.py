"""gvsl phantom, prepare and inspect: volumes made up, prepared once, and looked through."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from inspect import signature
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from gvsl.arguments import add_path, new_parser, parse, peek, settings_of
from gvsl.errors import UserError
from gvsl.files import refuse_existing, refuse_url
from gvsl.progress import progress
from gvsl.text import listed, one_of

if TYPE_CHECKING:
    from gvsl.datasets import Dataset
    from gvsl.preparation import PrepareSummary


def phantom(words: Sequence[str]) -> None:
    """Write made-up subjects as NIfTI files, with labels and splits: the whole way can be walked without data.

    Every subject is a function of --seed and its number alone. gvsl prepare OUT STORE reads them.
    """
    from gvsl.datasets.tasks import TASKS
    from gvsl.phantom.cohort import ANATOMIES, write_phantom

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
    preset = ANATOMIES[options.task].preset
    print(f"gvsl prepare {shlex.quote(str(options.out))} STORE --preset {preset} goes on with them")


def prepare(words: Sequence[str]) -> None:
    """Turn a folder of volumes or a public dataset into a store, once.

    SOURCE is a folder with images/ (and labels/ of the same names, splits.json and labels.json where there are any),
    or a folder of volumes: NIfTI, NRRD or MetaImage files, or DICOM series, at any depth. With --dataset it is the
    official release of a public dataset (docs/datasets). A file that can't be
    used is refused by name and the rest goes on; gvsl inspect lists what was refused and why, and which images are
    there twice.

    Given again, it goes on where it was stopped; on a store that is there it does only what is missing or has
    changed, and removes nothing.
    """
    from gvsl.datasets import DATASETS
    from gvsl.preparation import PrepareSummary
    from gvsl.preparation import prepare as prepare_store
    from gvsl.preprocessing import PRESETS, Preprocessing
    from gvsl.store import describe_lungs, duplicates

    preset = one_of(PRESETS, "preset", peek(words, "--preset") or "mr")
    usage = (
        "SOURCE STORE [--dataset NAME [--fold N]] [--preset NAME] [--processes N | --dask ADDRESS]"
        " [--any.setting VALUE]"
    )
    parser = new_parser(prepare, usage)
    add_path(parser, "source", "SOURCE", "the folder that holds the volumes")
    add_path(parser, "store", "STORE", "the folder to write, or to add to")
    how = f"how SOURCE is laid out: {listed(DATASETS)}"
    parser.add_argument("--dataset", default="folder", metavar="NAME", help=how)
    which = "of a cross-validation, from 0, where the dataset has one; its usual splits if not given"
    parser.add_argument("--fold", type=int, default=None, metavar="N", help=which)
    kinds = f"the kind of scan, which decides the defaults below: {listed(PRESETS)}"
    parser.add_argument("--preset", default=preset, metavar="NAME", help=kinds)
    how_many = "how many to prepare with; without it one a core, as far as there is memory"
    parser.add_argument("--processes", type=int, default=None, metavar="N", help=how_many)
    where = "the scheduler of a Dask cluster to prepare on, such as tcp://host:8786"
    parser.add_argument("--dask", type=str, default=None, metavar="ADDRESS", help=where)
    leak = "take a store in which an image is learnt from and held out, under one name or two, or in val and test"
    parser.add_argument("--allow-leakage", action="store_true", help=leak)
    defaults = {name: value for name, value in asdict(PRESETS[preset]).items() if name != "preset"}
    parser.add_class_arguments(Preprocessing, default=defaults, skip={"preset"})
    options = parse(parser, words)
    load = DATASETS[one_of(DATASETS, "dataset", options.dataset)]
    settings = settings_of(Preprocessing, options)
    refuse_url(options.source, "a source")
    dataset = load(options.source, **_fold(load, options), **_leakage(load, options))
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
            tell=done.append,
        )
    print(f"{options.store}: {_told(done[0])}")
    for said in describe_lungs(store):
        print(f"Lungs: {said}")
    if store.refused:
        print(f"gvsl inspect {shlex.quote(str(options.store))} says which were refused, and why")
    cases = list(store.cases.values())
    twice = duplicates((case.id, case.splits, case.content) for case in cases)
    airless = sum(case.without_air for case in cases)
    if airless:
        print(f"Volumes without air, stored with an offset perhaps: {airless}; gvsl inspect says which")
    if twice:
        print(f"Images under more than one name: {len(twice)}; gvsl inspect says which")


def _fold(load: Callable[..., "Dataset"], options: Namespace) -> dict[str, int]:
    """The fold as a dataset takes it."""
    if options.fold is None:
        return {}
    if "fold" not in signature(load).parameters:
        raise UserError(f"{options.dataset} has no folds: leave out --fold")
    return {"fold": options.fold}


def _leakage(load: Callable[..., "Dataset"], options: Namespace) -> dict[str, bool]:
    """Whether leakage is allowed, for a dataset whose splits are the user's own."""
    return {"allow_leakage": options.allow_leakage} if "allow_leakage" in signature(load).parameters else {}


def inspect(words: Sequence[str]) -> None:
    """Say what is in a store, how it was prepared, and what was refused and why."""
    from gvsl.store import Store, describe

    parser = new_parser(inspect, "STORE")
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made")
    print(describe(Store.open(parse(parser, words).store)))


def _told(work: "PrepareSummary") -> str:
    """What a run of prepare did."""
    said = [f"{work.prepared} volumes prepared" + (f" ({work.changed} of them had changed)" if work.changed else "")]
    said += [f"{work.resumed} prepared already by a run that was stopped"] if work.resumed else []
    said += [f"{work.kept} kept as they are"] if work.kept else []
    said.append(f"{work.refused} refused")
    said += [f"{len(work.stale)} kept though their files can't be used any more"] if work.stale else []
    said += [f"{len(work.gone)} kept though SOURCE doesn't have them any more"] if work.gone else []
    return ", ".join(said)
