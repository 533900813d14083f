"""The folder of a benchmark: where runs are, which are finished, and the records of those that failed."""

from dataclasses import asdict, fields
from pathlib import Path

from gvsl.benchmark.matrix import SCRATCH, Matrix, Run
from gvsl.records import FAILED, RECORD_NAME, RUNS, RunRecord, environment, read_record, utc_now, write_record
from gvsl.records.comparability import CARRY, NO_CARRY
from gvsl.settings import effects_of
from gvsl.settings.backbones import NetworkSettings
from gvsl.settings.pretrain import PretrainSettings
from gvsl.training import awaits_evaluation

LOGS = "logs"
JOBS = "jobs"


def is_finished(run: Run, out: Path) -> bool:
    """Return True if the run's record is there and complete."""
    folder = out / RUNS / run.name
    if not (folder / RECORD_NAME).is_file():
        return False
    return read_record(folder).status == "finished" and not (run.pretrains and awaits_evaluation(folder))


def was_failed(run: Run, out: Path) -> bool:
    """Return True if the run was tried and failed."""
    return (out / FAILED / run.name / RECORD_NAME).is_file()


def folders_of(matrix: Matrix, out: Path) -> list[Path]:
    """Return the folders of the matrix's runs that have a record, finished or failed."""
    found = []
    for run in matrix:
        failed = was_failed(run, out) and not is_finished(run, out)
        folder = out / (FAILED if failed else RUNS) / run.name
        if (folder / RECORD_NAME).is_file():
            found.append(folder)
    return found


def strangers(matrix: Matrix, out: Path) -> list[str]:
    """Return the names of the folder's runs that are not in the matrix: other settings, stores, methods or seeds."""
    here = {path.parent.name for name in (RUNS, FAILED) for path in (out / name).glob(f"[!.]*/{RECORD_NAME}")}
    return sorted(here - {run.name for run in matrix})


def keep_failure(run: Run, out: Path, reason: str, traceback: str = "") -> None:
    """Write a record with status `failed`, the settings and the reason to `out`/failed/NAME.

    The settings have the names that they have in the record of a finished run.
    """
    config = {"method": run.method, **asdict(run.settings), "reason": reason, "traceback": traceback}
    pretraining = {}
    if isinstance(run.settings, PretrainSettings):
        config["pretext"] = config["pretext"] or {}
    else:
        config |= {"task": run.column.task, "weights": SCRATCH}
        config |= NO_CARRY if run.carry is None else {CARRY: run.carry.method}
        if run.weights is not None:
            before = run.weights.settings
            assert isinstance(before, PretrainSettings)
            network = {item.name: getattr(before.backbone, item.name) for item in fields(NetworkSettings)}
            size = {"backbone": network, "width": before.backbone.width, "levels": before.backbone.levels}
            config |= {"weights": str(out / RUNS / run.weights.name), **size}
            pretraining = {
                "steps": before.trainer.max_steps,
                "seed": run.weights.seed,
                "store": run.weights.column.store_hash,
            }
    record = RunRecord(
        kind="pretrain" if run.pretrains else "transfer",
        name=run.name,
        seed=run.seed,
        config=config,
        store={"name": run.column.store.name, "hash": run.column.store_hash},
        status="failed",
        created=utc_now(),
        environment=environment(),
        pretraining=pretraining,
        effects=effects_of(run.settings),
    )
    write_record(record, out / FAILED / run.name)
