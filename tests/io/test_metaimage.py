import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from gvsl.io import UnusableFile, read_volume

VOXELS = np.arange(6 * 7 * 8, dtype=np.int16).reshape((6, 7, 8), order="F")
DATA = VOXELS.tobytes(order="F")
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 0.6 0.8 0 -0.8 0.6",
    "Offset": "10 20 30",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "0.5 1.5 2",
    "DimSize": "6 7 8",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def save(path: Path, data: bytes = DATA, /, drop: str = "", **fields: str) -> Path:
    """Write a MetaImage with changed header fields; ElementDataFile stays the last."""
    header = {**HEADER, **fields}
    header["ElementDataFile"] = header.pop("ElementDataFile")
    header.pop(drop, None)
    path.write_bytes("".join(f"{name} = {value}\n" for name, value in header.items()).encode() + data)
    return path


def test_geometry_matches_itk(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.mha"))
    image = sitk.ReadImage(str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(volume.array, VOXELS)
    for index in ((0, 0, 0), (5, 2, 3)):
        place = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], place * (-1, -1, 1))


@pytest.mark.parametrize("word", ["Local", "local"])
def test_voxels_in_the_same_file_are_told_in_each_of_itk_s_spellings(tmp_path: Path, word: str) -> None:
    path = save(tmp_path / "a.mha", ElementDataFile=word)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
    np.testing.assert_array_equal(read_volume(path).array, found)


def test_default_matrix_is_the_identity(tmp_path: Path) -> None:
    affine = read_volume(save(tmp_path / "a.mha", drop="TransformMatrix")).affine
    np.testing.assert_allclose(affine, np.array([[-0.5, 0, 0, -10], [0, -1.5, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]))


def test_compressed_detached_and_big_endian_files_are_read(tmp_path: Path) -> None:
    packed = zlib.compress(VOXELS.astype(">i2").tobytes(order="F"))
    fields = {"CompressedData": "True", "CompressedDataSize": str(len(packed)), "BinaryDataByteOrderMSB": "True"}
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.mha", packed, **fields)).array, VOXELS)
    (tmp_path / "a.zraw").write_bytes(packed)
    path = save(tmp_path / "a.mhd", b"", ElementDataFile="a.zraw", **fields)
    np.testing.assert_array_equal(read_volume(path).array, VOXELS)
    (tmp_path / "a.raw").write_bytes(b"head" + DATA)
    for size in ("4", "-1"):
        path = save(tmp_path / "a.mhd", b"", ElementDataFile="a.raw", HeaderSize=size)
        np.testing.assert_array_equal(read_volume(path).array, VOXELS)


def test_4d_with_a_single_frame_is_a_volume(tmp_path: Path) -> None:
    matrix = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
    fields = {"NDims": "4", "DimSize": "6 7 8 1", "TransformMatrix": matrix, "Offset": "10 20 30 0"}
    volume = read_volume(save(tmp_path / "a.mha", ElementSpacing="0.5 1.5 2 1", CenterOfRotation="0 0 0 0", **fields))
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_allclose(volume.affine[:3, 3], (-10, -20, 30))


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no sizes": ({"drop": "DimSize"}, "NDims 3 and DimSize None"),
    "dimensions": ({"NDims": "4"}, "NDims 4 and DimSize 6 7 8"),
    "2D": ({"NDims": "2", "DimSize": "6 56"}, "is 2D"),
    "absurd": ({"DimSize": "100000 100000 100000"}, "claims 100000 x 100000 x 100000 voxels; at most"),
    "too large": ({"DimSize": "6 7 800"}, "more than the file can hold"),
    "many axes": ({"NDims": "100000", "DimSize": "1 " * 100000}, "claims 100000 axes"),
    "no spacing": ({"drop": "ElementSpacing"}, "has no ElementSpacing"),
    "spacing 0": ({"ElementSpacing": "1 0 1"}, "a spacing of 1 0 1"),
    "matrix": ({"TransformMatrix": "1 0 0 0 1 0"}, "where 9 numbers belong"),
    "scaled matrix": ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "not of length 1"),
    "no place": ({"Offset": "nan 0 0"}, "where 3 numbers belong"),
    "colour": ({"ElementNumberOfChannels": "3"}, "colour or vector"),
    "long": ({"ElementType": "MET_LONG"}, "of type 'MET_LONG'"),
    "text": ({"BinaryData": "False"}, "voxels as text"),
    "maybe": ({"CompressedData": "Perhaps"}, "neither True nor False"),
    "slope": ({"ElementToIntensityFunctionSlope": "2"}, "which not all readers apply"),
    "skip": ({"HeaderSize": "7"}, "HeaderSize 7"),
    "list": ({"ElementDataFile": "LIST"}, "in several files"),
    "pattern": ({"ElementDataFile": "a%03d.raw 1 8 1"}, "in several files"),
    "absolute": ({"ElementDataFile": "/etc/passwd"}, "names the data file '/etc/passwd'"),
    "above": ({"ElementDataFile": "../secret.raw"}, "names the data file '../secret.raw'"),
    "link": ({"ElementDataFile": "link.raw"}, "names the data file 'link.raw'"),
    "loop": ({"ElementDataFile": "loop.raw"}, "'loop.raw' does not exist"),
    "missing": ({"ElementDataFile": "gone.raw"}, "'gone.raw' does not exist"),
    "no data": ({"drop": "ElementDataFile"}, "ends before ElementDataFile|which is no field"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_files_are_refused_with_one_line(tmp_path: Path, case: str) -> None:
    fields, reason = REFUSED[case]
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(DATA)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    (folder / "loop.raw").symlink_to("loop.raw")
    with pytest.raises(UnusableFile, match=reason) as caught:
        read_volume(save(folder / "a.mha", **fields))
    assert "\n" not in str(caught.value)


def test_truncated_and_overlong_data_is_refused(tmp_path: Path) -> None:
    packed = zlib.compress(DATA)
    with pytest.raises(UnusableFile, match="more than the file can hold"):
        read_volume(save(tmp_path / "a.mha", DATA[:-1]))
    with pytest.raises(UnusableFile, match="compressed data ends early"):
        read_volume(save(tmp_path / "a.mha", packed[:-3], CompressedData="True"))
    with pytest.raises(UnusableFile, match="it holds 100 of 672 bytes"):
        read_volume(save(tmp_path / "a.mha", zlib.compress(DATA[:100]), CompressedData="True"))
    with pytest.raises(UnusableFile, match="goes on for more than"):
        read_volume(save(tmp_path / "a.mha", zlib.compress(DATA + bytes(3 * 2**20)), CompressedData="True"))
    with pytest.raises(UnusableFile, match="compressed data is damaged"):
        read_volume(save(tmp_path / "a.mha", packed[:50] + b"\xff" * 9 + packed[59:], CompressedData="True"))
    np.testing.assert_array_equal(read_volume(save(tmp_path / "a.mha", packed, CompressedData="True")).array, VOXELS)


def test_negative_numbers_stored_as_unsigned_are_refused(tmp_path: Path) -> None:
    values = (VOXELS - 100).astype(np.uint16)
    with pytest.raises(UnusableFile, match="negative numbers stored as unsigned ones"):
        read_volume(save(tmp_path / "a.mha", values.tobytes(order="F"), ElementType="MET_USHORT"))
