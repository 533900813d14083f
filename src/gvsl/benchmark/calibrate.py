"""How long a matrix should take here, and how much disk, from a few steps of each kind of run."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gvsl.benchmark.execute import RUNS, execute
from gvsl.benchmark.matrix import Run
from gvsl.errors import UserError
from gvsl.training.settings import PretrainSettings

FEW, MORE = 2, 6
"""Steps of the two short runs whose difference tells the time of one step, and what comes with a run at any length."""


@dataclass(frozen=True)
class Estimate:
    """What a run should take."""

    seconds: float
    megabytes: float


def estimate(runs: Sequence[Run], advance: Callable[[], object] = lambda: None) -> dict[str, Estimate]:
    """Time a few steps of each kind of run: of each method and mode on each store.

    Args:
        runs: those to estimate; transfers are timed from random weights.
        advance: called after each kind.

    Returns:
        the estimate of every run, by its name.
    """
    known: dict[tuple[Path, str, str], Estimate] = {}
    found: dict[str, Estimate] = {}
    for run in runs:
        what = run.method if isinstance(run.settings, PretrainSettings) else run.settings.mode
        kind = (run.column.store, "pretrain" if run.pretrains else "transfer", what)
        if kind not in known:
            known[kind] = _measure(run)
            advance()
        found[run.name] = known[kind]
    return found


def _measure(run: Run) -> Estimate:
    settings = run.settings
    if isinstance(settings, PretrainSettings):
        (few, size), (more, _) = (_time(run, steps, steps) for steps in (FEW, MORE))
        return Estimate(few + (more - few) / (MORE - FEW) * max(0, settings.trainer.max_steps - FEW), size)
    (few, size), (more, _), (twice, _) = (_time(run, *how) for how in ((FEW, FEW), (MORE, MORE), (FEW, FEW // 2)))
    step, validation = max(0.0, more - few) / (MORE - FEW), max(0.0, twice - few)
    validations = settings.max_steps // settings.validate_every
    return Estimate(few + step * max(0, settings.max_steps - FEW) + validation * max(0, validations - 1), size)


def _time(run: Run, steps: int, validate_every: int) -> tuple[float, float]:
    """Seconds and megabytes of a run cut short."""
    settings = run.settings
    if isinstance(settings, PretrainSettings):
        short = replace(run, settings=replace(settings, trainer=replace(settings.trainer, max_steps=steps)))
    else:
        # Fine-tuning takes as long as training from scratch, which needs no weights.
        mode: Literal["linear", "scratch"] = "linear" if settings.mode == "linear" else "scratch"
        cut = replace(settings, mode=mode, max_steps=steps, validate_every=validate_every)
        short = replace(run, settings=cut, weights=None)
    with tempfile.TemporaryDirectory(prefix="gvsl-") as folder:
        began = time.perf_counter()
        reason = execute(short, Path(folder))
        if reason is not None:
            raise UserError(f"{run.name}: {reason}")
        taken = time.perf_counter() - began
        size = sum(path.stat().st_size for path in (Path(folder) / RUNS / short.name).rglob("*") if path.is_file())
    return taken, size / 1e6
