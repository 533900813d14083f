"""What prediction refuses, and what it goes on after."""

from pathlib import Path
from shutil import copytree

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.files import LOCK_NAME, claimed
from gvsl.prediction import find_images, predict


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).random((12, 12, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), path)
    return path


def test_the_longest_names_are_predicted_and_longer_ones_end_nothing(wide_run: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a" * 244 + ".nii.gz", "b" * 248 + ".nii.gz"[:4], "c" * 251 + ".nii", "z.nii"):
        write(folder / name)
    outcome = predict(wide_run, find_images([folder]), out)
    assert {case.id[0] for case in outcome.done} == {"a", "b", "z"}
    ((case, reason),) = outcome.failed
    assert case.id == "c" * 251
    assert reason == "its result would have a name of 258 bytes, 255 are the most; rename it"
    assert sorted(path.name[0] for path in out.glob("*.nii.gz")) == ["a", "b", "z"]


def test_a_result_beside_its_image_is_refused_and_the_image_is_not_to_be_removed(
    wide_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write(tmp_path / "image.nii.gz")
    before = image.read_bytes()
    monkeypatch.chdir(tmp_path)
    ((_, reason),) = predict(wide_run, find_images([Path("image.nii.gz")]), Path()).failed
    assert "would take its own place" in reason
    assert "name another folder than that of the images" in reason
    assert "remove" not in reason
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"image.nii.gz": before}


def test_a_bad_image_never_ends_the_batch(wide_run: Path, tmp_path: Path) -> None:
    images = find_images([write(tmp_path / f"{name}.nii") for name in "abc"])
    (tmp_path / "b.nii").unlink()  # after it was found
    (tmp_path / "b.nii").mkdir()
    outcome = predict(wide_run, images, tmp_path / "out")
    assert [case.id for case in outcome.done] == ["a", "c"]
    assert [case.id for case, _ in outcome.failed] == ["b"]


def test_two_calls_into_one_folder_are_refused(wide_run: Path, tmp_path: Path) -> None:
    images = find_images([write(tmp_path / "a.nii")])
    busy = r"another gvsl predict is writing .*; wait until it has ended"
    with claimed(tmp_path / "out", "gvsl predict", inside=True), pytest.raises(UserError, match=busy):
        predict(wide_run, images, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK_NAME).touch()  # of a call that was killed, as is this
    (tmp_path / "out" / ".gvsl-12345678").mkdir()
    assert len(predict(wide_run, images, tmp_path / "out").done) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "labels.json", "predicted.json"]


@pytest.mark.parametrize("name", ["weights/model.safetensors", "head.safetensors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    wide_run: Path, tmp_path: Path, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    copytree(wide_run, tmp_path / "run")
    tensors = load_file(tmp_path / "run" / name)
    next(iter(tensors.values())).view(-1)[0] = value
    save_file(tensors, tmp_path / "run" / name)
    image = write(tmp_path / "a.nii")
    assert main(["predict", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "out")]) == 2
    assert f"{name} has NaN or infinite values in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
