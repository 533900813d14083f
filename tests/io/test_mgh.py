import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.io import UnusableFile, read_label, read_volume

AFFINE = np.array([[0, 0, -1.25, 60], [1.0, 0, 0, -20], [0, -0.75, 0, 30], [0, 0, 0, 1]])


def written(path: Path, dtype: type = np.int16) -> np.ndarray:
    array: np.ndarray = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(dtype)
    nibabel.MGHImage(array, AFFINE).to_filename(path)
    return array


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_voxels_and_positions_are_those_written(tmp_path: Path, name: str, dtype: type) -> None:
    array = written(tmp_path / name, dtype)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(read_label(tmp_path / name).array, array)


def changed(path: Path, at: int, value: bytes) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[at : at + len(value)] = value
    path.write_bytes(gzip.compress(content))


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (28, b"\0\0", "has no orientation in the patient"),
        (4, b"\0\0\x40\0" * 3, "its header claims 16384 x 16384 x 16384 voxels"),
        (4, b"\0\0\x03\0" * 3, "is truncated: its header claims 768 x 768 x 768 voxels"),
        (4, b"\xff\xff\xff\xff", "holds no voxels"),
        (16, b"\0\0\0\2", "is 4D"),
        (20, b"\0\0\0\5", "its voxels are of type 5"),
        (30, b"\0\0\0\0", "its header has a spacing of 0 x"),
        (30, b"\x7f\xc0\0\0", "its header has a spacing of nan"),
        (42, b"\0\0\0\0\x40\0\0\0\0\0\0\0", r"spacing of 1 x 0\.75 x 1\.25, its affine 2 x 0\.75 x 1\.25; correct"),
    ],
)
def test_a_header_that_claims_too_much_or_too_little_is_refused(
    tmp_path: Path, at: int, value: bytes, reason: str
) -> None:
    written(tmp_path / "a.mgz")
    changed(tmp_path / "a.mgz", at, value)
    with pytest.raises(UnusableFile, match=reason):
        read_volume(tmp_path / "a.mgz")


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.mgh")
    whole = (tmp_path / "a.mgh").read_bytes()
    for size in (4, 283, 284, 400):
        (tmp_path / "a.mgh").write_bytes(whole[:size])
        with pytest.raises(UnusableFile, match="is truncated"):
            read_volume(tmp_path / "a.mgh")
