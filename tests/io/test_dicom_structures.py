import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RTStructureSetStorage

from gvsl.io import UnusableFile, Volume, read_label, read_volume, to_canonical

AFFINE = np.array([[-0.7, 0, 0, 30], [0, -0.8, 0, 20], [0, 0, 2.5, -40], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0])
SHAPE = (24, 20, 9)
HEART = {2: "Heart"}
NAMES = {**HEART, 5: "left lung"}
WriteDicom = Callable[..., list[Path]]
Mask = NDArray[np.bool_]


@pytest.fixture
def image(tmp_path: Path, write_dicom: WriteDicom) -> Volume:
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.float32)
    elements = {"PatientID": "p", "PatientName": "n^", "StudyInstanceUID": "1.2", "FrameOfReferenceUID": "1.2.9"}
    empty = dict.fromkeys(
        ("StudyID", "StudyDate", "StudyTime", "PatientBirthDate", "PatientSex", "AccessionNumber"), ""
    )
    write_dicom(tmp_path / "series", Volume(array, AFFINE), **elements, **empty, SliceThickness=2.5)
    return read_volume(tmp_path / "series")


def heart() -> Mask:
    """Return a cylinder with a hole, on slices 2 to 6."""
    x, y, z = np.indices(SHAPE)
    distance = (x - 12) ** 2 + (y - 9) ** 2
    mask: Mask = (distance <= 50) & (distance > 6) & (z >= 2) & (z <= 6)
    return mask


def write_seg(path: Path, series: Path, masks: list[Mask], labels: list[str]) -> None:
    import highdicom
    from highdicom.sr.coding import CodedConcept

    slices = sorted((pydicom.dcmread(file) for file in series.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    code = CodedConcept("123", "99", "organ")
    segments = [
        highdicom.seg.SegmentDescription(number, label, code, code, "MANUAL") for number, label in enumerate(labels, 1)
    ]
    # (slices, rows, columns, segments), and the test's axes are columns, rows and slices
    pixels = np.stack([mask.transpose(2, 1, 0) for mask in masks], -1).astype(np.uint8)
    uids = (f"1.2.3.{number}" for number in (71, 72))
    made = highdicom.seg.Segmentation(
        slices, pixels, "BINARY", segments, next(uids), 1, next(uids), 1, "maker", "model", "1", "serial"
    )
    made.save_as(path)


def ring(radius: float, z: float) -> NDArray[np.float64]:
    """Return points of a circle about the heart in LPS millimetres."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    voxels = np.stack([12 + radius * np.cos(angle), 9 + radius * np.sin(angle), np.full(200, z)], 1)
    return (voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]) @ LPS


def write_rtstruct(path: Path, contours: dict[str, list[NDArray[np.float64]]]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, UID("1.2.3.4")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    item.SOPClassUID, item.SOPInstanceUID, item.Modality = RTStructureSetStorage, "1.2.3.4", "RTSTRUCT"
    item.SeriesInstanceUID = "1.2.3.5"
    item.StructureSetROISequence, item.ROIContourSequence = [], []
    for number, (name, points) in enumerate(contours.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = number, name, number
        drawn.ContourSequence = []
        for each in points:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(each)
            contour.ContourData = [f"{value:.6g}" for value in each.ravel()]
            drawn.ContourSequence.append(contour)
        item.StructureSetROISequence.append(roi)
        item.ROIContourSequence.append(drawn)
    item.save_as(path, enforce_file_format=True)


def test_segments_are_placed_by_name_on_the_grid_of_the_image(tmp_path: Path, image: Volume) -> None:
    lung, other = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
    lung[2:5, 3:6, 5:8], other[20:22] = True, True
    write_seg(tmp_path / "seg.dcm", tmp_path / "series", [heart(), lung, other], ["heart", "Left  Lung", "spine"])
    label = read_label(tmp_path / "seg.dcm", (), image, NAMES)
    expected = np.where(lung, 5, np.where(heart(), 2, 0))
    np.testing.assert_array_equal(label.array, expected)
    np.testing.assert_allclose(label.affine, image.affine)
    assert label.notes == ("1 structures that labels.json doesn't name are left out: 'spine'",)
    assert to_canonical(label).array.sum() == expected.sum()


def test_segments_are_refused_without_names_or_on_another_grid(
    tmp_path: Path, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seg.dcm"
    write_seg(path, tmp_path / "series", [heart()], ["heart"])
    with pytest.raises(UnusableFile, match=r"""holds the structures 'heart'; .* labels.json .*"1": "heart"}"""):
        read_label(path, (), image)
    with pytest.raises(UnusableFile, match="names none of them"):
        read_label(path, (), image, {1: "kidney"})
    moved = image.affine.copy()
    moved[0, 3] += 0.3
    with pytest.raises(UnusableFile, match="its grid is not that of its image"):
        read_label(path, (), Volume(image.array, moved), HEART)
    with pytest.raises(UnusableFile, match="voxels lie outside its image"):
        read_label(path, (), Volume(image.array[:, :, :5], image.affine), HEART)
    with pytest.raises(UnusableFile, match="an image is needed"):
        read_label(path)
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    with pytest.raises(UnusableFile, match=r'needs highdicom: pip install "gvsl\[dicom\]"'):
        read_label(path, (), image, NAMES)


def test_a_structure_that_is_named_and_missing_is_not_taken_for_background(tmp_path: Path, image: Volume) -> None:
    write_rtstruct(tmp_path / "rs.dcm", {"Heart": [ring(5, 2)], "BODY": [ring(8, 1)]})
    write_seg(tmp_path / "seg.dcm", tmp_path / "series", [heart()], ["heart"])
    for name in ("rs.dcm", "seg.dcm"):
        with pytest.raises(UnusableFile, match=r"lacks the structures 'left lung', which labels\.json names"):
            read_label(tmp_path / name, (), image, NAMES)
    with pytest.raises(UnusableFile, match="gives two values one name"):
        read_label(tmp_path / "rs.dcm", (), image, {**HEART, 3: "heart"})


def test_a_structure_that_is_listed_without_contours_is_told(tmp_path: Path, image: Volume) -> None:
    write_rtstruct(tmp_path / "rs.dcm", {"Heart": [ring(5, 2)], "Left lung": []})
    label = read_label(tmp_path / "rs.dcm", (), image, NAMES)
    assert label.notes == ("'Left lung' is listed without closed contours, and so has no voxels",)
    write_seg(tmp_path / "seg.dcm", tmp_path / "series", [heart(), np.zeros(SHAPE, np.bool_)], ["heart", "left lung"])
    assert read_label(tmp_path / "seg.dcm", (), image, NAMES).notes == ("'left lung' is listed without voxels",)


def test_contours_are_filled_with_their_holes(tmp_path: Path, image: Volume) -> None:
    points = [ring(np.sqrt(50.5), z) for z in range(2, 7)] + [ring(np.sqrt(6.5), z) for z in range(2, 7)]
    write_rtstruct(tmp_path / "rs.dcm", {"BODY": [ring(8, 1)], "HEART": points})
    label = read_label(tmp_path / "rs.dcm", (), image, {0: "background", **HEART, 9: "ignore"})
    np.testing.assert_array_equal(label.array == 2, heart())
    assert set(np.unique(label.array)) == {0, 2}
    assert label.notes == ("1 structures that labels.json doesn't name are left out: 'BODY'",)


def test_structures_that_overlap_or_have_gaps_are_told(tmp_path: Path, image: Volume) -> None:
    rings = {"Heart": [ring(5.2, z) for z in (2, 3, 6)], "Left lung": [ring(3.2, 3)]}
    write_rtstruct(tmp_path / "rs.dcm", rings)
    label = read_label(tmp_path / "rs.dcm", (), image, NAMES)
    inner = np.count_nonzero(label.array == 5)
    assert label.notes == (
        "'Heart' has no contour on 2 slices between its first and last",
        f"{inner} voxels of 'Left lung' (5) lie in other structures too; the higher value is taken",
    )
    x, y = np.indices(SHAPE[:2])
    assert inner == np.count_nonzero((x - 12) ** 2 + (y - 9) ** 2 < 3.2**2)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([ring(5, 2.5)], "between the slices of its image"),
        ([ring(5, 2), ring(5, 40)], "1 of the 2 contours .* lie outside its image"),
        ([ring(5, 2) + np.linspace(0, 9, 200)[:, None]], "not parallel to the slices"),
        ([ring(5, 2)[:, [0, 2, 1]]], "outside|between|parallel"),
    ],
)
def test_contours_that_are_not_on_the_slices_are_refused(
    tmp_path: Path, image: Volume, points: list[NDArray[np.float64]], reason: str
) -> None:
    write_rtstruct(tmp_path / "rs.dcm", {"Heart": points})
    with pytest.raises(UnusableFile, match=reason):
        read_label(tmp_path / "rs.dcm", (), image, HEART)


def test_a_damaged_structure_file_is_read_or_refused(tmp_path: Path, image: Volume) -> None:
    write_rtstruct(tmp_path / "rs.dcm", {"Heart": [ring(5, z) for z in range(3)]})
    write_seg(tmp_path / "seg.dcm", tmp_path / "series", [heart()], ["heart"])
    draw = np.random.default_rng(0)
    for name in ("rs.dcm", "seg.dcm"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(25):
            content = bytearray(whole)
            for at in draw.integers(132, len(content), 3):
                content[at] = draw.integers(256)
            (tmp_path / name).write_bytes(
                content[: draw.integers(200, len(content))] if draw.random() < 0.3 else content
            )
            with suppress(UnusableFile):
                read_label(tmp_path / name, (), image, HEART)
