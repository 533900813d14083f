"""Estimates of the time and disk space that a matrix takes, from a few steps of each kind of run."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from gvsl.benchmark.execute import execute
from gvsl.benchmark.matrix import Run
from gvsl.errors import UserError
from gvsl.files import scratch_folder
from gvsl.records import RUNS
from gvsl.records.comparability import CARRIED
from gvsl.settings.pretrain import PretrainSettings
from gvsl.store import Store
from gvsl.transfer import TransferSettings
from gvsl.transfer.carrying import volumes_to_label

STEPS = {"adam": (2, 8), "lbfgs": (8, 20)}
"""Steps of the two short runs whose difference gives the time per step, without set-up and testing; the line searches
of L-BFGS are longer in its first steps."""
REPEATS = 3
"""Maximum number of short runs of a kind and length; their median is used."""
ENOUGH = 6.0
"""Seconds after which a short run of a kind and length is not repeated."""
VALIDATIONS = 4
"""Validations of the longer short run when it is repeated to time one of them."""


@dataclass(frozen=True)
class Estimate:
    """Estimated time and disk space of a run."""

    seconds: float
    megabytes: float


def kind_of(run: Run) -> Hashable:
    """Return a key of runs that take the same time: kind, store and settings, apart from the seed."""
    if isinstance(run.settings, PretrainSettings):
        return run.column.store, run.method
    return run.column.store, replace(_timed(run.settings), seed=0), run.carry is not None


def estimate(runs: Sequence[Run], advance: Callable[[], object] = lambda: None) -> dict[str, Estimate]:
    """Return the estimate of every run by its name, from a few steps of each method and mode on each store.

    Args:
        runs: those to estimate; transfers are timed from random weights.
        advance: called after each kind.
    """
    known: dict[Hashable, Estimate] = {}
    for run in runs:
        kind = kind_of(run)
        if not known:
            _time(_short(run, STEPS["adam"][0], clusters=True))  # the first run of a process includes set-up
        if kind not in known:
            known[kind] = _measure(run)
            advance()
    return {run.name: known[kind_of(run)] for run in runs}


def _measure(run: Run) -> Estimate:
    settings = run.settings
    if run.carry is not None:
        return _with_carried(run)
    if not isinstance(settings, PretrainSettings) and settings.mode == CARRIED:
        return Estimate(*_median(_short(run, 1)))
    few, more = STEPS["adam" if isinstance(settings, PretrainSettings) else settings.optimiser]
    first, size = _median(_short(run, few))
    second, _ = _median(_short(run, more))
    step = max(0.0, second - first) / (more - few)
    if isinstance(settings, PretrainSettings):
        return Estimate(first + step * max(0, settings.trainer.max_steps - few), size)
    often, _ = _median(_short(run, more, more // VALIDATIONS))
    if settings.mode == "linear" and settings.clusters.points:  # t-SNE runs once, whatever the number of steps
        first, size = _median(_short(run, few, clusters=True))
    validation = max(0.0, often - second) / (VALIDATIONS - 1)
    validations = max(0, settings.max_steps // settings.validate_every - 1)
    return Estimate(first + step * max(0, settings.max_steps - few) + validation * validations, size)


def _with_carried(run: Run) -> Estimate:
    """Return the estimate of a run that trains on carried labels too: without them, and as long as they take."""
    assert isinstance(run.settings, TransferSettings)
    plain = _measure(replace(run, carry=None))
    carried = _measure(replace(run, carry=None, settings=replace(run.settings, mode="carried")))
    store = Store.open(run.column.store)
    scored = len(store.split("val")) + len(store.split("test"))
    volumes = len(volumes_to_label(store, [], run.settings.carrying))
    return Estimate(plain.seconds + carried.seconds * volumes / scored, plain.megabytes)


def _short(run: Run, steps: int, validate_every: int | None = None, *, clusters: bool = False) -> Run:
    """Return a run of a few steps, a transfer from random weights."""
    settings = run.settings
    if isinstance(settings, PretrainSettings):
        return replace(run, settings=replace(settings, trainer=replace(settings.trainer, max_steps=steps)))
    points = settings.clusters.points if clusters else 0
    settings = replace(_timed(settings), clusters=replace(settings.clusters, points=points))
    return replace(
        run,
        settings=replace(settings, max_steps=steps, validate_every=validate_every or steps),
        weights=None,
        carry=None,
    )


def _timed(settings: TransferSettings) -> TransferSettings:
    """Return settings that take the same time without weights: from scratch for fine-tuning, and no start to refine."""
    if settings.mode == CARRIED:
        return replace(settings, carrying=replace(settings.carrying, start="none"))
    mode: Literal["linear", "scratch"] = "linear" if settings.mode == "linear" else "scratch"
    return replace(settings, mode=mode)


def _median(short: Run) -> tuple[float, float]:
    """Return the median seconds, and the megabytes, of a short run that is repeated while it is quick."""
    taken: list[float] = []
    size = 0.0
    while len(taken) < REPEATS and sum(taken) < ENOUGH:
        seconds, size = _time(short)
        taken.append(seconds)
    return median(taken), size


def _time(short: Run) -> tuple[float, float]:
    with scratch_folder("gvsl benchmark") as folder:
        began = time.perf_counter()
        reason = execute(short, folder)
        if reason is not None:
            raise UserError(f"{short.name}: {reason}")
        taken = time.perf_counter() - began
        size = sum(path.stat().st_size for path in (folder / RUNS / short.name).rglob("*") if path.is_file())
    return taken, size / 1e6
