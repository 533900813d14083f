import gzip
import random
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gvsl.io import UnusableFile, Volume, write_nifti, write_nifti_like
from gvsl.io.header_checks import image_volume, label_volume
from gvsl.io.nifti import load_nifti

AFFINE = np.array([[-1.0, 0, 0, 12], [0, 1.5, 0, -7], [0, 0, 2, 3], [0, 0, 0, 1]])
DIM_OFFSET = 40
"""Offset of the field `dim` in a NIfTI-1 header: eight int16."""


def read_nifti(path: Path) -> Volume:
    """Read an image as NIfTI without recognising its format."""
    return image_volume(*load_nifti(path, np.float32))


def read_nifti_label(path: Path) -> Volume:
    return label_volume(*load_nifti(path, None))


def voxels(shape: tuple[int, ...] = (6, 7, 8), dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_round_trip(tmp_path: Path, name: str, dtype: type) -> None:
    array = voxels(dtype=dtype)
    write_nifti(tmp_path / name, Volume(array, AFFINE))
    volume = read_nifti(tmp_path / name)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, AFFINE)
    np.testing.assert_allclose(volume.spacing, (1, 1.5, 2))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="dtype"):
        write_nifti(tmp_path / "a.nii.gz", Volume(np.zeros((2, 2, 2), dtype=object), AFFINE))
    assert not list(tmp_path.iterdir())


def test_nifti_2_and_rescaling_are_read(tmp_path: Path) -> None:
    image = nibabel.Nifti2Image(voxels(), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").array, 0.5 * voxels() - 3)


def test_4d_with_a_single_frame_is_a_volume(tmp_path: Path) -> None:
    assert read_nifti(save(tmp_path / "a.nii", voxels((6, 7, 8, 1)))).array.shape == (6, 7, 8)


def test_formats_are_recognised_by_content_not_by_name(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", voxels())
    plain.rename(tmp_path / "plain.nii.gz")
    save(tmp_path / "b.nii.gz", voxels()).rename(tmp_path / "zipped.nii")
    for name in ("plain.nii.gz", "zipped.nii"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).array, voxels())


def test_units_become_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(voxels(), np.diag([250.0, 250, 250, 1]))
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").spacing, 0.25)


def truncated_gzip(path: Path) -> None:
    save(path, voxels((30, 30, 30)))
    path.write_bytes(path.read_bytes()[:-2000])


def truncated_plain(path: Path) -> None:
    plain = save(path.with_suffix(""), voxels())
    path.write_bytes(plain.read_bytes()[:-10])


def truncated_inside(path: Path) -> None:
    path.write_bytes(gzip.compress(save(path.with_suffix(""), voxels()).read_bytes()[:-10]))


def bit_flipped(path: Path) -> None:
    content = bytearray(gzip.compress(save(path.with_suffix(""), voxels()).read_bytes(), 0))
    content[len(content) // 2] ^= 1  # stored, not deflated: only the checksum reveals it
    path.write_bytes(content)


def with_shape(*sizes: int) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        content = bytearray(save(path.with_suffix(""), voxels()).read_bytes())
        content[DIM_OFFSET : DIM_OFFSET + 16] = struct.pack("<8h", len(sizes), *sizes, *[1] * (7 - len(sizes)))
        path.write_bytes(gzip.compress(content))

    return build


def with_affine(affine: list[list[float]]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        image = nibabel.Nifti1Image(voxels(), np.eye(4))
        image.header.set_sform(np.array(affine, dtype=float), code=1)
        nibabel.Nifti1Image(voxels(), None, image.header).to_filename(path)

    return build


def with_voxels(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: (save(path, array), None)[1]


def holding(value: float) -> np.ndarray:
    array = voxels(dtype=np.float32)
    array[1, 2, 3] = value
    return array


REFUSED = {
    "truncated gzip": (truncated_gzip, "is truncated: its compressed data ends early"),
    "truncated plain": (truncated_plain, "is truncated: its header claims 6 x 7 x 8 voxels"),
    "flipped bit": (bit_flipped, "its compressed data is damaged"),
    "truncated inside": (truncated_inside, "is truncated: it holds 662 of 672 bytes of voxels"),
    "no bytes": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("not an image\n" * 99, encoding="utf-8"), "is not a NIfTI file"),
    "gzipped text": (lambda path: path.write_bytes(gzip.compress(b"no image" * 99)), "is not a NIfTI file"),
    "missing": (lambda path: None, "there is no such file"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "2D": (with_voxels(voxels((6, 7))), r"is 2D \(6 x 7\)"),
    "one slice": (with_voxels(voxels((6, 7, 1))), r"is 2D \(6 x 7 x 1\)"),
    "4D": (with_voxels(voxels((6, 7, 8, 3))), r"is 4D \(6 x 7 x 8 x 3\)"),
    "NaN": (with_voxels(holding(np.nan)), "1 of its 336 voxels are NaN or infinite"),
    "infinite": (with_voxels(holding(np.inf)), "1 of its 336 voxels are NaN or infinite"),
    "too large for float32": (with_voxels(voxels(dtype=np.float64) * 1e300), "NaN or infinite"),
    "constant": (with_voxels(np.full((6, 7, 8), 5, np.int16)), "every voxel has the same value, 5"),
    "absurd shape": (with_shape(32000, 32000, 32000), "header claims 32000 x 32000 x 32000 voxels; at most"),
    "more than it holds": (with_shape(1000, 1000, 1000), "claims 1000 x 1000 x 1000 voxels, more than the file"),
    "negative shape": (with_shape(6, -7, 8), "holds no voxels: its header has 6 x -7 x 8"),
    "no axis": (with_affine([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]), "an axis has no length"),
    "one plane": (with_affine([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "two axes point the same"),
    "no place": (with_affine([[np.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "affine holds NaN"),
    "sheared": (with_affine([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "its axes are sheared"),
    "complex": (with_voxels(voxels(dtype=np.complex64)), "colour or complex"),
    "colour": (with_voxels(np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "colour or complex"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_files_are_refused_with_one_line(tmp_path: Path, case: str) -> None:
    build, reason = REFUSED[case]
    build(tmp_path / "a.nii.gz")
    with pytest.raises(UnusableFile, match=reason) as caught:
        read_nifti(tmp_path / "a.nii.gz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pair_is_read(tmp_path: Path, kind: type[nibabel.Nifti1Pair], zipped: bool) -> None:
    kind(voxels(), AFFINE, dtype=np.int16).to_filename(tmp_path / "a.hdr")
    if zipped:
        (tmp_path / "a.img.gz").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
        (tmp_path / "a.img").unlink()
    volume = read_nifti(tmp_path / "a.hdr")
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(voxels(), AFFINE, dtype=np.int16).to_filename(tmp_path / "a.hdr")
    content = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(content[:-1])
    with pytest.raises(UnusableFile, match="its header claims 6 x 7 x 8 voxels, more than the file can hold"):
        read_nifti(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(UnusableFile, match=r"its voxel file a\.img or a\.img\.gz is missing"):
        read_nifti(tmp_path / "a.hdr")


def test_analyze_is_refused(tmp_path: Path) -> None:
    nibabel.AnalyzeImage(voxels(), AFFINE, dtype=np.int16).to_filename(tmp_path / "a.hdr")
    with pytest.raises(UnusableFile, match=r"Analyze 7\.5 file, which doesn't define left and right"):
        read_nifti(tmp_path / "a.hdr")


def with_forms(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, zooms: tuple[float, ...] = ()) -> Path:
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_xyzt_units("mm")
    image.header.set_qform(qform, code=0 if qform is None else 1)
    image.header.set_sform(sform, code=0 if sform is None else 1)
    image.header.set_zooms(zooms or tuple(Volume(voxels(), AFFINE if qform is None else qform).spacing))
    nibabel.Nifti1Image(voxels(), None, image.header).to_filename(path)
    return path


MIRRORED = AFFINE @ np.diag([-1.0, 1, 1, 1])
SMALL_TURN = np.array([[0.995, -0.0998, 0, 5], [0.0998, 0.995, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


def test_the_sform_precedes_a_similar_qform(tmp_path: Path) -> None:
    np.testing.assert_allclose(read_nifti(with_forms(tmp_path / "a.nii", AFFINE, SMALL_TURN)).affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(read_nifti(with_forms(tmp_path / "a.nii", None, AFFINE)).affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(read_nifti(with_forms(tmp_path / "a.nii", MIRRORED, None)).affine, MIRRORED, atol=1e-5)


@pytest.mark.parametrize(
    ("sform", "qform", "zooms", "reason"),
    [
        (AFFINE, MIRRORED, (), "its axes run to LAS by its sform and to RAS by its qform; set the code of the wrong"),
        (None, None, (), "has no orientation in the patient"),
        (AFFINE, None, (1, 1.5, 2.5), "a spacing of 1 x 1.5 x 2.5, its affine 1 x 1.5 x 2; correct the one"),
        (AFFINE @ np.diag([1.1, 1, 1, 1]), AFFINE, (), "a spacing of 1 x 1.5 x 2, its affine 1.1 x 1.5 x 2"),
    ],
)
def test_contradictory_headers_are_refused(
    tmp_path: Path, sform: np.ndarray | None, qform: np.ndarray | None, zooms: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(UnusableFile, match=reason):
        read_nifti(with_forms(tmp_path / "a.nii.gz", sform, qform, zooms))


@pytest.mark.parametrize(("dtype", "slope", "inter"), [(np.uint16, 1, 0), (np.uint32, 1, 0), (np.uint16, -1, 0)])
def test_negative_numbers_stored_as_unsigned_are_refused(tmp_path: Path, dtype: type, slope: int, inter: int) -> None:
    values = voxels().astype(np.int32) - 100
    image = nibabel.Nifti1Image(values.astype(dtype), AFFINE)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(UnusableFile, match="negative numbers stored as unsigned ones; convert it to a signed type"):
        read_nifti(tmp_path / "a.nii")


def test_large_unsigned_values_are_kept(tmp_path: Path) -> None:
    spread: np.ndarray = np.linspace(0, 65535, 336).reshape(6, 7, 8).astype(np.uint16)
    few = voxels(dtype=np.uint16)
    few[0, 0, 0] = 65535
    high = voxels(dtype=np.uint16) + np.uint16(60000)
    for array in (spread, few, high):
        np.testing.assert_array_equal(read_nifti(save(tmp_path / "a.nii", array)).array, array)


def test_overlong_streams_are_refused(tmp_path: Path) -> None:
    content = save(tmp_path / "a.nii", voxels()).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(5000)))
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").array, voxels())
    (tmp_path / "a.nii").write_bytes(content + bytes(5000))
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").array, voxels())
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(3 * 2**20)))
    (tmp_path / "a.nii").write_bytes(content + bytes(3 * 2**20))
    for name in ("a.nii.gz", "a.nii"):
        with pytest.raises(UnusableFile, match="goes on for more than 1,048,576 bytes after its voxels"):
            read_nifti(tmp_path / name)


def test_write_like_a_pair_gives_a_single_file(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(voxels(), AFFINE, dtype=np.int16).to_filename(tmp_path / "a.hdr")
    write_nifti_like(tmp_path / "out.nii.gz", voxels(dtype=np.uint8), tmp_path / "a.hdr")
    volume = read_nifti(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_library_warnings_are_silenced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(save(tmp_path / "a.nii", voxels()).read_bytes())
    content[252:254] = struct.pack("<h", 99)  # qform_code
    (tmp_path / "a.nii").write_bytes(content)
    read_nifti(tmp_path / "a.nii")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 1, 2], np.uint8), ([0, 255], np.uint8), ([0, 500, 850], np.int16), ([-1, 0, 3], np.int16)],
)
@pytest.mark.parametrize("stored", [np.int16, np.int32, np.float32, np.float64])
def test_labels_keep_their_values(tmp_path: Path, values: list[int], dtype: type, stored: type) -> None:
    array = np.random.default_rng(0).choice(values, (6, 7, 8))
    label = read_nifti_label(save(tmp_path / "a.nii.gz", array.astype(stored)))
    assert label.array.dtype == dtype
    np.testing.assert_array_equal(label.array, array)


def test_an_empty_label_map_is_accepted(tmp_path: Path) -> None:
    assert not read_nifti_label(save(tmp_path / "a.nii", np.zeros((6, 7, 8), np.uint8))).array.any()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (voxels(dtype=np.float32) + 0.5, "not all whole numbers"),
        (holding(np.nan), "not all whole numbers"),
        (voxels(dtype=np.int32) + 40000, "must fit 16 bits"),
    ],
)
def test_invalid_label_values_are_refused(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    with pytest.raises(UnusableFile, match=reason):
        read_nifti_label(save(tmp_path / "a.nii", array))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), zipped=st.booleans())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, seed: int, zipped: bool) -> None:
    draw = random.Random(seed)
    content = bytearray(save(tmp_path / "a.nii", voxels()).read_bytes())
    for _ in range(draw.choice([1, 2, 8])):
        content[draw.randrange(352)] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
    if draw.random() < 0.2:
        content = content[: draw.randrange(len(content))]
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content, 1) if zipped else content)
    for read in (read_nifti, read_nifti_label):
        with suppress(UnusableFile):
            volume = read(tmp_path / "b.nii.gz")
            assert volume.array.ndim == 3
            assert np.isfinite(volume.affine).all()


PIXDIM_AT, OFFSET_AT, UNITS_AT, CODE_AT = 76, 108, 123, 252
"""Offsets of pixdim, vox_offset, xyzt_units and qform_code in a NIfTI-1 header."""


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (OFFSET_AT, struct.pack("<f", 0), "places the voxels at byte 0 .* can't begin before 352"),
        (OFFSET_AT, struct.pack("<f", 348), "places the voxels at byte 348 "),
        (OFFSET_AT, struct.pack("<f", 1e9), "places the voxels at byte 1000000000 "),
        (UNITS_AT, b"\5", "unit of length 5 "),
        (CODE_AT, struct.pack("<h", 1), r"has pixdim\[0\] 5"),
    ],
)
def test_header_fields_outside_the_standard_are_refused(tmp_path: Path, at: int, value: bytes, reason: str) -> None:
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, voxels())
        content = bytearray(path.read_bytes() if name == "a.nii" else gzip.decompress(path.read_bytes()))
        content[at : at + len(value)] = value
        content[PIXDIM_AT : PIXDIM_AT + 4] = struct.pack("<f", 5)  # which matters with a qform alone
        path.write_bytes(content if name == "a.nii" else gzip.compress(content))
        with pytest.raises(UnusableFile, match=reason):
            read_nifti(path)


@pytest.mark.parametrize("noise", [5e-5, -9e-4])
def test_labels_next_to_whole_numbers_are_rounded_and_told(tmp_path: Path, noise: float) -> None:
    array = (voxels() % 4).astype(np.float32)
    off = array + np.where(array > 0, noise, 0).astype(np.float32)
    label = read_nifti_label(save(tmp_path / "a.nii", off))
    np.testing.assert_array_equal(label.array, array)
    assert label.array.dtype == np.uint8
    (note,) = label.notes
    assert note.startswith(f"{np.count_nonzero(array)} labels were rounded to whole numbers, such as ")
    assert read_nifti_label(save(tmp_path / "b.nii", array)).notes == ()


def test_labels_further_off_are_refused_with_one_of_them(tmp_path: Path) -> None:
    array = voxels().astype(np.float32)
    array[2, 3, 4] = 1.25
    with pytest.raises(UnusableFile, match=r"1 of 336 are not, such as 1\.25; .* nearest neighbour"):
        read_nifti_label(save(tmp_path / "a.nii", array))


def test_an_extension_is_no_longer_than_the_header(tmp_path: Path) -> None:
    """Its length, -1 once nibabel has taken its own fields off, or 2 GiB, would be read from the voxels."""
    image = nibabel.Nifti1Image(voxels(), AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"a comment"))
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").array, voxels())
    content = (tmp_path / "a.nii").read_bytes()
    for length in (7, 2**31 - 16):
        mutant = content[:352] + struct.pack("<i", length) + content[356:]
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(mutant + bytes(2**27)))
        tracemalloc.start()
        with suppress(UnusableFile):
            read_nifti(tmp_path / "b.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**25, length


def test_each_channel_of_several_is_checked_for_wrapping(tmp_path: Path) -> None:
    wrapped = (voxels().astype(np.int32) - 100).astype(np.uint16)
    plain = np.linspace(0, 40000, wrapped.size).reshape(wrapped.shape).astype(np.uint16)
    save(tmp_path / "a.nii", np.stack([wrapped, plain], -1))
    with pytest.raises(UnusableFile, match="negative numbers stored as unsigned ones"):
        load_nifti(tmp_path / "a.nii", np.float32, frames=2)
    save(tmp_path / "a.nii", np.stack([plain, plain], -1))
    assert load_nifti(tmp_path / "a.nii", np.float32, frames=2)[0].shape == (*plain.shape, 2)


def test_voxels_of_a_pair_lie_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nibabel.Nifti1Pair(voxels(), AFFINE).to_filename(tmp_path / "in" / "a.hdr")
    (tmp_path / "in" / "a.img").rename(tmp_path / "secret.img")
    (tmp_path / "in" / "a.img").symlink_to(tmp_path / "secret.img")
    with pytest.raises(UnusableFile, match="a link that leads outside its own folder"):
        read_nifti(tmp_path / "in" / "a.hdr")
