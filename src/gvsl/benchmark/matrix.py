"""The list of runs: who is trained on what, by which settings, and from whose weights."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gvsl.settings import deciding_settings
from gvsl.training.pretrain_settings import PretrainSettings
from gvsl.transfer import TransferSettings

FORMAT = 2
KEY_LENGTH = 10
SCRATCH = "scratch"
"""The row of Table 1 without pre-training."""


@dataclass(frozen=True)
class Column:
    """A task on a store."""

    task: str
    """A key of `gvsl.datasets.tasks.TASKS`."""
    store: Path
    store_hash: str


@dataclass(frozen=True)
class Run:
    """One run, a function of its fields alone; where it lies follows from them."""

    column: Column
    method: str
    """That it pre-trains by, or that its weights come from, or `scratch`."""
    seed: int
    settings: PretrainSettings | TransferSettings
    weights: "Run | None" = None
    """Of a transfer: the pre-training that it starts from; none for random weights."""

    @property
    def pretrains(self) -> bool:
        """Whether it is a pre-training, not a transfer."""
        return isinstance(self.settings, PretrainSettings)

    @cached_property
    def key(self) -> str:
        """A hash of all that decides the run: settings, store, and the weights' own key."""
        decides = {
            "format": FORMAT,
            "method": self.method,
            "task": None if self.pretrains else self.column.task,
            "store": self.column.store_hash,
            "settings": self._deciding(),
            "weights": None if self.weights is None else self.weights.key,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]

    def _deciding(self) -> dict[str, object]:
        """Return the settings that decide what the run writes; extras are written by pre-training and linear runs."""
        extras = isinstance(self.settings, PretrainSettings) or self.settings.mode == "linear"
        return deciding_settings(self.settings, extras=extras)

    @property
    def name(self) -> str:
        """Of the run's folder."""
        what = "pretrain" if isinstance(self.settings, PretrainSettings) else self.settings.mode
        return f"{self.column.store.name}-{what}-{self.method}-{self.seed}-{self.key}"


Matrix = list[Run]
"""Every run after those it needs."""


def build_matrix(
    columns: Sequence[Column],
    methods: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    pretrain_settings: Callable[[str, int], PretrainSettings],
    transfer_settings: Callable[[Column, str, int], TransferSettings],
    source: Column | None = None,
) -> Matrix:
    """List the runs of a matrix: all pre-trainings, then all transfers; no run twice.

    Args:
        columns: each is transferred to its own labelled splits.
        methods: keys of METHODS; the row without pre-training is always there.
        modes: of `linear` and `finetune`; beside fine-tuning, `scratch` trains all from random weights.
        seeds: a transfer has the seed of the pre-training that it starts from.
        pretrain_settings: of a method and a seed.
        transfer_settings: of a column, a mode and a seed.
        source: whose `pretrain` split all methods are pre-trained on (the paper has one cohort for all tasks); each
            column's own if not given.
    """
    pretrained = {
        (column, method, seed): Run(source or column, method, seed, pretrain_settings(method, seed))
        for seed in seeds
        for column in columns
        for method in methods
    }
    transfers = [
        _transfer(column, method, mode, seed, pretrained.get((column, method, seed)), transfer_settings)
        for seed in seeds
        for column in columns
        for mode in modes
        for method in (SCRATCH, *methods)
    ]
    return [*{run.key: run for run in pretrained.values()}.values(), *transfers]


def _transfer(
    column: Column,
    method: str,
    mode: str,
    seed: int,
    weights: Run | None,
    transfer_settings: Callable[[Column, str, int], TransferSettings],
) -> Run:
    trained_whole = weights is None and mode == "finetune"
    return Run(column, method, seed, transfer_settings(column, SCRATCH if trained_whole else mode, seed), weights)
