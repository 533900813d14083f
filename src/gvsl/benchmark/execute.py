"""Execution of one run of the matrix; a failure is recorded, not raised."""

import logging
import shutil
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch

from gvsl.benchmark.folder import LOGS, is_finished, keep_failure
from gvsl.benchmark.matrix import Run
from gvsl.errors import UserError
from gvsl.memory import explained_memory, keep_freed_memory
from gvsl.records import FAILED, RUNS
from gvsl.settings.carrying import without_moot_settings
from gvsl.settings.pretrain import LESS as PRETRAIN_LESS
from gvsl.settings.pretrain import PretrainSettings
from gvsl.settings.transfer import LESS as TRANSFER_LESS
from gvsl.store import Store
from gvsl.training import awaits_evaluation, evaluate_pretraining, pretrain
from gvsl.training.checkpoints import has_checkpoint
from gvsl.transfer import part_folder, run_task
from gvsl.transfer.checkpoint import STATE_NAME


def execute(run: Run, out: Path, threads: int | None = None) -> str | None:
    """Execute one run, or resume it if it was stopped, and return the reason if it failed.

    The run's folder is `out`/runs/NAME; its output goes to `out`/logs/NAME.log. A failure leaves a record with the
    reason in `out`/failed/NAME, and in runs at most what it can be resumed from.

    Args:
        run: the run; its weights, if any, have been made.
        out: the benchmark's folder.
        threads: number of torch's threads; torch's own choice if not given.
    """
    # A run may have been finished by a process that died before it could report.
    reason = None if is_finished(run, out) else _attempt(run, out, threads)
    failed = out / FAILED / run.name
    if reason is None and failed.exists():
        shutil.rmtree(failed)
    return reason


def _attempt(run: Run, out: Path, threads: int | None) -> str | None:
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it announces missing hardware
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    try:
        with (
            (out / LOGS / f"{run.name}.log").open("a", encoding="utf-8") as log,
            redirect_stderr(log),
            redirect_stdout(log),
            explained_memory(PRETRAIN_LESS if run.pretrains else TRANSFER_LESS),
        ):
            _execute(run, out)
    except Exception as error:  # whatever it is, the other runs go on, and this one is reported
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        keep_failure(run, out, reason, traceback.format_exc())
        return reason
    return None


def _execute(run: Run, out: Path) -> None:
    folder, store = out / RUNS / run.name, Store.open(run.column.store)
    if isinstance(run.settings, PretrainSettings):
        if not awaits_evaluation(folder):
            resume = has_checkpoint(folder)
            if folder.exists() and not resume:  # stopped before the first checkpoint
                shutil.rmtree(folder)
            pretrain(store, folder, run.settings, run.method, resume)
        evaluate_pretraining(folder, store)
        return
    for needed in run.needs:
        if not is_finished(needed, out):
            raise UserError(f"there are no weights: {needed.name} failed, see {out / LOGS}/{needed.name}.log")
    weights, carry = (None if needed is None else out / RUNS / needed.name for needed in (run.weights, run.carry))
    resume = (part_folder(folder) / STATE_NAME).is_file()  # stopped while labels were carried, it has none yet
    # one recipe serves all runs, also those that don't carry
    carrying = without_moot_settings(run.settings.carrying, run.settings.mode, carry is not None)
    settings = replace(run.settings, carrying=carrying)
    run_task(run.column.task, store, weights, folder, settings, carry=carry, resume=resume)
