import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.io import Volume
from gvsl.preparation import workers
from gvsl.preparation.workers import FEW_BYTES, MEMORY_BASE, MEMORY_PER_BYTE, are_few, default_processes

SHAPE = (64, 64, 40)
BYTES = 2 * 64 * 64 * 40


@pytest.fixture
def cases(tmp_path: Path, write_volume: Callable[[Path, Volume], Path]) -> dict[str, Case]:
    """A 16-bit volume in every format."""
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    volume = Volume(array, np.eye(4))
    names = ("plain.nii", "packed.nii.gz", "pair.hdr", "series")
    return {name: Case(name, write_volume(tmp_path / name, volume)) for name in names}


@pytest.mark.parametrize("name", ["plain.nii", "packed.nii.gz", "pair.hdr", "series"])
def test_processes_are_limited_by_the_memory_for_the_largest_volume(
    name: str, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cpu_count", lambda: 64)
    for processes in (1, 3, 20):
        # Headers and the elements of 40 slices are added to the voxels.
        free = int(processes * (MEMORY_BASE + MEMORY_PER_BYTE * (BYTES + 60_000)) * 1.001)
        monkeypatch.setattr(workers, "available_memory", lambda free=free: free)
        assert default_processes([cases[name]]) == processes


def test_only_the_files_of_a_series_count(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cpu_count", lambda: 64)
    monkeypatch.setattr(workers, "MEMORY_BASE", 0)
    monkeypatch.setattr(workers, "available_memory", lambda: 8 * MEMORY_PER_BYTE * BYTES)
    whole = cases["series"]
    slices = tuple(sorted(path.name for path in whole.image.iterdir()))[:10]
    assert default_processes([Case("part", whole.image, parts=slices)]) > default_processes([whole])


def test_there_is_at_most_one_process_per_core_and_at_least_one(
    tmp_path: Path, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cpu_count", lambda: 4)
    monkeypatch.setattr(workers, "available_memory", lambda: 2**50)
    assert default_processes(list(cases.values())) == 4
    assert default_processes([]) == 4
    assert default_processes([Case("gone", tmp_path / "gone.nii")]) == 4
    monkeypatch.setattr(workers, "available_memory", lambda: 1)
    assert default_processes(list(cases.values())) == 1
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(b"")[:3])
    assert default_processes([Case("short", tmp_path / "short.nii.gz")]) == 1


def test_few_bytes_are_prepared_by_one_process(tmp_path: Path) -> None:
    half, series = tmp_path / "half.nii", tmp_path / "series"
    series.mkdir()
    for file in (half, series / "1.dcm", series / "2.dcm"):
        with file.open("wb") as opened:
            opened.truncate(FEW_BYTES // 2)
    gone = Case("gone", tmp_path / "gone.nii")
    one, two = Case("one", series, parts=("1.dcm",)), Case("two", series, parts=("1.dcm", "2.dcm"))
    assert are_few([]) and are_few([gone, Case("half", half), one]) and are_few([two])
    assert not are_few([two, Case("half", half)])
