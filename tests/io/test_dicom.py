import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless

from gvsl.io import UnusableFile, Volume, find_series, read_label, read_volume, to_canonical

WriteDicom = Callable[..., list[Path]]

AFFINE = np.array([[0.7, 0, 0, -40], [0, 0.9, 0, 15], [0, 0, 2.5, 100], [0, 0, 0, 1]])
SCAN = Volume(np.random.default_rng(0).integers(-1000, 1500, (9, 8, 10)).astype(np.int16), AFFINE)


def upright(folder: Path) -> Volume:
    return to_canonical(read_volume(folder))


def change(path: Path, **elements: Any) -> None:
    """Set elements of a file; None removes one."""
    item = pydicom.dcmread(path)
    for name, value in elements.items():
        if value is None:
            delattr(item, name)
        else:
            setattr(item, name, value)
    item.save_as(path)


def test_a_series_is_a_volume_in_hu(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom(tmp_path, SCAN, slope=0.5, intercept=-1100)
    (tmp_path / "notes.txt").write_text("not DICOM", encoding="utf-8")
    (tmp_path / "DICOMDIR").write_bytes(next(tmp_path.glob("*.dcm")).read_bytes())
    found = upright(tmp_path)
    np.testing.assert_array_equal(found.array, SCAN.array)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-9)
    np.testing.assert_array_equal(to_canonical(read_label(tmp_path)).array, SCAN.array)


def test_geometry_matches_gdcm(tmp_path: Path, write_dicom: WriteDicom) -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    write_dicom(tmp_path, Volume(SCAN.array, turn @ AFFINE))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    found = read_volume(tmp_path)
    for index in ((0, 0, 0), (8, 7, 9), (2, 5, 3)):
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        nearest = np.rint(np.linalg.inv(found.affine) @ [*place, 1])[:3].astype(int)
        assert found.array[tuple(nearest)] == image[index]
        np.testing.assert_allclose((found.affine @ [*nearest, 1])[:3], place, atol=1e-3)


def test_slope_and_intercept_are_applied_per_slice(tmp_path: Path, write_dicom: WriteDicom) -> None:
    paths = write_dicom(tmp_path, SCAN)
    change(paths[3], RescaleSlope=3, RescaleIntercept=7)
    change(paths[4], RescaleSlope=None, RescaleIntercept=None)
    expected = SCAN.array.astype(np.float32)
    expected[:, :, 3] = 3 * (expected[:, :, 3] + 1024) + 7
    expected[:, :, 4] += 1024
    np.testing.assert_allclose(upright(tmp_path).array, expected)


def stored_as(path: Path, how: str) -> None:
    """Re-encode the values of a slice."""
    item = pydicom.dcmread(path)
    values = np.frombuffer(item.PixelData, "<u2").astype(np.int32)
    if how == "signed":
        item.PixelRepresentation, item.RescaleIntercept = 1, 0
        item.PixelData = (values - 1024).astype("<i2").tobytes()
    elif how == "twelve bits":
        item.BitsStored, item.HighBit = 12, 11
        item.PixelData = (values | 0xA000).astype("<u2").tobytes()  # the spare bits hold an overlay
    elif how == "twelve signed bits":
        item.PixelRepresentation, item.RescaleIntercept, item.BitsStored, item.HighBit = 1, 0, 12, 11
        item.PixelData = ((values - 1024) & 0x0FFF).astype("<u2").tobytes()
    elif how == "32 bits":
        item.BitsAllocated, item.BitsStored, item.HighBit = 32, 32, 31
        item.PixelData = values.astype("<u4").tobytes()
    elif how == "implicit":
        item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        item.save_as(path, implicit_vr=True, little_endian=True)
        return
    elif how == "big-endian":
        item.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        item.PixelData = values.astype(">u2").tobytes()
        pydicom.dcmwrite(path, item, implicit_vr=False, little_endian=False, force_encoding=True)
        return
    item.save_as(path)


@pytest.mark.parametrize("how", ["signed", "twelve bits", "twelve signed bits", "32 bits", "implicit", "big-endian"])
def test_all_pixel_encodings_give_the_same_values(tmp_path: Path, write_dicom: WriteDicom, how: str) -> None:
    for path in write_dicom(tmp_path, SCAN):
        stored_as(path, how)
    np.testing.assert_array_equal(upright(tmp_path).array, SCAN.array)


@pytest.mark.parametrize("how", ["explicit", "implicit", "without a head", "implicit without a head"])
def test_slices_without_preamble_are_read(tmp_path: Path, write_dicom: WriteDicom, how: str) -> None:
    for path in write_dicom(tmp_path, SCAN, slope=0.5):
        if how.startswith("implicit"):
            stored_as(path, "implicit")
        content = path.read_bytes()[132:]
        if how.endswith("head"):
            (length,) = struct.unpack("<I", content[8:12])  # of the rest of the meta information
            content = content[12 + length :]
        path.with_suffix("").write_bytes(content)
        path.unlink()
    assert [len(paths) for paths in find_series(sorted(tmp_path.iterdir())).values()] == [10]
    np.testing.assert_array_equal(upright(tmp_path).array, SCAN.array)


def test_compressed_slices_are_read(tmp_path: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetUseCompression(True)
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    for path in write_dicom(tmp_path, SCAN):
        change(path, RescaleSlope=1, RescaleIntercept=0)  # else the writer rescales
        writer.SetFileName(str(path))
        writer.Execute(sitk.ReadImage(str(path)))
        change(path, RescaleSlope=1, RescaleIntercept=-1024)
    header = pydicom.dcmread(path)
    assert header.file_meta.TransferSyntaxUID.is_encapsulated
    np.testing.assert_array_equal(upright(tmp_path).array, SCAN.array)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "SimpleITK", None)
        with pytest.raises(UnusableFile, match=r'is compressed, .* pip install "gvsl\[dicom\]"$'):
            read_volume(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-200])
    with pytest.raises(UnusableFile, match="holds no pixel data in "):
        read_volume(tmp_path)
    start = content.index(b"\xff\x4f\xff\x51")  # of the JPEG 2000 stream
    path.write_bytes(content[:start] + bytes(20) + content[start + 20 :])
    with pytest.raises(UnusableFile, match="can't be decompressed"):
        read_volume(tmp_path)
    path.write_bytes(content)
    for each in tmp_path.iterdir():
        content = each.read_bytes()
        at = content.index(b"\x28\x00\x10\x00US") + 8  # the value of Rows
        each.write_bytes(content[:at] + struct.pack("<H", header.Rows + 1) + content[at + 2 :])
    with pytest.raises(UnusableFile, match=r"decompresses to 1 x 8 x 9 values|can't be decompressed"):
        read_volume(tmp_path)


@pytest.mark.parametrize("intercept", [0, -1024])
def test_compressed_slices_that_have_wrapped_around_are_refused(
    tmp_path: Path, write_dicom: WriteDicom, intercept: int
) -> None:
    scan = Volume(SCAN.array.astype(np.int32) % 65536, AFFINE)
    for path in write_dicom(tmp_path, scan, intercept=0):
        item = pydicom.dcmread(path)
        item.BitsStored, item.HighBit, item.RescaleIntercept = 16, 15, intercept
        item.compress(JPEGLSLossless)
        item.save_as(path)
    with pytest.raises(UnusableFile, match="negative numbers stored as unsigned ones"):
        read_volume(tmp_path)


def test_positions_may_be_rounded(tmp_path: Path, write_dicom: WriteDicom) -> None:
    affine = AFFINE.copy()
    affine[2, 2] = 0.625
    paths = write_dicom(tmp_path, Volume(SCAN.array, affine))
    for index, path in enumerate(paths):
        change(path, ImagePositionPatient=[40, -15, round(100.01 + 0.625 * index, 1)])
    np.testing.assert_allclose(upright(tmp_path).spacing, (0.7, 0.9, 0.625), atol=0.01)


def scout(paths: list[Path]) -> None:
    change(paths[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def alone(paths: list[Path]) -> None:
    for path in paths[1:]:
        path.unlink()


def frames(paths: list[Path]) -> None:
    alone(paths)
    change(paths[0], NumberOfFrames=40)


def gap(paths: list[Path]) -> None:
    paths[4].unlink()


def hole(paths: list[Path]) -> None:
    paths[4].unlink()
    paths[5].unlink()


def gaps(paths: list[Path]) -> None:
    paths[2].unlink()
    paths[5].unlink()
    paths[6].unlink()


def uneven(paths: list[Path]) -> None:
    change(paths[-1], ImagePositionPatient=[40, -15, 123.6])


def tilted(paths: list[Path]) -> None:
    for index, path in enumerate(paths):
        change(path, ImagePositionPatient=[40, -15 + 2.5 * index * np.tan(np.deg2rad(12)), 100 + 2.5 * index])


def aside(paths: list[Path]) -> None:
    change(paths[5], ImagePositionPatient=[50, -15, 112.5])


def sizes(paths: list[Path]) -> None:
    change(paths[5], Rows=4, Columns=18)


def spacings(paths: list[Path]) -> None:
    change(paths[5], PixelSpacing=[0.9, 0.8])


def turned(paths: list[Path]) -> None:
    change(paths[5], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def doubled(paths: list[Path]) -> None:
    (paths[0].parent / "again.dcm").write_bytes(paths[3].read_bytes())


def without(*names: str, which: int = 5) -> Callable[[list[Path]], None]:
    return lambda paths: change(paths[which], **dict.fromkeys(names))


def having(**elements: Any) -> Callable[[list[Path]], None]:
    def spoil(paths: list[Path]) -> None:
        for path in paths:
            change(path, **elements)

    return spoil


def short(paths: list[Path]) -> None:
    change(paths[5], PixelData=pydicom.dcmread(paths[5]).PixelData[:-2])


def deflated(paths: list[Path]) -> None:
    item = pydicom.dcmread(paths[5])
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    item.save_as(paths[5])


def mixed(paths: list[Path]) -> None:
    change(paths[5], SeriesInstanceUID="1.2.9")


def gone(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


REFUSED: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "localiser": (scout, r"is a localiser, not a volume \(series 4, 'thorax'\)"),
    "single slice": (alone, r"is a single slice \(series 4, 'thorax'\); a volume is needed"),
    "frames": (frames, "is one file of 40 frames"),
    "missing slice": (gap, "1 of its slices is missing, between 107.5 and 112.5 mm"),
    "missing together": (hole, "2 of its slices are missing, between 107.5 and 115.0 mm"),
    "missing slices": (gaps, "3 of its slices are missing, in 2 places"),
    "uneven": (uneven, "its slices are unevenly spaced, from 2.50 to 3.60 mm apart"),
    "gantry tilt": (tilted, r"shifted against each other, by a gantry tilt of 12\.0 degrees"),
    "one aside": (aside, "its slices are not in line: one is 9.0 mm off"),
    "mixed sizes": (sizes, "its slices have different sizes: 9 x 8 and 18 x 4"),
    "mixed spacings": (spacings, "its slices have different pixel spacings"),
    "mixed directions": (turned, "its slices have different orientations"),
    "doubles": (doubled, "1 of its 11 slices have the position of another"),
    "no place": (without("ImagePositionPatient"), "lacks the position, orientation or pixel spacing of its slices"),
    "no spacing": (without("PixelSpacing"), "lacks the position, orientation or pixel spacing of its slices"),
    "no rows": (without("Rows", "Columns", "PixelData"), r"holds no pixel data: it is CT"),
    "no pixel data": (without("PixelData"), r"holds no pixel data in 035-1\.2\.3\.dcm"),
    "report": (having(Modality="SR", Rows=None, Columns=None, PixelData=None), "holds no pixel data: it is SR"),
    "colour": (having(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "holds colour"),
    "inverted": (having(PhotometricInterpretation="MONOCHROME1"), "its values are MONOCHROME1"),
    "short": (short, "holds 142 of 144 bytes of voxels"),
    "deflated": (deflated, "is deflated as a whole"),
    "no series": (having(SeriesInstanceUID=""), r"its 10 files have no SeriesInstanceUID"),
    "two series": (mixed, "holds 2 DICOM series; name the folder of one"),
    "no DICOM": (gone, "holds no DICOM file"),
    "infinite slope": (having(RescaleSlope="1e400"), "RescaleSlope|NaN or infinite|can't be read"),
    "absurd sizes": (having(Rows=60000, Columns=60000), "its header claims 60000 x 60000 x 10 voxels; at most"),
    "large sizes": (having(Rows=9000, Columns=9000), "claims 9000 x 9000 x 10 voxels, more than the file can hold"),
    "odd bits": (having(BitsStored=20), "its values have 20 of 16 bits"),
    "wrapped": (having(RescaleIntercept=0, BitsStored=16), "negative numbers stored as unsigned ones"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_series_are_refused_with_one_line(tmp_path: Path, write_dicom: WriteDicom, case: str) -> None:
    spoil, reason = REFUSED[case]
    scan = Volume(SCAN.array.astype(np.int32) % 65536 if case == "wrapped" else SCAN.array, AFFINE)
    spoil(write_dicom(tmp_path, scan, intercept=0 if case == "wrapped" else -1024))
    with pytest.raises(UnusableFile, match=reason) as caught:
        read_volume(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_single_file_is_a_single_slice(tmp_path: Path, write_dicom: WriteDicom) -> None:
    with pytest.raises(UnusableFile, match="is a single slice"):
        read_volume(write_dicom(tmp_path, SCAN)[0])


def test_library_warnings_are_silenced(
    tmp_path: Path, write_dicom: WriteDicom, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    write_dicom(tmp_path, SCAN, PatientAge="not an age", StudyDate="yesterday")
    recwarn.clear()
    read_volume(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
