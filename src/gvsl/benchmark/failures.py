"""What is kept of a run that failed, so that it is told and can be tried again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gvsl.benchmark.matrix import SCRATCH, Run
from gvsl.benchmark.places import FAILED, RUNS
from gvsl.records import RECORD_NAME, RunRecord, environment, utc_now, write_record
from gvsl.settings import effects_of
from gvsl.training.pretrain_settings import PretrainSettings


def was_failed(run: Run, out: Path) -> bool:
    """Whether the run was tried and failed."""
    return (out / FAILED / run.name / RECORD_NAME).is_file()


def keep_failure(run: Run, out: Path, reason: str, traceback: str = "") -> None:
    """Write a record of the status `failed`, with settings and reason, to `out`/failed/NAME."""
    weights = run.weights
    record = RunRecord(
        kind="pretrain" if run.pretrains else "transfer",
        name=run.name,
        seed=run.seed,
        config={**_settings(run, out), "reason": reason, "traceback": traceback},
        store={"name": run.column.store.name, "hash": run.column.store_hash},
        status="failed",
        created=utc_now(),
        environment=environment(),
        effects=effects_of(run.settings),
    )
    if weights is not None and isinstance(weights.settings, PretrainSettings):
        steps = weights.settings.trainer.max_steps
        record.pretraining = {"steps": steps, "seed": weights.seed, "store": weights.column.store_hash}
    write_record(record, out / FAILED / run.name)


def _settings(run: Run, out: Path) -> dict[str, Any]:
    """What the run was told, named as in the record of one that did not fail."""
    found = {"method": run.method, **asdict(run.settings)}
    if isinstance(run.settings, PretrainSettings):
        return found | {"pretext": found["pretext"] or {}}
    weights = run.weights
    if weights is None:
        return {**found, "task": run.column.task, "weights": SCRATCH}
    assert isinstance(weights.settings, PretrainSettings)
    width = weights.settings.backbone.width  # loaded weights bring their own
    return {**found, "task": run.column.task, "weights": str(out / RUNS / weights.name), "width": width}
