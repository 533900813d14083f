"""What a benchmark's folder holds of a matrix, and what it holds of others."""

from pathlib import Path

from gvsl.benchmark.execute import is_finished
from gvsl.benchmark.failures import was_failed
from gvsl.benchmark.matrix import Matrix
from gvsl.benchmark.places import FAILED, RUNS
from gvsl.records import RECORD_NAME


def folders_of(matrix: Matrix, out: Path) -> list[Path]:
    """The folders of the matrix's runs that have a record, finished or failed."""
    found = []
    for run in matrix:
        failed = was_failed(run, out) and not is_finished(run, out)
        folder = out / (FAILED if failed else RUNS) / run.name
        if (folder / RECORD_NAME).is_file():
            found.append(folder)
    return found


def strangers(matrix: Matrix, out: Path) -> list[str]:
    """The names of runs in the folder that are not the matrix's: of other settings, stores, methods or seeds."""
    here = {path.parent.name for name in (RUNS, FAILED) for path in (out / name).glob(f"[!.]*/{RECORD_NAME}")}
    return sorted(here - {run.name for run in matrix})
