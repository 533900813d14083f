"""The matrix of runs: which method is trained on which store, with which settings and from which weights."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from gvsl.errors import UserError
from gvsl.records.comparability import ADDED_LATER, CARRIED, NETWORK, NO_CARRY, NODES, PRETEXT_LABELS, without_moot
from gvsl.settings import deciding_settings
from gvsl.settings.benchmark import FROM_NONE, UNAUGMENTED
from gvsl.settings.methods import GVSLSettings
from gvsl.settings.pretrain import PretrainSettings
from gvsl.store import Store, refuse_seen
from gvsl.transfer import TransferSettings

FORMAT = 2
KEY_LENGTH = 10
SCRATCH = "scratch"
"""The row of Table 1 without pre-training."""


@dataclass(frozen=True)
class Column:
    """A task on a store, with a number of labelled cases."""

    task: str
    """A key of `gvsl.datasets.tasks.TASKS`."""
    store: Path
    store_hash: str
    labels: int | None = None
    """Number of labelled training cases; that of the recipe, or all, if None."""


@dataclass(frozen=True)
class Run:
    """One run; its name follows from its fields alone."""

    column: Column
    method: str
    """Method that it pre-trains with or that its weights come from, or `scratch`."""
    seed: int
    settings: PretrainSettings | TransferSettings
    weights: "Run | None" = None
    """Pre-training run whose weights a transfer run starts from; None for random weights."""
    carry: "Run | None" = None
    """Pre-training run whose matching carries labels that a transfer run trains on too."""

    @property
    def needs(self) -> "list[Run]":
        """The pre-training runs that must be finished before this run."""
        return [run for run in (self.weights, self.carry) if run is not None]

    @property
    def pretrains(self) -> bool:
        """True for a pre-training run, False for a transfer run."""
        return isinstance(self.settings, PretrainSettings)

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the results: settings, store, and the key of the weights."""
        # Clusters are written by linear runs alone.
        extras = isinstance(self.settings, PretrainSettings) or self.settings.mode == "linear"
        carry = NO_CARRY if self.carry is None else {"carry": self.carry.key}
        settings = without_moot({**carry, **deciding_settings(self.settings, extras=extras)})
        for name in (PRETEXT_LABELS, NODES, *NETWORK):  # names from before there were these settings
            if name in settings and json.dumps(settings[name]) == json.dumps(ADDED_LATER[name]):
                del settings[name]
        decides = {
            "format": FORMAT,
            "method": self.method,
            "task": None if self.pretrains else self.column.task,
            "store": self.column.store_hash,
            "settings": settings,
            "weights": None if self.weights is None else self.weights.key,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        what = "pretrain" if isinstance(self.settings, PretrainSettings) else self.settings.mode
        carry = "" if self.carry is None else f"-carry-{self.carry.method}"
        return f"{self.column.store.name}-{what}{carry}-{self.method}-{self.seed}-{self.key}"


Matrix = list[Run]
"""Runs, each after those that it needs."""


def find_columns(stores: Sequence[tuple[str, Path]], labels: Sequence[int] = ()) -> list[Column]:
    """Return the columns of a matrix.

    Args:
        stores: task and store of each; an empty task is classification if the store's cases have classes, else
            segmentation.
        labels: numbers of labelled cases, each a column of its own for every store; none for the recipe's number.

    Raises:
        UserError: a store can't be opened, or two have the same name.
    """
    columns = []
    for task, path in stores:
        store = Store.open(path)
        kind = "classification" if any(case.target is not None for case in store.cases.values()) else "segmentation"
        columns += [Column(task or kind, path, store.hash, count) for count in labels or (None,)]
    names = [path.name for _, path in stores]
    if len(set(names)) < len(names):
        repeated = max(names, key=names.count)
        raise UserError(f"two stores are called {repeated}: rename one, since the table names stores by their folder")
    return columns


def find_source(path: Path, columns: Sequence[Column]) -> Column:
    """Return the store that all methods are pre-trained on, as a column.

    Raises:
        UserError: it is no store, has no case to pre-train on, or pre-trains on an image that a column holds out.
    """
    store = Store.open(path)
    store.split("pretrain")  # an error if it is empty
    seen = [(case.id, case.splits, case.content) for case in store.cases.values()]
    for column in columns:
        others = Store.open(column.store).cases.values()
        refuse_seen(seen, [(case.id, case.splits, case.content) for case in others])
    return Column("segmentation", path, store.hash)


def build_matrix(
    columns: Sequence[Column],
    methods: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    pretrain_settings: Callable[[str, int], PretrainSettings],
    transfer_settings: Callable[[Column, str, int], TransferSettings],
    source: Column | None = None,
    draws: Mapping[int | None, int] | None = None,
    matching: Collection[str] = (),
) -> Matrix:
    """List the runs of a matrix: all pre-trainings, then all transfers, each once.

    Args:
        columns: tasks on stores with labelled splits.
        methods: keys of METHODS; the row without pre-training is always added.
        modes: keys of MODES.
        seeds: each for a pre-training and the transfers that start from it.
        pretrain_settings: of a method and a seed.
        transfer_settings: of a column, a mode of `gvsl transfer`, or UNAUGMENTED or FROM_NONE, and a seed.
        source: store that all methods are pre-trained on (the paper has one cohort for all tasks); each column's own
            store if None.
        draws: the number of draws of the labelled cases for each number of labels; draw i is the transfers' seed i, and
            takes its weights from the pre-training of the i-th seed, which repeat in turn. Without it each seed is a
            draw.
        matching: the methods that match volumes; the modes that carry labels leave out the others.
    """
    pretrained = {
        (column, method, seed): Run(source or column, method, seed, pretrain_settings(method, seed))
        for seed in seeds
        for column in columns
        for method in methods
    }
    transfers = []
    for column in columns:
        count = None if draws is None else draws[column.labels]
        drawn = [(seed, seed) for seed in seeds] if count is None else _in_turn(count, seeds)
        for draw, seed in drawn:
            sources = {method: pretrained[column, method, seed] for method in methods}
            carriers = {method: run for method, run in sources.items() if method in matching}
            for mode in modes:
                for settings_mode, method, weights, carry in _arms(mode, sources, carriers):
                    settings = transfer_settings(column, settings_mode, draw)
                    settings = _with_start(settings, weights if mode == CARRIED else carry)
                    transfers.append(Run(column, method, draw, settings, weights, carry))
    pretrainings = {run.key: run for run in pretrained.values()}
    used = {run.key for transfer in transfers for run in transfer.needs}
    unique = {run.name: run for run in transfers}  # a recipe may augment nothing in any mode
    return [*(run for key, run in pretrainings.items() if draws is None or key in used), *unique.values()]


def _arms(
    mode: str, sources: Mapping[str, Run], carriers: Mapping[str, Run]
) -> list[tuple[str, str, Run | None, Run | None]]:
    """Return the arms of a mode: the name of their settings, their method, its weights, and what carries labels.

    Args:
        mode: a key of MODES.
        sources: the pre-training of each method.
        carriers: of those that match.
    """
    if mode == UNAUGMENTED:
        return [(UNAUGMENTED, SCRATCH, None, None)]
    if mode == "student":
        return [(SCRATCH, SCRATCH, None, run) for run in carriers.values()]
    if mode == "finetuned-student":
        return [("finetune", method, run, run) for method, run in carriers.items()]
    untrained = {"finetune": SCRATCH, CARRIED: FROM_NONE}.get(mode, mode)
    started = carriers if mode == CARRIED else sources
    return [(untrained, SCRATCH, None, None), *((mode, method, run, None) for method, run in started.items())]


def _with_start(settings: TransferSettings, matcher: Run | None) -> TransferSettings:
    """Return settings with matches that start from the whole field if their network has no affine head."""
    pretraining = None if matcher is None else matcher.settings
    pretext = pretraining.pretext if isinstance(pretraining, PretrainSettings) else None
    if not isinstance(pretext, GVSLSettings) or pretext.affine or settings.carrying.start != "affine":
        return settings
    return replace(settings, carrying=replace(settings.carrying, start="field"))


def _in_turn(count: int, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return each draw with the seed of its pre-training."""
    return [(draw, seeds[draw % len(seeds)]) for draw in range(count)]
