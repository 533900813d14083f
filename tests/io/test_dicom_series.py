from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from gvsl.io import UnusableFile, Volume, group_series, read_volume

WriteDicom = Callable[..., list[Path]]

AFFINE = np.diag([0.7, 0.9, 2.5, 1.0])
SCAN = Volume(np.random.default_rng(0).integers(-1000, 1500, (9, 8, 6)).astype(np.int16), AFFINE)
OTHER = Volume(SCAN.array[::-1].copy(), AFFINE)
STRUCTURES, REPORT, SEGMENTATION = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("481.3", "88.11", "66.4"))
DIRECTORY = "1.2.840.10008.1.3.10"


def write_object(path: Path, kind: str, **elements: object) -> Path:
    """Write a DICOM object of an SOP class, without voxels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(kind), pydicom.uid.UID("1.2.9")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    for name, value in elements.items():
        setattr(item, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    item.save_as(path, enforce_file_format=True)
    return path


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (STRUCTURES, "holds no voxels: it is RT Structure Set"),
        (REPORT, "holds no voxels: it is Basic Text SR"),
        (SEGMENTATION, "is no image but a Segmentation"),
        (DIRECTORY, "is a DICOMDIR, a table of contents without voxels"),
    ],
)
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.77"])
def test_objects_that_are_no_images_are_left_out(
    tmp_path: Path, write_dicom: WriteDicom, kind: str, reason: str, uid: str
) -> None:
    slices = write_dicom(tmp_path, SCAN)
    odd = write_object(tmp_path / "IM9999", kind, SOPClassUID=kind, SeriesInstanceUID=uid)
    [series], left_out = group_series(files_of(tmp_path))
    assert sorted(series.files) == sorted(slices)
    assert left_out == [(odd, reason)]
    np.testing.assert_array_equal(read_volume(tmp_path).array, read_volume(tmp_path, [p.name for p in slices]).array)


def test_an_object_without_voxels_is_still_refused_alone(tmp_path: Path) -> None:
    write_object(tmp_path / "RS.dcm", STRUCTURES, SOPClassUID=STRUCTURES, Modality="RTSTRUCT", SeriesInstanceUID="1.2")
    with pytest.raises(UnusableFile, match="holds no pixel data: it is RTSTRUCT"):
        read_volume(tmp_path)


def test_a_slice_that_lost_its_voxels_is_not_dropped(tmp_path: Path, write_dicom: WriteDicom) -> None:
    slices = write_dicom(tmp_path, SCAN)
    item = pydicom.dcmread(slices[0])
    del item.Rows, item.Columns, item.PixelData
    item.save_as(slices[0])
    [series], left_out = group_series(files_of(tmp_path))
    assert len(series.files) == len(slices) and not left_out


def test_copies_in_a_folder_are_dropped(tmp_path: Path, write_dicom: WriteDicom) -> None:
    slices = sorted(write_dicom(tmp_path, SCAN))
    copy(slices[2], tmp_path / "z.dcm")
    [series], left_out = group_series(files_of(tmp_path))
    assert sorted(series.files) == slices
    assert left_out == [(tmp_path / "z.dcm", f"is a copy of {slices[2].name}: the same instance at the same position")]


def test_equal_instance_uids_make_no_copies(tmp_path: Path, write_dicom: WriteDicom) -> None:
    slices = write_dicom(tmp_path, SCAN, SOPInstanceUID="1.2.3")  # an anonymiser's only UID
    [series], left_out = group_series(files_of(tmp_path))
    assert len(series.files) == len(slices) and not left_out


def test_equal_uids_keep_folders_patients_and_studies_apart(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom(tmp_path / "a", SCAN, PatientID="T1")
    write_dicom(tmp_path / "b", OTHER, PatientID="T1")  # another person, although every UID is equal
    series, left_out = group_series(files_of(tmp_path))
    assert [(found.files[0].parent.name, len(found.files), found.patient) for found in series] == [
        ("a", 6, ""),
        ("b", 6, ""),
    ]
    assert not left_out
    for path in write_dicom(tmp_path / "c", SCAN, uid="1.2.8", PatientID="P1"):
        path.rename(path.with_name(f"one{path.name}"))
    write_dicom(tmp_path / "c", OTHER, uid="1.2.8", PatientID="P2")
    series, _ = group_series(files_of(tmp_path / "c"))
    assert sorted((found.patient, len(found.files)) for found in series) == [("P1", 6), ("P2", 6)]


def test_one_series_may_lie_in_several_folders(tmp_path: Path, write_dicom: WriteDicom) -> None:
    slices = write_dicom(tmp_path / "a", SCAN, PatientID="P")
    (tmp_path / "b").mkdir()
    slices[0].rename(tmp_path / "b" / "first.dcm")
    pydicom.dcmread(slices[1]).save_as(slices[1])
    [series], left_out = group_series(files_of(tmp_path))
    assert (len(series.files), series.patient) == (6, "P")
    assert not left_out


def test_a_copied_folder_is_a_series_of_its_own_and_part_of_it_is_left_out(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    slices = write_dicom(tmp_path / "a", SCAN, PatientID="P")
    copytree(tmp_path / "a", tmp_path / "a copy")
    (tmp_path / "part").mkdir()
    for path in slices[:2]:
        copy(path, tmp_path / "part")
    series, left_out = group_series(files_of(tmp_path))
    assert [(found.files[0].parent.name, found.patient) for found in series] == [("a", "P"), ("a copy", "P")]
    assert left_out == [(tmp_path / "part", "is a copy of 2 DICOM files of a")]


@pytest.mark.parametrize("name", ["", "ANONYMOUS", "Unknown", "0"])
def test_placeholders_are_no_patients(tmp_path: Path, write_dicom: WriteDicom, name: str) -> None:
    write_dicom(tmp_path, SCAN, PatientID=name)
    assert group_series(files_of(tmp_path))[0][0].patient == ""
