"""Layouts of public datasets: images are read with their label maps, and no map is taken for an image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.datasets.folder import folder
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

SHAPE = (14, 12, 10)


def image(path: Path, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([seed, *path.as_posix().encode()])
    array = draw.integers(-1000, 1500, shape).astype(np.int16)
    nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)


def label(path: Path, shape: tuple[int, ...] = SHAPE, kind: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array: NDArray[Any] = np.zeros(shape, kind)
    array[3:9, 3:9, 3:8] = 1
    array[5:9, 3:6, 3:8] = 2
    nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)


def fill(root: Path, images: str, labels: str) -> None:
    for name in images.split():
        image(root / f"{name}.nii.gz")
    for name in labels.split():
        label(root / f"{name}.nii.gz")


def pairs(root: Path) -> dict[str, str | None]:
    """Return the label map, relative to `root`, by the id of each case that isn't refused by name."""
    cases = [case for case in folder(root).cases if not case.unusable]
    return {case.id: None if case.label is None else case.label.relative_to(root).as_posix() for case in cases}


def store_of(root: Path) -> Store:
    cases = folder(root).cases
    return prepare(cases, root.parent / "store", PRESETS["none"], source="here")


LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "KiTS": ("", {"case_00000/imaging": "case_00000/segmentation", "case_00001/imaging": "case_00001/segmentation"}),
    "ACDC": (
        "",
        {
            "patient001/patient001_frame01": "patient001/patient001_frame01_gt",
            "patient001/patient001_frame12": "patient001/patient001_frame12_gt",
        },
    ),
    "LiTS": ("", {"volume-0": "segmentation-0", "volume-1": "segmentation-1"}),
    "LiTS in parts": ("", {"volume_pt1/volume-0": "segmentations/segmentation-0"}),
    "BTCV": ("Testing/img/img0061", {f"Training/img/img000{n}": f"Training/label/label000{n}" for n in (1, 2)}),
    "AbdomenCT-1K": (
        "",
        {
            "AbdomenCT-1K-ImagePart1/Case_00001_0000": "Mask/Case_00001",
            "AbdomenCT-1K-ImagePart2/Case_00500_0000": "Mask/Case_00500",
        },
    ),
    "FLARE": ("", {f"TrainImage/train_00{n}_0000": f"TrainMask/train_00{n}" for n in (1, 2)}),
    "splits in folders": (
        "",
        {f"{part}/images/00{n}": f"{part}/labels/00{n}" for part in ("train", "val") for n in (1, 2)},
    ),
    "names of any script": ("", {f"{name}/ct": f"{name}/seg" for name in ("\u5f20\u4e09", "\u674e\u56db")}),
    "VerSe": ("", {"rawdata/sub-v4/sub-v4_ct": "derivatives/sub-v4/sub-v4_seg-vert_msk"}),
    "VerSe of several directions": (
        "",
        {
            f"rawdata/sub-g3/sub-g3_dir-{way}_ct": f"derivatives/sub-g3/sub-g3_dir-{way}_seg-vert_msk"
            for way in ("ax", "sag")
        },
    ),
    "SegTHOR": ("test/Patient_41", {"train/Patient_01/Patient_01": "train/Patient_01/GT"}),
    "HECKTOR": ("CHGJ007/CHGJ007_pt", {"CHGJ007/CHGJ007_ct": "CHGJ007/CHGJ007_ct_gtvt"}),
    "BIDS": (
        "sub-02/ses-01/anat/sub-02_ses-01_T1w",
        {
            f"sub-01/ses-0{visit}/anat/sub-01_ses-0{visit}_T1w": (
                f"derivatives/manual/sub-01/ses-0{visit}/anat/sub-01_ses-0{visit}_space-orig_desc-lesion_dseg"
            )
            for visit in (1, 2)
        },
    ),
    "numbers of four digits": (
        "la_0004",
        {"la_0001": "la_0001_seg", "la_0002": "la_0002_seg", "la_0003": "la_0003_seg"},
    ),
    "Slicer": ("", {"p1": "p1-label", "p2": "p2.seg", "p3": "p3 Segmentation"}),
}
"""Images without a label map, and label map by image."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_are_read_with_their_label_maps(name: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    alone, labelled = LAYOUTS[name]
    for path in (*alone.split(), *labelled):
        image(root / f"{path}.nii.gz")
    for path in labelled.values():
        label(root / f"{path}.nii.gz")
    wanted: dict[str, str | None] = {path.replace("/", "_"): f"{found}.nii.gz" for path, found in labelled.items()}
    assert pairs(root) == wanted | {path.replace("/", "_"): None for path in alone.split()}
    store = store_of(root)
    assert sorted(store.cases) == sorted(wanted | dict.fromkeys(path.replace("/", "_") for path in alone.split()))
    assert sum(case.label_values is not None for case in store.cases.values()) == len(labelled)
    assert store.refused == ()


def test_one_map_per_structure_is_no_label_map(tmp_path: Path) -> None:
    names = " ".join(f"s000{number}/segmentations/{organ}" for number in (1, 2) for organ in ("liver", "spleen"))
    fill(tmp_path, "s0001/ct s0002/ct", names)
    assert pairs(tmp_path) == {"s0001_ct": None, "s0002_ct": None}
    refused = {case.id: case.unusable for case in folder(tmp_path).cases if case.unusable}
    assert list(refused) == ["s0001_segmentations", "s0002_segmentations"]
    assert "holds label maps or results by its name (2 volumes)" in refused["s0001_segmentations"]


def test_one_label_map_of_several_is_not_chosen(tmp_path: Path) -> None:
    fill(tmp_path / "source", "a/a_ct", "a/a_gtvt a/a_gtvn")
    store = store_of(tmp_path / "source")
    assert {case.id: case.label_values for case in store.cases.values()} == {"a_a_ct": None}
    assert [file for file, _ in store.refused] == ["a_gtvn.nii.gz", "a_gtvt.nii.gz"]
    assert all("of a_ct.nii.gz, one of 2; leave one, or join them into one" in reason for _, reason in store.refused)


def test_images_of_one_grid_share_a_label_map(tmp_path: Path) -> None:
    fill(tmp_path, "b1/b1_flair b1/b1_t1ce", "b1/b1_seg")
    image(tmp_path / "b1" / "b1_t2.nii.gz", (9, 9, 9))
    assert pairs(tmp_path) == {"b1_b1_flair": "b1/b1_seg.nii.gz", "b1_b1_t1ce": "b1/b1_seg.nii.gz", "b1_b1_t2": None}


@pytest.mark.parametrize("name", ["organs/a", "organs/a_1", "a_structures", "x", "deep/a"])
def test_a_label_map_is_recognised_by_its_voxels(name: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    fill(root, "ct/a" if name.startswith("organs") else "a", "")
    label(root / f"{name}.nii.gz", kind=np.float32)
    store = store_of(root)
    assert len(store.cases) == 1
    [(file, reason)] = store.refused
    assert file.endswith(f"{name}.nii.gz")
    assert "is a label map by its 3 whole values, on the grid of a.nii.gz; if it is its label map, put it" in reason


def test_images_that_share_a_label_map_are_one_subject(tmp_path: Path) -> None:
    fill(tmp_path, "images/b_flair images/b_t1", "labels/b")
    (tmp_path / "splits.json").write_text('{"train": ["b_flair"], "test": ["b_t1"]}', encoding="utf-8")
    with pytest.raises(UserError, match=r"one subject .*: b_flair \(train\) and b_t1 \(test\)"):
        folder(tmp_path)


def test_what_looks_like_a_label_map_without_an_image_near_by_is_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "source", "", "a b")
    image(tmp_path / "source" / "c.nii.gz", (9, 9, 9))
    assert sorted(store_of(tmp_path / "source").cases) == ["a", "b", "c"]


def test_an_8_bit_image_beside_another_is_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "source", "a", "")
    grey = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    grey[:5] = 0
    nibabel.Nifti1Image(grey, np.eye(4)).to_filename(tmp_path / "source" / "b.nii.gz")
    assert sorted(store_of(tmp_path / "source").cases) == ["a", "b"]


def test_a_name_alone_makes_no_label_map(tmp_path: Path) -> None:
    fill(tmp_path / "source", "GT01 AB02 mask_03", "")  # initials of people
    assert pairs(tmp_path / "source") == {"GT01": None, "AB02": None, "mask_03": None} | {}
    assert sorted(store_of(tmp_path / "source").cases) == ["AB02", "GT01", "mask_03"]


def test_a_label_map_without_an_image_is_told_with_the_nearest(tmp_path: Path) -> None:
    fill(tmp_path / "source", "pat/a_ct pat/b_ct", "pat/c_gt")
    [(file, reason)] = store_of(tmp_path / "source").refused
    assert file == "c_gt.nii.gz"
    assert reason == "is a label map by its 3 whole values and its name, without an image; the nearest is a_ct.nii.gz"


@pytest.mark.parametrize("name", ["atlas", "spmT_0001", "zstat1", "sub-1_stat-t_statmap", "a_probseg", "fast_pve_0"])
def test_maps_are_told_by_name(name: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    for path in ("a", "b", name):
        image(root / f"{path}.nii.gz")
    store = store_of(root)
    assert sorted(store.cases) == ["a", "b"]
    assert [reason for _, reason in store.refused] == [
        "is a statistical, probability or atlas map by its name; take it out, or rename it if it is an image"
    ]


def test_a_probability_map_is_recognised_by_its_voxels(tmp_path: Path) -> None:
    root = tmp_path / "source"
    fill(root, "a", "")
    chance = np.zeros(SHAPE, np.float32)
    chance[4:10, 3:9, 3:8] = 1
    chance[3, 3:9, 3:8] = np.random.default_rng(0).random((6, 5))
    for name in ("b", "wc1a"):
        nibabel.Nifti1Image(chance, np.eye(4)).to_filename(root / f"{name}.nii.gz")
    first, second = (reason for _, reason in store_of(root).refused)
    assert first.startswith("is a probability map by its values from 0 to 1, on the grid of a.nii.gz")
    assert second.startswith("is a probability map by its values from 0 to 1 and its name, without an image")


GIVEN: dict[str, tuple[str, str]] = {
    "channel": ("hip_000_0000", "hip_000"),
    "seg": ("hip_000", "hip_000_seg"),
    "-label": ("hip_000", "hip_000-label"),
    ".seg": ("hip_000", "hip_000.seg"),
    "gt": ("hip_000", "hip_000_gt"),
    "case": ("Hip_000", "hip_000"),
    "NFD": ("J\u00e4ger", "Ja\u0308ger"),
    "both": ("img_7_image", "label_7"),
    "folder": ("sub-01/T1", "sub-01_T1_mask"),
}


@pytest.mark.parametrize(
    ("name", "labels"),
    [*((name, "labels") for name in GIVEN), *(("seg", other) for other in ("Labels", "label", "LABEL", "masks"))],
)
def test_names_of_images_and_given_label_maps_meet(name: str, labels: str, tmp_path: Path) -> None:
    one, other = GIVEN[name]
    fill(tmp_path, f"images/{one}", f"{labels}/{other}")
    assert pairs(tmp_path) == {one.replace("/", "_"): f"{labels}/{other}.nii.gz"}


def test_a_label_map_of_another_subject_is_not_taken(tmp_path: Path) -> None:
    fill(tmp_path / "one", "images/sub-01/t1 images/sub-03/t2", "labels/sub-02/t1 labels/sub-03/t2")
    assert pairs(tmp_path / "one") == {"sub-01_t1": None, "sub-03_t2": "labels/sub-03/t2.nii.gz"}
    fill(tmp_path / "two", "a", "b_seg")
    assert pairs(tmp_path / "two") == {"a": None}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_a_masked_image_is_no_label_map(ending: str, tmp_path: Path, write_volume: Callable[..., Path]) -> None:
    grey = np.zeros((30, 30, 30), np.int16)
    grey[5:25, 5:25, 5:25] = np.random.default_rng(0).integers(100, 900, (20, 20, 20))
    write_volume(tmp_path / f"a{ending}", Volume(grey + np.int16(1), np.eye(4)))
    write_volume(tmp_path / f"a_mask{ending}", Volume(grey, np.eye(4)))
    assert pairs(tmp_path) == {"a": None}
    write_volume(tmp_path / f"a_mask{ending}", Volume((grey > 0).astype(np.uint8), np.eye(4)))
    assert pairs(tmp_path) == {"a": f"a_mask{ending}"}


def test_given_label_maps_come_before_those_among_images(tmp_path: Path) -> None:
    fill(tmp_path / "source", "images/a images/b", "labels/a labels/a_seg images/a_seg labels/c masks/b")
    assert pairs(tmp_path / "source") == {"a": "labels/a.nii.gz", "b": "masks/b.nii.gz"}
    assert dict(store_of(tmp_path / "source").refused) == {
        "images/a_seg.nii.gz": "is a label map of a too, but labels/a.nii.gz is used",
        "labels/a_seg.nii.gz": "is a label map of a.nii.gz too, but a.nii.gz is used",
        "labels/c.nii.gz": "is a label map without an image; the nearest is a.nii.gz",
    }


def test_ids_depend_on_no_neighbour(tmp_path: Path) -> None:
    fill(tmp_path, "images/x_0000 images/sub/img01 images/sub/vol-2", "labels/x")
    before = sorted(pairs(tmp_path))
    assert before == ["sub_img01", "sub_vol-2", "x_0000"]
    fill(tmp_path, "images/y images/x images/sub/img02", "images/sub/label01 labels/sub_img02_seg")
    (tmp_path / "images" / "note.txt").write_text("hello", encoding="utf-8")
    assert set(before) < set(pairs(tmp_path))


def test_links_to_folders_are_entered_once(tmp_path: Path) -> None:
    root = tmp_path / "source"
    fill(tmp_path, "source/images/s0/t1 elsewhere/s1/t1 elsewhere/s2/t1", "source/labels/s0/t1 elsewhere/m1/t1")
    for link, target in {
        "images/s1": "elsewhere/s1",
        "images/s2": "elsewhere/s2",
        "images/a0": "source/images/s0",  # first in order, but the folder itself keeps its name
        "images/s0/loop": "source",
        "images/z2": "elsewhere/s2",
        "labels/s1": "elsewhere/m1",
    }.items():
        (root / link).symlink_to(tmp_path / target)
    assert pairs(root) == {"s0_t1": "labels/s0/t1.nii.gz", "s1_t1": "labels/s1/t1.nii.gz", "s2_t1": None}
    refused = {case.image.relative_to(root).as_posix(): case.unusable for case in folder(root).cases if case.unusable}
    assert refused == {
        "images/a0": "is a link to a folder that is read already; it was not entered again",
        "images/s0/loop": "is a link to a folder above it; it was not entered again",
        "images/z2": "is a link to a folder that is read already; it was not entered again",
    }


def test_other_files_are_counted_by_ending(tmp_path: Path) -> None:
    fill(tmp_path, "images/a", "")
    for name in ("images/b.nii.bz2", "images/c.TIF", "images/d.tif", "labels/e.mnc", "f.dcm.gz", "images/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "splits.json").write_text('{"train": ["a"]}', encoding="utf-8")
    assert folder(tmp_path).passed_over == {".tif": 2, ".dcm.gz": 1, ".mnc": 1, ".nii.bz2": 1, "no ending": 1}


def test_volumes_beside_the_folder_of_images_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "images/a b", "")
    assert [case.unusable for case in folder(tmp_path).cases] == [
        "",
        "lies outside images/; move it there, or prepare it separately",
    ]


def test_headers_and_their_voxel_files_are_not_passed_over(tmp_path: Path, write_volume: Callable[..., Path]) -> None:
    volume = Volume(np.random.default_rng(0).random((5, 6, 7), np.float32), np.eye(4))
    for name in ("a.mhd", "b.nhdr", "c.hdr"):
        write_volume(tmp_path / name, volume)
    assert folder(tmp_path).passed_over == {}
