import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.io import UnusableFile, read_label, read_volume

VOXELS = np.arange(6 * 7 * 8, dtype=np.int16).reshape((6, 7, 8), order="F")
DATA = VOXELS.tobytes(order="F")
HEADER = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 7 8",
    "space directions": "(0.5,0,0) (0,0,-2) (0,1.5,0)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}
AFFINE = np.array([[-0.5, 0, 0, -10], [0, 0, -1.5, -20], [0, -2, 0, 30], [0, 0, 0, 1]])


def save(path: Path, data: bytes = DATA, /, drop: str = "", **fields: str) -> Path:
    """Write an attached NRRD file with changed header fields; "_" stands for a space."""
    header = {**HEADER, **{name.replace("_", " "): value for name, value in fields.items()}}
    header.pop(drop, None)
    lines = ["NRRD0005", "# made by hand", *(f"{name}: {value}" for name, value in header.items()), "mine:=yes", "", ""]
    path.write_bytes("\n".join(lines).encode() + data)
    return path


def test_geometry_follows_the_header(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert read_label(tmp_path / "a.nrrd").array.dtype == np.int16


@pytest.mark.parametrize(
    ("space", "signs"), [("RAS", (1, 1, 1)), ("LAS", (-1, 1, 1)), ("left-posterior-superior", (-1, -1, 1))]
)
def test_every_space_becomes_ras(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    np.testing.assert_allclose(read_volume(save(tmp_path / "a.nrrd", space=space)).affine, np.diag([*signs, 1]) @ lps)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("raw", bytes), ("gzip", gzip.compress), ("gz", gzip.compress), ("bzip2", bz2.compress)]
)
@pytest.mark.parametrize("detached", [False, True])
def test_encodings(tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes], detached: bool) -> None:
    if detached:
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "a.raw").write_bytes(pack(DATA))
        path = save(tmp_path / "a.nhdr", b"", encoding=encoding, data_file="below/a.raw")
    else:
        path = save(tmp_path / "a.nrrd", pack(DATA), encoding=encoding)
    np.testing.assert_array_equal(read_volume(path).array, VOXELS)


@pytest.mark.parametrize(("skip", "front", "back"), [("5", 5, 0), ("-1", 12, 0)])
def test_bytes_before_the_voxels_are_skipped(tmp_path: Path, skip: str, front: int, back: int) -> None:
    path = save(tmp_path / "a.nrrd", b"x" * front + DATA + b"x" * back, byte_skip=skip)
    np.testing.assert_array_equal(read_volume(path).array, VOXELS)


def test_byte_order_follows_the_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nrrd", VOXELS.astype(">i2").tobytes(order="F"), endian="big")
    np.testing.assert_array_equal(read_volume(path).array, VOXELS)


def test_a_vector_axis_of_size_one_is_dropped(tmp_path: Path) -> None:
    directions = "none " + HEADER["space directions"]
    path = save(tmp_path / "a.nrrd", dimension="4", sizes="1 6 7 8", space_directions=directions)
    np.testing.assert_array_equal(read_volume(path).array, VOXELS)


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no space": ({"drop": "space"}, "has no orientation in the patient: it names no space"),
    "no directions": ({"drop": "space directions"}, "3 sizes and 0 space directions"),
    "another space": ({"space": "3D-right-handed"}, "its space is '3d-right-handed'"),
    "no endian": ({"drop": "endian"}, "has no byte order"),
    "no sizes": ({"drop": "sizes"}, "dimension 3 and sizes None"),
    "vector": (
        {"dimension": "4", "sizes": "3 6 7 8", "space_directions": "none (1,0,0) (0,1,0) (0,0,1)"},
        "holds 3 values per voxel",
    ),
    "frames": (
        {"dimension": "4", "sizes": "6 7 8 2", "space_directions": "(1,0,0) (0,1,0) (0,0,1) none"},
        "holds 2 values per voxel, or frames",
    ),
    "2D": ({"dimension": "3", "sizes": "6 56 1"}, "is 2D"),
    "text": ({"encoding": "ascii"}, "encoded as 'ascii'; save it as raw or gzip"),
    "blocks": ({"type": "block"}, "of type 'block'"),
    "absurd": ({"sizes": "100000 100000 100000"}, "claims 100000 x 100000 x 100000 voxels; at most"),
    "too large": ({"sizes": "6 7 800"}, "claims 6 x 7 x 800 voxels, more than the file can hold"),
    "negative": ({"sizes": "6 -7 8"}, "holds no voxels"),
    "no numbers": ({"sizes": "6 7 x"}, "where whole numbers belong"),
    "endless number": ({"sizes": "6 7 " + "9" * 5000}, "where whole numbers belong"),
    "many axes": ({"dimension": "20", "sizes": "1 " * 20, "space_directions": "none " * 20}, "is 2D|no voxels"),
    "sheared": ({"space_directions": "(1,0.3,0) (0,1,0) (0,0,1)"}, "axes are sheared"),
    "singular": ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "two axes point the same way"),
    "no place": ({"space_origin": "(nan,0,0)"}, "where 3 numbers belong"),
    "odd directions": ({"space_directions": "(1,0,0) (0,1,0) 5"}, "which are no vectors"),
    "metres": ({"space_units": '"m" "m" "m"'}, "its space is in 'm', not in mm"),
    "lines": ({"line_skip": "3"}, "skips lines"),
    "skip": ({"byte_skip": "-2"}, "skips -2 bytes"),
    "list": ({"data_file": "LIST"}, "in several files"),
    "pattern": ({"data_file": "a%03d.raw 1 8 1"}, "in several files"),
    "absolute": ({"data_file": "/etc/passwd"}, "names the data file '/etc/passwd', which lies outside its own"),
    "above": ({"data_file": "../secret.raw"}, "names the data file '../secret.raw'"),
    "link": ({"data_file": "link.raw"}, "names the data file 'link.raw'"),
    "itself": ({"data_file": "a.nrrd"}, "names the data file 'a.nrrd'"),
    "missing": ({"data_file": "gone.raw"}, "its data file 'gone.raw' does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_files_are_refused_with_one_line(tmp_path: Path, case: str) -> None:
    fields, reason = REFUSED[case]
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(DATA)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    with pytest.raises(UnusableFile, match=reason) as caught:
        read_volume(save(folder / "a.nrrd", **fields))
    assert "\n" not in str(caught.value)


def test_truncated_and_overlong_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="more than the file can hold"):
        read_volume(save(tmp_path / "a.nrrd", DATA[:-1]))
    with pytest.raises(UnusableFile, match="compressed data ends early"):
        read_volume(save(tmp_path / "a.nrrd", gzip.compress(DATA)[:-9], encoding="gzip"))
    with pytest.raises(UnusableFile, match="it holds 100 of 672 bytes"):
        read_volume(save(tmp_path / "a.nrrd", gzip.compress(DATA[:100]), encoding="gzip"))
    with pytest.raises(UnusableFile, match="goes on for more than"):
        read_volume(save(tmp_path / "a.nrrd", gzip.compress(DATA + bytes(3 * 2**20)), encoding="gzip"))
    broken = bytearray(gzip.compress(DATA))
    broken[-6] ^= 1
    with pytest.raises(UnusableFile, match="compressed data is damaged"):
        read_volume(save(tmp_path / "a.nrrd", bytes(broken), encoding="gzip"))


@pytest.mark.parametrize(
    "head", [b"NRRD0005\n" + b"a" * 2**21, b"NRRD0005\n" + b"# x\n" * 2**19, b"NRRD0005\nno field\n\n"]
)
def test_malformed_headers_are_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.nrrd").write_bytes(head)
    with pytest.raises(UnusableFile, match=r"header is longer than|which is no field"):
        read_volume(tmp_path / "a.nrrd")


def test_negative_numbers_stored_as_unsigned_are_refused(tmp_path: Path) -> None:
    values = (VOXELS - 100).astype(np.uint16)
    with pytest.raises(UnusableFile, match="negative numbers stored as unsigned ones"):
        read_volume(save(tmp_path / "a.nrrd", values.tobytes(order="F"), type="ushort"))
