import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.io import UnusableFile, Volume, find_series, read_volume, to_canonical

WriteDicom = Callable[..., list[Path]]

AFFINE = np.array([[0.7, 0, 0, -40], [0, 0.9, 0, 15], [0, 0, 2.5, 100], [0, 0, 0, 1]])
SCAN = Volume(np.random.default_rng(0).integers(-1000, 1500, (9, 8, 10)).astype(np.int16), AFFINE)


@pytest.mark.slow
def test_mutated_slices_without_preamble_are_refused_or_read(tmp_path: Path, write_dicom: WriteDicom) -> None:
    paths = write_dicom(tmp_path, SCAN)
    content = paths[5].read_bytes()[132:]
    read = 0
    for number in range(60):
        draw = random.Random(number)
        changed = bytearray(content[: draw.randrange(200, len(content))] if number % 3 == 0 else content)
        for _ in range(number % 3 + 1):
            changed[draw.randrange(8, len(changed))] = draw.randrange(256)
        paths[5].write_bytes(changed)
        find_series(paths)
        try:
            read += read_volume(tmp_path).array.shape == SCAN.array.shape
        except UnusableFile:
            continue
    assert 5 < read < 55


def test_series_are_grouped_by_uid(tmp_path: Path, write_dicom: WriteDicom) -> None:
    one = write_dicom(tmp_path, SCAN, uid="1.2.3")
    two = write_dicom(tmp_path, SCAN, uid="1.2.4")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    (tmp_path / "DICOMDIR").write_bytes(one[0].read_bytes())
    (tmp_path / "text").write_text("no", encoding="utf-8")
    (tmp_path / "nameless").mkdir()
    nameless = write_dicom(tmp_path / "nameless", SCAN, SeriesInstanceUID="")
    found = find_series(sorted(path for path in tmp_path.rglob("*") if path.is_file()))
    assert {uid: sorted(paths) for uid, paths in found.items()} == {
        "1.2.3": sorted(one),
        "1.2.4": sorted(two),
        str(tmp_path / "broken.dcm"): [tmp_path / "broken.dcm"],
        str(tmp_path / "nameless"): sorted(nameless),
    }
    part = read_volume(tmp_path, [path.name for path in one])
    np.testing.assert_array_equal(to_canonical(part).array, SCAN.array)
