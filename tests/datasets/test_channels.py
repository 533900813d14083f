import json
from pathlib import Path

import pytest

from gvsl.cases import Case, Dataset, SourceChannel
from gvsl.datasets.channels import put_together
from gvsl.datasets.decathlon import decathlon
from gvsl.datasets.folder import folder
from gvsl.datasets.nnunet import nnunet
from gvsl.errors import UserError

from ..channels import make_channels, make_files, make_task, save

MODALITIES = ["FLAIR", "T1w", "t1gd", "T2w"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw dataset of nnU-Net: CT and PET of four cases."""
    root = tmp_path / "Dataset100_Both"
    for number in range(4):
        make_files(root / "imagesTr", f"a_{number}", ["0000", "0001"], number)
        save(root / "labelsTr" / f"a_{number}.nii.gz", make_channels(number, 1)[1])
    listing = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "core": 1}}
    (root / "dataset.json").write_text(json.dumps({**listing, "file_ending": ".nii.gz"}), encoding="utf-8")
    return root


def taken(dataset: Dataset) -> list[tuple[str, int, int]]:
    return [(each.name, each.number, each.count) for each in dataset.channels]


def unusable(dataset: Dataset) -> dict[str, str]:
    return {case.id: case.unusable for case in dataset.cases if case.unusable}


def test_channels_of_a_fourth_axis_are_taken_by_name_or_number_in_the_order_asked_for(tmp_path: Path) -> None:
    root = make_task(tmp_path / "Task01", MODALITIES, 3, (6, 6, 6))
    assert taken(decathlon(root, channels=["all"])) == [(name, number, 4) for number, name in enumerate(MODALITIES)]
    assert taken(decathlon(root, channels=["T2W", "0"])) == [("T2w", 3, 4), ("FLAIR", 0, 4)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], r"has 4 channels per image \(FLAIR, T1w, t1gd, T2w\): give --channels all, or those to take"),
        (["T3"], "there is no channel T3; .* has 4 channels per image"),
        (["4"], "there is no channel 4"),
        (["T1w", "1"], "names a channel twice"),
    ],
)
def test_what_there_is_is_said_in_one_line(tmp_path: Path, asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        decathlon(make_task(tmp_path / "Task01", MODALITIES, 3, (6, 6, 6)), channels=asked)
    assert "\n" not in str(caught.value)


def test_a_source_of_one_channel_stays_one_without_a_name(tmp_path: Path) -> None:
    root = make_task(tmp_path / "Task04", ["MRI"])
    assert decathlon(root, channels=["all"]) == decathlon(root, channels=["mri"]) == decathlon(root)
    assert decathlon(root).channels == ()


@pytest.mark.parametrize("modality", [{}, {"1": "T2", "2": "ADC"}, {"0": "T2", "x": "ADC"}])
def test_channels_without_numbers_are_refused(tmp_path: Path, modality: dict[str, str]) -> None:
    path = make_task(tmp_path / "Task05", ["T2", "ADC"]) / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "modality": modality}), "utf-8")
    with pytest.raises(UserError, match="should have the names of the channels in modality"):
        decathlon(path.parent, channels=["all"])


def test_files_of_one_case_are_its_channels(raw: Path) -> None:
    found = nnunet(raw, channels=["PET", "CT"])
    assert taken(found) == [("PET", 1, 2), ("CT", 0, 2)]
    case = found.cases[0]
    assert (case.id, case.label) == ("a_0", raw / "labelsTr" / "a_0.nii.gz")
    assert [each.image.name for each in case.channels] == ["a_0_0001.nii.gz", "a_0_0000.nii.gz"]
    assert case.image == case.channels[0].image
    (one,) = {each.image.name[-11:] for case in nnunet(raw, channels=["PET"]).cases for each in case.images}
    assert one == "0001.nii.gz"


def test_a_missing_channel_costs_its_case(raw: Path) -> None:
    (raw / "imagesTr" / "a_2_0001.nii.gz").unlink()
    assert unusable(nnunet(raw, channels=["all"])) == {"a_2": "lacks the channel 0001: there is no such file beside it"}
    assert unusable(nnunet(raw, channels=["CT"])) == {}


def test_files_listed_in_another_order_cost_their_case(raw: Path) -> None:
    path = raw / "dataset.json"
    files = {
        f"a_{number}": {
            "images": [f"imagesTr/a_{number}_000{each}.nii.gz" for each in ((1, 0) if number == 3 else (0, 1))],
            "label": f"labelsTr/a_{number}.nii.gz",
        }
        for number in range(4)
    }
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "dataset": files}), encoding="utf-8")
    odd = unusable(nnunet(raw, channels=["all"]))
    assert list(odd) == ["a_3"] and "in another order: a_3_0001.nii.gz, a_3_0000.nii.gz" in odd["a_3"]


def test_endings_of_names_put_the_files_of_a_folder_together(tmp_path: Path) -> None:
    for number in (1, 2):
        make_files(tmp_path / f"sub-0{number}" / "anat", f"sub-0{number}", ["T1w", "T2w", "FLAIR"], number)
    save(tmp_path / "derivatives" / "labels" / "sub-01" / "anat" / "sub-01_dseg.nii.gz", make_channels(1, 1)[1])
    (tmp_path / "sub-02" / "anat" / "sub-02_T2w.nii.gz").unlink()
    (tmp_path / "splits.json").write_text('{"train": ["sub-01_anat_sub-01"]}', encoding="utf-8")
    found = folder(tmp_path, channels=["T2w", "t1w"])
    first, second = (case for case in found.cases if case.id.endswith(("sub-01", "sub-02")))
    assert [each.image.name for each in first.channels] == ["sub-01_T2w.nii.gz", "sub-01_T1w.nii.gz"]
    assert (first.splits, first.subject) == (("train",), "sub-01")
    assert first.label is not None
    assert second.unusable == "lacks the channel T2w: there is no such file beside it"
    assert found.notes == ("2 images are none of the channels T2w, t1w: they are left out",)
    with pytest.raises(UserError, match="has no image whose name ends in PD"):
        folder(tmp_path, channels=["PD"])
    with pytest.raises(UserError, match="name the endings"):
        folder(tmp_path, channels=["all"])


def test_files_that_look_like_channels_stay_images_unless_asked_for_and_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_files(tmp_path, name, ["0000", "0001"])
    make_files(tmp_path, "c", ["0000"])
    found = folder(tmp_path)
    assert len(found.cases) == 5 and not found.channels
    (note,) = found.notes
    assert note.startswith("4 images are numbered as the channels of 2, such as a_0000, a_0001: each is taken as an")
    assert note.endswith("--channels 0000 0001 takes them as one")
    assert [case.id for case in folder(tmp_path, channels=["0000", "0001"]).cases if case.channels] == ["a", "b"]


def test_only_what_names_a_channel_is_put_together(tmp_path: Path) -> None:
    channels = [SourceChannel("T2", 0, 3), SourceChannel("ADC", 2, 3)]
    names = ("a_T2", "a-adc", "b_0000", "b_0001", "b_0002", "c", "d_T2", "d_0000", "d_ADC")
    found = put_together([Case(name, tmp_path / f"{name}.nii") for name in names], channels)
    assert {case.id: [each.id for each in case.channels] for case in found if not case.unusable} == {
        "a": ["a_T2", "a-adc"],
        "b": ["b_0000", "b_0002"],
        "c": [],
    }
    assert {case.id: case.unusable for case in found if case.unusable} == {
        "d": "has one channel in two files, d_T2.nii and d_0000.nii; leave one"
    }
