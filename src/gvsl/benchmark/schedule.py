"""Where the runs of a matrix are done: on this machine, on a Dask cluster, or as SLURM jobs."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gvsl.benchmark.execute import execute, is_finished
from gvsl.benchmark.failures import keep_failure, was_failed
from gvsl.benchmark.matrix import Matrix, Run
from gvsl.benchmark.places import JOBS, LOCK, LOGS
from gvsl.errors import UserError
from gvsl.files import lock, make_writable

Outcome = tuple[Run, str | None]
"""A run, and the reason if it failed."""


@dataclass(frozen=True)
class Place:
    """Where runs are done; each setting but `processes` needs a package of its own."""

    processes: int = 1
    """Runs at once on this machine, which share its cores."""
    dask: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers see the same files; needs distributed."""
    slurm: str | None = None
    """Partition to submit jobs to, one a run; needs submitit. `local` and `debug` stand for this machine."""
    slurm_minutes: int = 240
    """Time limit of a job."""
    slurm_cores: int = 4
    """Cores of a job."""
    slurm_gpus: int = 0
    """GPUs of a job."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UserError(f"processes is {self.processes}: give 1 or more")
        if self.dask and self.slurm:
            raise UserError("dask and slurm are both given: choose one")


def run_matrix(
    matrix: Matrix,
    out: Path,
    place: Place,
    *,
    retry_failed: bool = False,
    advance: Callable[[Run, str | None], object] = lambda run, reason: None,
) -> dict[str, str]:
    """Do what is missing of a matrix, and return the reasons of the runs that failed now, by name.

    Args:
        matrix: pre-trainings before the transfers that need them.
        out: the benchmark's folder; what is finished there is left alone.
        place: where.
        retry_failed: try runs again that failed before.
        advance: called after each run that was done, with the reason if it failed.

    Raises:
        UserError: the place can't be used, or another process does a matrix in `out`.
    """
    make_writable(out)
    with (out / LOCK).open("ab") as file:
        lock(file, f"another gvsl benchmark is writing {out}; wait until it has ended, or name another folder")
        return _run_waves(matrix, out, place, retry_failed, advance)


def _run_waves(
    matrix: Matrix, out: Path, place: Place, retry_failed: bool, advance: Callable[[Run, str | None], object]
) -> dict[str, str]:
    failures: dict[str, str] = {}
    for wave in ([run for run in matrix if run.pretrains], [run for run in matrix if not run.pretrains]):
        missing = [run for run in wave if not is_finished(run, out) and (retry_failed or not was_failed(run, out))]
        for run, reason in _doing(place)(missing, out):
            if reason is not None:
                failures[run.name] = reason
            advance(run, reason)
    return failures


def _doing(place: Place) -> Callable[[Sequence[Run], Path], Iterable[Outcome]]:
    if place.slurm:
        return partial(_as_jobs, place)
    if place.dask:
        return partial(_on_dask, place.dask)
    return partial(_here, place.processes)


def _do(run: Run, out: Path, threads: int | None) -> Outcome:
    return run, execute(run, out, threads)


def _here(processes: int, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    if processes == 1:
        yield from (_do(run, out, None) for run in runs)
        return
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {run.name: run for run in runs}
    while left:
        with tempfile.TemporaryDirectory(prefix="gvsl-") as marks:
            try:
                for run, reason in _in_pool(processes, list(left.values()), out, Path(marks)):
                    del left[run.name]
                    yield run, reason
            except TerminatedWorkerError:  # nobody knows which of those that had begun it was
                suspects = [run for name, run in left.items() if (Path(marks) / name).exists()]
            else:
                return
        for run in suspects or list(left.values()):
            del left[run.name]
            yield _alone(run, out, _threads(processes))


def _in_pool(processes: int, runs: Sequence[Run], out: Path, marks: Path) -> Iterator[Outcome]:
    from joblib import Parallel, delayed

    parallel = Parallel(processes, return_as="generator_unordered", batch_size=1)
    with warnings.catch_warnings():  # a process whose memory has grown is replaced between runs: nothing to be told
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        yield from parallel(delayed(_do_marked)(run, out, _threads(processes), marks) for run in runs)


def _alone(run: Run, out: Path, threads: int) -> Outcome:
    """Do a run in a process in which there is no other, so that it is known which run the process dies of."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        (outcome,) = Parallel(2)([delayed(_do)(run, out, threads)])  # 1 would be this process
    except TerminatedWorkerError:
        return _lost(run, out, "its process was killed, as by the system where memory runs short")
    return outcome


def _do_marked(run: Run, out: Path, threads: int, marks: Path) -> Outcome:
    """Do a run, and have it known that it had begun."""
    (marks / run.name).touch()
    return _do(run, out, threads)


def _lost(run: Run, out: Path, reason: str) -> Outcome:
    """Keep the failure of a run whose process can't do so any more."""
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
        futures = {client.submit(_do, run, out.resolve(), None, pure=False): run for run in runs}
        suspects = []
        for future in as_completed(futures):
            try:
                yield future.result()
            except KilledWorker:  # Dask blames all that the worker had been given, those that waited too
                suspects.append(futures[future])
        for run in suspects:
            try:
                yield client.submit(_do, run, out.resolve(), None, pure=False).result()
            except KilledWorker:
                yield _lost(run, out, "the workers that it was given to died")


def _as_jobs(place: Place, runs: Sequence[Run], out: Path) -> Iterator[Outcome]:
    try:
        import submitit
    except ImportError:
        raise UserError("slurm needs the package submitit: pip install 'gvsl[cluster]'") from None
    stand_in = place.slurm if place.slurm in ("local", "debug") else None
    executor = submitit.AutoExecutor(folder=out.resolve() / JOBS, cluster=stand_in or "slurm")
    executor.update_parameters(
        timeout_min=place.slurm_minutes,
        cpus_per_task=place.slurm_cores,
        gpus_per_node=place.slurm_gpus,
        **({} if stand_in else {"slurm_partition": place.slurm}),
    )
    jobs = executor.map_array(_do, runs, [out.resolve()] * len(runs), [None] * len(runs)) if runs else []
    for run, job in zip(runs, jobs, strict=True):
        try:
            yield job.result()
        except submitit.core.utils.UncompletedJobError as error:
            yield _lost(run, out, f"its job did not end: {str(error).splitlines()[0]}")
