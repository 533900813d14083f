from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from gvsl.io import UnusableFile, Volume, read_volume

AFFINE = np.array([[-0.7, 0, 0, 30], [0, -0.8, 0, 20], [0, 0, 2.5, -40], [0, 0, 0, 1]])
WriteDicom = Callable[..., list[Path]]


def group(**sequences: dict[str, Any]) -> Dataset:
    found = Dataset()
    for name, elements in sequences.items():
        item = Dataset()
        for key, value in elements.items():
            setattr(item, key, value)
        setattr(found, name, [item])
    return found


def enhanced(files: list[Path], path: Path, order: list[int], slopes: str = "shared") -> Dataset:
    """Write the slices of a series as frames of one enhanced CT, in any order."""
    slices = [pydicom.dcmread(files[index]) for index in order]
    whole = deepcopy(slices[0])
    first = slices[0]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    values = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    shared: dict[str, dict[str, Any]] = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": first.ImageOrientationPatient},
        "PixelMeasuresSequence": {"PixelSpacing": first.PixelSpacing, "SliceThickness": 1},
    }
    per_frame = [{"PlanePositionSequence": {"ImagePositionPatient": one.ImagePositionPatient}} for one in slices]
    if slopes == "each":
        per_frame = [{**one, "PixelValueTransformationSequence": values} for one in per_frame]
    elif slopes == "whole":  # as of a multi-frame secondary capture
        for name, value in values.items():
            setattr(whole, name, value)
    else:
        shared["PixelValueTransformationSequence"] = values
    whole.SharedFunctionalGroupsSequence = [group(**shared)]
    whole.PerFrameFunctionalGroupsSequence = [group(**one) for one in per_frame]
    whole.NumberOfFrames = len(slices)
    whole.PixelData = b"".join(one.PixelData for one in slices)
    whole.save_as(path, enforce_file_format=True)
    return whole


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).integers(-1000, 1000, (6, 5, 7)).astype(np.float32), AFFINE)


@pytest.mark.parametrize("slopes", ["shared", "each", "whole"])
def test_frames_in_any_order_are_the_volume_of_their_series(
    tmp_path: Path, write_dicom: WriteDicom, volume: Volume, slopes: str
) -> None:
    files = write_dicom(tmp_path / "series", volume)
    enhanced(files, tmp_path / "whole.dcm", [3, 0, 6, 1, 5, 2, 4], slopes)
    found, expected = read_volume(tmp_path / "whole.dcm"), read_volume(tmp_path / "series")
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine)
    np.testing.assert_array_equal(found.array, volume.array)


def repeated(whole: Dataset) -> None:
    groups = whole.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = deepcopy(groups[0].PlanePositionSequence)


def unplaced(whole: Dataset) -> None:
    del whole.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def more_claimed(whole: Dataset) -> None:
    whole.NumberOfFrames = 400


def short(whole: Dataset) -> None:
    whole.PixelData = whole.PixelData[:-10]


def long(whole: Dataset) -> None:
    whole.PixelData += bytes(10)


def segmentation(whole: Dataset) -> None:
    whole.Modality = "SEG"


def mosaic(whole: Dataset) -> None:
    whole.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (repeated, "have the position of another: phases, echoes or duplicates"),
        (unplaced, "lacks the position, orientation or pixel spacing"),
        (more_claimed, "is one file of 400 frames, of which 7 have a position"),
        (short, "is truncated"),
        (long, "holds 430 bytes of voxels where its header claims 420"),
        (segmentation, "is a segmentation"),
        (mosaic, "is a mosaic, .* dcm2niix"),
    ],
)
def test_frames_that_are_no_volume_are_refused(
    tmp_path: Path, write_dicom: WriteDicom, volume: Volume, change: Callable[[Dataset], None], reason: str
) -> None:
    whole = enhanced(write_dicom(tmp_path / "series", volume), tmp_path / "whole.dcm", list(range(7)))
    change(whole)
    whole.save_as(tmp_path / "whole.dcm")
    with pytest.raises(UnusableFile, match=reason):
        read_volume(tmp_path / "whole.dcm")


def test_two_multi_frame_files_of_a_series_are_refused(tmp_path: Path, write_dicom: WriteDicom, volume: Volume) -> None:
    files = write_dicom(tmp_path / "series", volume)
    for name in ("a", "b"):
        (tmp_path / "both").mkdir(exist_ok=True)
        enhanced(files, tmp_path / "both" / f"{name}.dcm", list(range(7)))
    with pytest.raises(UnusableFile, match="holds 2 files of several frames each"):
        read_volume(tmp_path / "both")
