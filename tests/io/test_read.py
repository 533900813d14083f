import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.io import UnusableFile, Volume, read_label, read_volume

WriteVolume = Callable[[Path, Volume], Path]
SCAN = Volume(np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_formats_are_recognised_by_content_not_by_name(tmp_path: Path, write_volume: WriteVolume, name: str) -> None:
    path = write_volume(tmp_path / name, SCAN)
    for other in ("b.nii.gz", "b.nrrd", "b.mha", "b.dcm", "b"):
        path = path.rename(tmp_path / other)
        np.testing.assert_array_equal(read_volume(path).array, SCAN.array)
        np.testing.assert_array_equal(read_label(path).array, SCAN.array)


def text(path: Path) -> None:
    path.write_text("not an image\n" * 99, encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.touch, "is empty"),
        (text, "is not NIfTI, NRRD, MetaImage, MGH or DICOM"),
        (Path.mkdir, "holds no DICOM file"),
        (os.mkfifo, "is neither a file nor a folder"),
        (lambda path: None, "there is no such file"),
        (lambda path: path.symlink_to("nowhere"), "there is no such file"),
    ],
)
def test_non_volumes_are_refused(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    make(tmp_path / "a.nii")
    with pytest.raises(UnusableFile, match=reason):
        read_volume(tmp_path / "a.nii")


def test_a_constant_volume_is_a_label_map_but_no_image(tmp_path: Path, write_volume: WriteVolume) -> None:
    path = write_volume(tmp_path / "a.mha", Volume(np.zeros((4, 5, 6), np.uint8), np.eye(4)))
    assert not read_label(path).array.any()
    with pytest.raises(UnusableFile, match="every voxel has the same value, 0"):
        read_volume(path)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "web page"),
    ],
)
def test_a_pointer_and_a_web_page_in_a_volumes_place_are_named(tmp_path: Path, head: bytes, reason: str) -> None:
    (tmp_path / "a.nii.gz").write_bytes(head)
    with pytest.raises(UnusableFile, match=reason):
        read_volume(tmp_path / "a.nii.gz")
