from pathlib import Path

import pytest

from gvsl.errors import UserError
from gvsl.prediction.pairs import ImagePair, find_image, read_pairs


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text.encode("latin-1"))
    return path


def test_paths_are_relative_to_the_table_and_labels_may_be_missing(tmp_path: Path) -> None:
    found = read_pairs(table(tmp_path, "fixed,moving,fixed_labels\nb.nii.gz,a.nii, \n\n/d.mha,../c.nrrd,l.nii\n"))
    assert found == [
        ImagePair(tmp_path / "a.nii", tmp_path / "b.nii.gz"),
        ImagePair(tmp_path / "../c.nrrd", Path("/d.mha"), None, tmp_path / "l.nii"),
    ]
    assert [pair.id for pair in found] == ["a_to_b", "c_to_d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "columns none: they must be moving and fixed"),
        ("moving\na\n", "columns moving:"),
        ("moving,fixed,atlas\na,b,c\n", "columns moving, fixed, atlas:"),
        ("moving,fixed,fixed\na,b,c\n", "columns moving, fixed, fixed:"),
        ("moving,fixed\na\n", "row 2: it has 1 cells, the table 2 columns"),
        ("moving,fixed\na,b\na,\n", "row 3: it names no moving or no fixed image"),
        ("moving,fixed\n", "has no row"),
        ("moving,fixed\n\xff,b\n", "give a CSV file in UTF-8"),
        ('moving,fixed\n"a,b\n', "can't be read as a table of pairs"),
    ],
)
def test_a_broken_table_is_told(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_pairs(table(tmp_path, text))
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_is_not_there_and_a_folder_of_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_pairs(tmp_path / "none.csv")
    for name in ("a.mha", "b.mha"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="holds 2 images: name one of them"):
        find_image(tmp_path)


def test_folders_named_by_uid_keep_their_last_number(tmp_path: Path) -> None:
    for name in ("1.2.840.101", "1.2.840.102"):
        (tmp_path / name).mkdir()
    ids = [ImagePair(tmp_path / name, tmp_path / "b.nii.gz").id for name in ("1.2.840.101", "1.2.840.102")]
    assert ids == ["1.2.840.101_to_b", "1.2.840.102_to_b"]
