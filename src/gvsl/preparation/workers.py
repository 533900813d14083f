"""Parallel execution: in this process, in several on this machine, or on a Dask cluster."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.memory import available_memory
from gvsl.preparation.sources import stamp
from gvsl.processes import pool_settings

T = TypeVar("T")
Result = TypeVar("Result")

MEMORY_PER_BYTE = 14
"""Peak memory of a process per byte of its uncompressed volume (measured in docs/store.md)."""
MEMORY_BASE = 200 * 2**20
"""Memory of an idle process, in bytes."""
MAX_FILES = 16
"""Number of the largest files whose uncompressed size is determined."""
MAX_SERIES = 64
"""Number of DICOM series whose size is determined, evenly spaced."""
FEW_BYTES = 8 * 2**20
"""Bytes of image files up to which one process has prepared them before several have started."""
PACKED = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Formats with internal compression, whose uncompressed size is unknown."""
PACKING = 3
"""Assumed compression ratio of these; that of CT is 2 to 3."""


def default_processes(cases: Sequence[Case]) -> int:
    """Return one process per core, or as many as fit into memory if each prepares the largest of `cases`."""
    cores = int(cpu_count())
    free = available_memory()
    if free is None:
        return cores
    most = max((len(case.images) for case in cases), default=1)
    images = [image for case in cases for image in case.images]
    files = [case.image for case in images if not case.image.is_dir()]
    series = [case for case in images if case.image.is_dir()]
    sizes = sorted(((_size(file), file) for file in files), reverse=True)[:MAX_FILES]
    largest = max((_uncompressed(file, size) for size, file in sizes), default=0)
    step = max(1, len(series) // MAX_SERIES)
    largest = max(largest, *(_series_size(case) for case in series[::step]), 0)
    return max(1, min(cores, int(free / (MEMORY_BASE + MEMORY_PER_BYTE * largest * most))))


def are_few(cases: Sequence[Case]) -> bool:
    """Return True if the cases are prepared sooner by this process than by several, which take a second to start."""
    total = 0
    for case in cases:
        total += _series_size(case) if case.image.is_dir() else _size(case.image)
        if total > FEW_BYTES:
            return False
    return True


@contextmanager
def run_locally(work: Callable[[T], Result], cases: Sequence[T], processes: int) -> Iterator[Iterable[Result]]:
    """Yield the results of `work` in order of completion; no process outlives the block."""
    if processes == 1:
        yield (work(case) for case in cases)
        return
    guarded = _Guarded(work, os.getpid())
    with _running(
        Parallel(n_jobs=processes, return_as="generator_unordered", **pool_settings()), guarded, cases
    ) as results:
        yield results


@contextmanager
def run_on_dask(work: Callable[[T], Result], cases: Sequence[T], address: str) -> Iterator[Iterable[Result]]:
    """Do the same on a Dask cluster, whose workers must see the files under the same paths.

    Raises:
        UserError: Dask isn't installed, or nothing answers at `address`.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError('--dask needs the package distributed: pip install "gvsl[cluster]"') from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"no Dask scheduler answers at {address} ({error})") from None
    try:
        if not client.nthreads():
            raise UserError(f"the Dask cluster at {address} has no workers; start some with `dask worker {address}`")
        with parallel_config("dask", client=client, n_jobs=-1):
            pool = Parallel(return_as="generator_unordered")
            with _running(pool, work, cases) as results:
                yield results
    finally:
        client.close()


class _Guarded:
    """Work that does not start when the parent process is gone."""

    def __init__(self, work: Callable[[Any], Any], parent: int) -> None:
        self.work, self.parent = work, parent

    def __call__(self, case: Any) -> Any:
        if os.getppid() != self.parent:
            os._exit(1)
        return self.work(case)


@contextmanager
def _running(pool: Any, work: Callable[[T], Result], cases: Sequence[T]) -> Iterator[Iterable[Result]]:
    results = pool(delayed(work)(case) for case in cases)
    try:
        yield results
    except TerminatedWorkerError:
        raise UserError("a process was killed, most likely because memory ran out; give fewer --processes") from None
    finally:
        with warnings.catch_warnings():  # joblib warns about the cancelled cases
            warnings.simplefilter("ignore")
            results.close()


def _size(file: Path) -> int:
    """Return the bytes of a file with its companions."""
    try:
        return stamp(file).size
    except OSError:  # refused when it is read
        return 0


def _series_size(case: Case) -> int:
    """Return the bytes of a DICOM series."""
    parts = [case.image / part for part in case.parts]
    return sum(_size(part) for part in parts) if parts else _size(case.image)


def _uncompressed(file: Path, size: int) -> int:
    """Return the uncompressed bytes of a file; gzip stores them at its end, modulo 4 GB."""
    if file.suffix.lower() in PACKED:
        return PACKING * size
    if file.suffix.lower() not in (".gz", ".mgz") or size < 4:
        return size
    try:
        with file.open("rb") as opened:
            opened.seek(-4, os.SEEK_END)
            return max(size, int.from_bytes(opened.read(4), "little"))
    except OSError:
        return size
