"""One run of the matrix, from whatever is there of it to its record; a failure is kept, not raised."""

import logging
import shutil
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from gvsl.benchmark.failures import keep_failure
from gvsl.benchmark.matrix import Run
from gvsl.benchmark.places import FAILED, LOGS, RUNS
from gvsl.errors import UserError
from gvsl.memory import keep_freed_memory
from gvsl.records import RECORD_NAME, read_record
from gvsl.store import Store
from gvsl.training import awaits_evaluation, evaluate_pretraining, pretrain
from gvsl.training.pretrain_settings import PretrainSettings
from gvsl.training.trainer import CHECKPOINT
from gvsl.transfer import TransferSettings, part_folder, run_task


def is_finished(run: Run, out: Path) -> bool:
    """Whether the run's record is there and whole."""
    folder = out / RUNS / run.name
    if not (folder / RECORD_NAME).is_file():
        return False
    return read_record(folder).status == "finished" and not (run.pretrains and awaits_evaluation(folder))


def execute(run: Run, out: Path, threads: int | None = None) -> str | None:
    """Do one run, or go on with it where it was stopped; return the reason if it failed.

    The run's folder is `out`/runs/NAME, what it printed is in `out`/logs/NAME.log. A failure leaves a record of the
    status `failed`, with the reason, in `out`/failed/NAME, and nothing in runs.

    Args:
        run: whose weights, if it needs any, have been made.
        out: the benchmark's folder.
        threads: that torch may use; as many as it likes if not given.
    """
    if is_finished(run, out):  # by a process that died before it could say so
        return None
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it announces hardware that isn't there
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    failed = out / FAILED / run.name
    try:
        with (
            (out / LOGS / f"{run.name}.log").open("a", encoding="utf-8") as log,
            redirect_stderr(log),
            redirect_stdout(log),
        ):
            _do(run, out)
    except Exception as error:  # whatever a run dies of, the others go on, and this one is told
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        keep_failure(run, out, reason, traceback.format_exc())
        return reason
    if failed.exists():
        shutil.rmtree(failed)
    return None


def _do(run: Run, out: Path) -> None:
    folder, store = out / RUNS / run.name, Store.open(run.column.store)
    if isinstance(run.settings, PretrainSettings):
        if not awaits_evaluation(folder):
            resume = (folder / CHECKPOINT).is_file()
            if folder.exists() and not resume:  # stopped before there was anything to go on from
                shutil.rmtree(folder)
            pretrain(store, folder, run.settings, run.method, resume)
        evaluate_pretraining(folder, store)
        return
    assert isinstance(run.settings, TransferSettings)
    weights = None
    if run.weights is not None:
        if not is_finished(run.weights, out):
            raise UserError(f"there are no weights: {run.weights.name} failed, see {out / LOGS}/{run.weights.name}.log")
        weights = out / RUNS / run.weights.name
    run_task(run.column.task, store, weights, folder, run.settings, resume=part_folder(folder).is_dir())
