"""Execution of a matrix on this machine, on a Dask cluster, or as SLURM jobs."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gvsl.benchmark.execute import execute
from gvsl.benchmark.folder import JOBS, LOGS, is_finished, keep_failure, was_failed
from gvsl.benchmark.matrix import Matrix, Run
from gvsl.errors import UserError
from gvsl.files import TEMPORARY, claimed, refuse_long_name, sweep
from gvsl.processes import pool_settings
from gvsl.records import FAILED, RUNS
from gvsl.settings.benchmark import Executor as Executor

Outcome = tuple[Run, str | None]
"""A run, and the reason if it failed."""


def run_matrix(
    matrix: Matrix,
    out: Path,
    executor: Executor,
    *,
    retry_failed: bool = False,
    advance: Callable[[Run, str | None], object] = lambda run, reason: None,
) -> dict[str, str]:
    """Execute the missing runs of a matrix, and return the reasons of those that failed now, by name.

    Args:
        matrix: pre-trainings before the transfers that need them.
        out: the benchmark's folder; finished runs in it are left alone.
        executor: where to execute them.
        retry_failed: repeat runs that failed before.
        advance: called after each executed run, with the reason if it failed.

    Raises:
        UserError: the executor can't be used, or another process runs a benchmark in `out`.
    """
    for run in matrix:
        refuse_long_name(out / RUNS / run.name)
    with claimed(out, "gvsl benchmark", inside=True):
        failures: dict[str, str] = {}
        for wave in ([run for run in matrix if run.pretrains], [run for run in matrix if not run.pretrains]):
            missing = [run for run in wave if not is_finished(run, out) and (retry_failed or not was_failed(run, out))]
            for run, reason in _outcomes(executor, missing, out):
                if reason is not None:
                    failures[run.name] = reason
                advance(run, reason)
        for folder in (out / RUNS, *(out / FAILED).glob("[!.]*")):
            if folder.is_dir():
                sweep(folder)
        return failures


def _outcomes(executor: Executor, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    if executor.slurm:
        return _as_jobs(executor, runs, out)
    if executor.dask:
        return _on_dask(executor.dask, runs, out)
    if executor.processes > 1:
        return _in_processes(executor.processes, runs, out)
    return (_execute(run, out, None) for run in runs)


def _execute(run: Run, out: Path, threads: int | None, marks: Path | None = None) -> Outcome:
    """Execute a run, after leaving a mark in `marks` that it has begun."""
    if marks is not None:
        (marks / run.name).touch()
    return run, execute(run, out, threads)


def _in_processes(processes: int, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {run.name: run for run in runs}
    while left:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=out) as marks:
            try:
                for run, reason in _in_pool(processes, list(left.values()), out, Path(marks)):
                    del left[run.name]
                    yield run, reason
            except TerminatedWorkerError:  # it may have been any of the runs that had begun
                suspects = [run for name, run in left.items() if (Path(marks) / name).exists()]
            else:
                return
        for run in suspects or list(left.values()):
            del left[run.name]
            yield _alone(run, out, _threads(processes))


def _in_pool(processes: int, runs: Sequence[Run], out: Path, marks: Path) -> Iterator[Outcome]:
    from joblib import Parallel, delayed

    parallel = Parallel(processes, return_as="generator_unordered", batch_size=1, **pool_settings())
    with warnings.catch_warnings():  # a process whose memory has grown is replaced between runs
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        yield from parallel(delayed(_execute)(run, out, _threads(processes), marks) for run in runs)


def _alone(run: Run, out: Path, threads: int) -> Outcome:
    """Execute a run in a process of its own, so that a process that dies can be attributed to it."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        (outcome,) = Parallel(2, **pool_settings())([delayed(_execute)(run, out, threads)])  # 1 would be this process
    except TerminatedWorkerError:
        return _lost(run, out, "its process was killed, as by the system where memory runs short")
    return outcome


def _lost(run: Run, out: Path, reason: str) -> Outcome:
    """Record the failure of a run whose process died."""
    reason = f"{reason}; see {out / LOGS / run.name}.log"
    keep_failure(run, out, reason)
    return run, reason


def _threads(processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


def _on_dask(address: str, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise UserError("dask needs the package distributed: pip install 'gvsl[cluster]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(f"no Dask scheduler answers at {address} ({error}): start one, or name another") from None
    with client:
        futures = {client.submit(_execute, run, out.resolve(), None, pure=False): run for run in runs}
        suspects = []
        for future in as_completed(futures):
            try:
                yield future.result()
            except KilledWorker:  # Dask blames every task of the worker, also those that were waiting
                suspects.append(futures[future])
        for run in suspects:
            try:
                yield client.submit(_execute, run, out.resolve(), None, pure=False).result()
            except KilledWorker:
                yield _lost(run, out, "the workers that executed it died")


def _as_jobs(executor: Executor, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    try:
        import submitit
    except ImportError:
        raise UserError("slurm needs the package submitit: pip install 'gvsl[cluster]'") from None
    stand_in = executor.slurm if executor.slurm in ("local", "debug") else None
    submitter = submitit.AutoExecutor(folder=out.resolve() / JOBS, cluster=stand_in or "slurm")
    submitter.update_parameters(
        timeout_min=executor.slurm_minutes,
        cpus_per_task=executor.slurm_cores,
        gpus_per_node=executor.slurm_gpus,
        **({} if stand_in else {"slurm_partition": executor.slurm}),
    )
    jobs = submitter.map_array(_execute, runs, [out.resolve()] * len(runs), [None] * len(runs)) if runs else []
    for run, job in zip(runs, jobs, strict=True):
        try:
            yield job.result()
        except submitit.core.utils.UncompletedJobError as error:
            yield _lost(run, out, f"its job did not end: {str(error).splitlines()[0]}")
