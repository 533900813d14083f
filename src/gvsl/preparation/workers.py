"""Many cases at once: in this process, in several of this machine, or on a Dask cluster."""

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

T = TypeVar("T")
Result = TypeVar("Result")

MEMORY_SHARE = 14
"""Peak memory of a process beside the bytes of its volume, uncompressed (docs/store.md has the measurement)."""
MEMORY_BASE = 200 * 2**20
"""Peak memory of a process that prepares nothing yet."""
LOOKED_AT = 16
"""How many of the largest files are asked for their size uncompressed."""
FOLDERS_LOOKED_AT = 64
"""How many folders of DICOM series are looked into for their size, evenly spaced."""
PACKED = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Formats that compress within, and whose length uncompressed stands nowhere."""
PACKING = 3
"""Bytes that a byte of those is taken for: CT unfolds to some 2 to 3."""


def usual_processes(cases: Sequence[Case]) -> int:
    """One process a core, or as many as there is memory for if each prepares the largest of `cases`."""
    cores = int(cpu_count())
    free = available_memory()
    if free is None:
        return cores
    files = [case.image for case in cases if not case.image.is_dir()]
    series = [case for case in cases if case.image.is_dir()]
    sizes = sorted(((_size(file), file) for file in files), reverse=True)[:LOOKED_AT]
    largest = max((_uncompressed(file, size) for size, file in sizes), default=0)
    step = max(1, len(series) // FOLDERS_LOOKED_AT)
    largest = max(largest, *(_series_size(case) for case in series[::step]), 0)
    return max(1, min(cores, int(free / (MEMORY_BASE + MEMORY_SHARE * largest))))


@contextmanager
def in_this_machine(work: Callable[[T], Result], cases: Sequence[T], processes: int) -> Iterator[Iterable[Result]]:
    """Do `work` on each, in whatever order they get done; when the block ends, no process goes on."""
    if processes == 1:
        yield (work(case) for case in cases)
        return
    guarded = _Guarded(work, os.getpid())
    with _running(Parallel(n_jobs=processes, return_as="generator_unordered"), guarded, cases) as results:
        yield results


@contextmanager
def on_dask(work: Callable[[T], Result], cases: Sequence[T], address: str) -> Iterator[Iterable[Result]]:
    """The same on the workers of a Dask cluster, which must see the same files under the same paths.

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
    """Work that is not begun once the process that asked for it is gone."""

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
        raise UserError("a process was killed, most likely for want of memory; give fewer --processes") from None
    finally:
        with warnings.catch_warnings():  # joblib warns of the cases that are cancelled, and that is meant
            warnings.simplefilter("ignore")
            results.close()


def _size(file: Path) -> int:
    """Bytes of a file and of those that hold its voxels."""
    try:
        return stamp(file).size
    except OSError:  # refused by name when its turn comes
        return 0


def _series_size(case: Case) -> int:
    """Bytes of a DICOM series."""
    parts = [case.image / part for part in case.parts]
    return sum(_size(part) for part in parts) if parts else _size(case.image)


def _uncompressed(file: Path, size: int) -> int:
    """Bytes of a file's content; gzip says so at its end, modulo 4 GB."""
    if file.suffix.lower() in PACKED:
        return PACKING * size
    if file.suffix.lower() != ".gz" or size < 4:
        return size
    try:
        with file.open("rb") as opened:
            opened.seek(-4, os.SEEK_END)
            return max(size, int.from_bytes(opened.read(4), "little"))
    except OSError:
        return size
