import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from gvsl.cases import Case, Dataset
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.prediction.pairs import ImagePair
from gvsl.prediction.register import RegisterSettings, register, register_table

QUICK = RegisterSettings(refine=4, start="none")
FILES = {"affine.tfm", "field.h5", "field.nii.gz", "jacobian.nii.gz", "registered.json", "warped.nii.gz"}


@pytest.fixture
def cases(phantom_cohort: Dataset, tmp_path: Path) -> tuple[Case, Case]:
    """Two labelled phantoms, the fixed one with other axes."""
    moving, fixed = phantom_cohort.cases[:2]
    assert fixed.label is not None
    turned = Case("turned", tmp_path / "in" / "turned.nii.gz", tmp_path / "in" / "turned_labels.nii.gz")
    (tmp_path / "in").mkdir()
    for source, path in ((fixed.image, turned.image), (fixed.label, turned.label)):
        nib.save(nib.load(source).as_reoriented(nib.orientations.axcodes2ornt("PIR")), path)
    return moving, turned


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "registered.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def dice(found: Path, truth: Path | None) -> float:
    one, other = (np.asarray(nib.load(path).dataobj) for path in (found, truth) if path is not None)
    values = sorted(set(np.unique(one)) | set(np.unique(other)) - {0})[1:]
    return float(
        np.mean([2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum()) for v in values])
    )


def test_a_pair_becomes_files_that_itk_applies(matcher: Path, cases: tuple[Case, Case], tmp_path: Path) -> None:
    moving, fixed = cases
    out = tmp_path / "out"
    words = [
        "register",
        moving.image,
        fixed.image,
        "--weights",
        matcher,
        "--out",
        out,
        "--refine",
        "8",
        "--start",
        "none",
    ]
    assert main([*map(str, words), "--labels", str(moving.label), "--fixed-labels", str(fixed.label)]) == 0
    assert {path.name for path in out.iterdir()} == FILES | {"labels.nii.gz", "register.html"}
    record = json.loads((out / "registered.json").read_text(encoding="utf-8"))
    for name in ("warped", "jacobian", "labels"):
        image = nib.load(out / f"{name}.nii.gz")
        assert image.shape == nib.load(fixed.image).shape
        assert np.array_equal(image.affine, nib.load(fixed.image).affine)
    assert record["dice"] == pytest.approx(dice(out / "labels.nii.gz", fixed.label), abs=1e-4)
    assert set(record["structures"]) == {str(value) for value in range(1, 8)}
    assert record["ncc_after"] > record["ncc_before"] + 0.05
    assert record["jacobian"]["min"] == pytest.approx(float(nib.load(out / "jacobian.nii.gz").get_fdata().min()))
    images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (moving.image, fixed.image)]
    transform = sitk.ReadTransform(str(out / "field.h5"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(*images, transform, sitk.sitkLinear, record["outside"]))
    ours = nib.load(out / "warped.nii.gz").get_fdata().T
    assert np.abs(theirs - ours).max() <= 1e-3 * np.ptp(ours)
    page = (out / "register.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "canvas" in page and 'id="volume-0-carried"' in page


def test_a_table_costs_a_bad_pair_its_own_row_and_is_continued(
    matcher: Path, cases: tuple[Case, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = cases[0]
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"no volume")
    lines = ["moving,fixed,moving_labels", f"{moving.image},turned.nii.gz,{moving.label}"]
    lines += ["broken.nii.gz,turned.nii.gz,", "none.nii.gz,turned.nii.gz,"]
    lines += [f"{moving.image},turned.nii.gz,", f"turned.nii.gz,{moving.image},"]
    table = tmp_path / "in" / "pairs.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    words = ["--weights", str(matcher), "--out", str(out), "--refine", "2", "--start", "none"]
    assert main(["register", "--pairs", str(table), *words]) == 2
    printed = capsys.readouterr()
    assert "2 of 5 pairs done" in printed.out
    assert "3 of 5 pairs were not done" in printed.err and "is not NIfTI" in printed.err
    first, last = f"{moving.id}_to_turned", f"turned_to_{moving.id}"
    assert {row["id"]: row["status"] for row in rows(out)} == {
        first: "registered", "broken_to_turned": "failed", "none_to_turned": "failed", last: "registered"
    }  # fmt: skip
    assert float(rows(out)[0]["ncc_after"]) > float(rows(out)[0]["ncc_before"])
    assert {path.name for path in out.iterdir()} == {first, last, "registered.csv"}
    assert {path.name for path in (out / last).iterdir()} == FILES | {"register.html"}

    stamp = (out / first / "field.h5").stat().st_mtime_ns
    table.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    assert main(["register", "--pairs", str(table), *words]) == 0
    assert "0 of 1 pairs done, 1 were there already" in capsys.readouterr().out
    assert (out / first / "field.h5").stat().st_mtime_ns == stamp
    assert len(rows(out)) == 4  # rows of an earlier call stay
    words[words.index("2")] = "3"
    assert main(["register", "--pairs", str(table), *words]) == 2
    assert "with refine 2, not 3; name another folder" in capsys.readouterr().err
    assert (out / first / "field.h5").stat().st_mtime_ns == stamp


def test_a_pair_is_known_by_what_its_files_hold(matcher: Path, cases: tuple[Case, Case], tmp_path: Path) -> None:
    moving, fixed = cases
    folder, out = tmp_path / "pairs", tmp_path / "out"
    folder.mkdir()
    pair = ImagePair(folder / "a.nii.gz", folder / "b.nii.gz", folder / "a_labels.nii.gz")
    assert moving.label is not None and fixed.label is not None and pair.moving_labels is not None
    shutil.copy(moving.image, pair.moving)
    shutil.copy(fixed.image, pair.fixed)
    shutil.copy(moving.label, pair.moving_labels)
    assert register_table([pair], matcher, out, QUICK).done == [pair]
    kept = {path: path.read_bytes() for path in (out / pair.id).iterdir()}

    def told(other: ImagePair) -> str:
        ((_, reason),) = register_table([other], matcher, out, QUICK).failed
        assert reason.startswith(f"{out / pair.id} exists already, ")
        assert reason.endswith("; name another folder, or remove it")
        assert [row["status"] for row in rows(out)] == ["registered"]
        return reason

    shutil.copy(fixed.image, pair.moving)
    assert "of another moving image" in told(pair)
    shutil.copy(moving.image, pair.moving)
    assert "with a moving label map" in told(replace(pair, moving_labels=None))
    shutil.copy(fixed.label, pair.moving_labels)
    assert "of another moving label map" in told(pair)
    shutil.copy(moving.label, pair.moving_labels)
    folder.rename(tmp_path / "elsewhere")
    moved = ImagePair(*(tmp_path / "elsewhere" / path.name for path in (pair.moving, pair.fixed, pair.moving_labels)))
    assert register_table([moved], matcher, out, QUICK).present == [moved]
    assert {path: path.read_bytes() for path in (out / pair.id).iterdir()} == kept

    record = json.loads((out / pair.id / "registered.json").read_text(encoding="utf-8"))
    del record["contents"]  # as an earlier gvsl wrote it: known by path
    (out / pair.id / "registered.json").write_text(json.dumps(record), encoding="utf-8")
    assert "of another moving image" in told(moved)
    (tmp_path / "elsewhere").rename(folder)
    assert register_table([pair], matcher, out, QUICK).present == [pair]


def test_images_of_two_modalities_are_refused(
    matcher: Path,
    cases: tuple[Case, Case],
    tmp_path: Path,
    write_dicom: Callable[..., list[Path]],
) -> None:
    moving, fixed = cases
    image = nib.load(fixed.image)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1024, image.affine), tmp_path / "mr.nii.gz")
    pair = ImagePair(moving.image, tmp_path / "mr.nii.gz")
    with pytest.raises(UserError, match=r"seems to be CT in HU, and .*mr.nii.gz no CT in HU: .* give --any-modality"):
        register(pair, matcher, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()
    register(pair, matcher, tmp_path / "out", replace(QUICK, any_modality=True))
    volume = Volume(np.round(np.asarray(image.dataobj)), image.affine)
    write_dicom(tmp_path / "ct", volume)
    write_dicom(tmp_path / "pet", volume, Modality="PT")
    with pytest.raises(UserError, match=r"seems to be CT, and .*pet PT"):
        register(ImagePair(tmp_path / "ct", tmp_path / "pet"), matcher, tmp_path / "other", QUICK)


def test_what_can_not_be_done_is_told_in_a_line(
    matcher: Path, cases: tuple[Case, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving, fixed = cases
    (tmp_path / "there").mkdir()
    (tmp_path / "bare").mkdir()
    images = [str(moving.image), str(fixed.image)]
    run, out = ["--weights", str(matcher)], ["--out", str(tmp_path / "out")]
    end, small = [*run, *out], tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), small)
    mistakes = {
        "name a moving and a fixed image, or give --pairs": [images[0], *end],
        "leave the others out": [*images, "--pairs", "p.csv", *end],
        "give --labels too": [*images, "--fixed-labels", "a.nii", *end],
        "exists already; name another output": [*images, *run, "--out", str(tmp_path / "there")],
        "bare": [*images, "--weights", str(tmp_path / "bare"), *out],
        "none.nii does not exist; name images": ["none.nii", images[1], *end],
        "none.nii does not exist; name the label map of": [*images, "--labels", "none.nii", *end],
        "its grid is not that of its image: 5 x 5 x 5": [
            *images,
            "--labels",
            str(tmp_path / "small.nii.gz"),
            *run,
            *out,
        ],
        "refine is -1: give 0 or more": [*images, "--refine", "-1", *end],
    }
    for expected, words in mistakes.items():
        assert main(["register", *words]) == 2, expected
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_kind_is_left_alone(matcher: Path, cases: tuple[Case, Case], tmp_path: Path) -> None:
    moving, fixed = cases
    pair = ImagePair(moving.image, fixed.image)
    (tmp_path / "registered.csv").write_text("mine\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"registered.csv can't be read \(its columns are mine\)"):
        register_table([pair], matcher, tmp_path, QUICK)
    (tmp_path / "registered.csv").unlink()
    (tmp_path / pair.id).mkdir()
    outcome = register_table([pair], matcher, tmp_path, QUICK)
    assert "exists already, and holds no registered.json" in outcome.failed[0][1]
    assert not list((tmp_path / pair.id).iterdir())
