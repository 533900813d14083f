import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.prediction import PredictSettings, find_images, predict
from gvsl.store import Store
from gvsl.store.manifest import manifest_hash

from .grids import source


def loaded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def test_a_store_s_cases_get_what_their_sources_get(run: Path, store: Store, tmp_path: Path) -> None:
    cases = store.split("test")
    files = find_images([source(store, case) for case in cases])
    for output, suffix in (("labels", ""), ("probabilities", "_1")):
        settings = PredictSettings(output=output)  # type: ignore[arg-type]
        predict(run, files, tmp_path / f"files{suffix}", settings)
        outcome = predict(run, store, tmp_path / f"store{suffix}", settings, split="test")
        assert [case.id for case in outcome.done] == cases
        for case, file in zip(cases, files, strict=True):
            found, affine = loaded(tmp_path / f"store{suffix}" / f"{case}{suffix}.nii.gz")
            expected, own = loaded(tmp_path / f"files{suffix}" / f"{file.id}{suffix}.nii.gz")
            assert found.shape == nib.load(file.image).shape
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_allclose(affine, own, atol=1e-6)


def test_the_command_takes_a_store_and_the_store_s_own_grid(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(store.path), "--weights", str(run), "--grid", "store", "--out", str(out)]
    assert main(words) == 0
    assert {path.name for path in out.glob("*.nii.gz")} == {f"{case}.nii.gz" for case in store.cases}
    for case in store.cases.values():
        found, affine = loaded(out / f"{case.id}.nii.gz")
        assert found.shape == case.shape
        np.testing.assert_allclose(affine, case.affine, atol=1e-6)
    assert main(words) == 0
    assert f"{len(store.cases)} were there already" in capsys.readouterr().out
    for wrong, expected in {
        ("--grid", "source"): "holds predictions with grid store, not source: name another folder",
        ("--grid", "store", "--split", "pretest"): "has no case in the split 'pretest'",
    }.items():
        assert main([*words[:4], *wrong, *words[-2:]]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
    image = str(source(store, "s7"))
    for arguments, expected in (
        (["predict", str(run), image, "--split", "test"], "--split names a split of a store"),
        (["predict", str(run), image], "holds predictions with grid store, not none"),
        (["predict", str(run), "--mirror", image], "holds predictions with"),
        (["predict", str(run)], "arguments are required: images"),
        (["predict", "--weights", str(run)], "arguments are required: images"),
    ):
        assert main([*arguments, "--out", str(out)]) == 2
        assert expected in capsys.readouterr().err


def test_scores_of_a_store_are_those_of_its_sources(classifier: Path, store: Store, tmp_path: Path) -> None:
    predict(classifier, store, tmp_path / "store", split="test")
    predict(classifier, find_images([source(store, case) for case in store.split("test")]), tmp_path / "files")
    tables = [
        [line.split(",")[1] for line in (tmp_path / name / "scores.csv").read_text(encoding="utf-8").split()]
        for name in ("store", "files")
    ]
    assert tables[0] == tables[1]


def test_a_store_that_was_prepared_otherwise_is_told(run: Path, store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("images", "labels", "cases.jsonl"):
        (other / name).symlink_to(store.path / name)
    manifest = json.loads((store.path / "manifest.json").read_text(encoding="utf-8"))
    spacing = manifest["preprocessing"]["spacing"]
    manifest["preprocessing"]["spacing"] = [3.0, 3.0, 3.0] if isinstance(spacing, list) else 3.0
    manifest["hash"] = manifest_hash(manifest)
    (other / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"was trained on volumes with spacing .*-preprocessing-mismatch"):
        predict(run, Store.open(other), tmp_path / "out")
    settings = PredictSettings(allow_preprocessing_mismatch=True)
    assert predict(run, Store.open(other), tmp_path / "out", settings, split="test").done
