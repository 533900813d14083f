import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.cases import Dataset
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.methods import GVSL
from gvsl.methods.gvsl import gvsl_no_matching
from gvsl.prediction.pairs import ImagePair
from gvsl.prediction.propagate import PropagateSettings, propagate
from gvsl.prediction.register import register
from gvsl.records import RunRecord, write_record
from gvsl.store import Store
from gvsl.store.manifest import manifest_hash

from ..matcher import write_matcher_without_affine

QUICK = PropagateSettings(refine=2, start="none", least_dice=0)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "propagated.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_store_gets_labels_on_its_own_grid_with_their_scores(
    matcher: Path, phantom_store: Store, tmp_path: Path
) -> None:
    atlas, out = phantom_store.split("train")[0], tmp_path / "out"
    outcome = propagate([phantom_store.path], [phantom_store.path], matcher, out, QUICK, cases=[atlas], split="val")
    cases = phantom_store.split("val")
    assert [case.id for case in outcome.images.done] == cases
    for row in rows(out):
        written = nib.load(out / f"{row['id']}.nii.gz")
        truth = phantom_store.label(row["id"])
        found = np.asarray(written.dataobj)
        assert found.shape == truth.shape
        np.testing.assert_allclose(written.affine, phantom_store.cases[row["id"]].affine, atol=1e-6)
        values = sorted(phantom_store.label_names)
        both = [2 * ((found == v) & (truth == v)).sum() / ((found == v).sum() + (truth == v).sum()) for v in values]
        assert float(row["dice"]) == pytest.approx(np.mean(both), abs=1e-3)
        confidence = np.asarray(nib.load(out / f"{row['id']}_confidence.nii.gz").dataobj)
        assert confidence.shape == truth.shape
        assert 0 <= confidence.min() <= confidence.max() <= 1
    assert set(json.loads((out / "labels.json").read_text(encoding="utf-8"))) == {
        str(v) for v in phantom_store.label_names
    }


def test_a_store_s_cases_get_labels_on_the_grids_of_their_sources(
    matcher: Path, phantom_store: Store, tmp_path: Path
) -> None:
    atlas, out = phantom_store.split("train")[0], tmp_path / "out"
    on_source = replace(QUICK, grid="source")
    sources = [phantom_store.path], [phantom_store.path]
    propagate(*sources, matcher, out, on_source, cases=[atlas], split="val")
    for case in phantom_store.split("val"):
        known = phantom_store.cases[case]
        for name in (f"{case}.nii.gz", f"{case}_confidence.nii.gz"):
            assert nib.load(out / name).shape == known.source_shape
            np.testing.assert_allclose(nib.load(out / name).affine, known.source_affine, atol=1e-6)
    with pytest.raises(UserError, match="holds predictions with grid source, not none"):
        propagate(*sources, matcher, out, QUICK, cases=[atlas], split="val")


def test_files_get_labels_in_their_own_geometry_and_a_second_call_keeps_them(
    matcher: Path, phantom_store: Store, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    first, second = phantom_cohort.cases[:2]
    assert first.label is not None
    for kind, source in (("images", first.image), ("labels", first.label)):
        (tmp_path / "atlases" / kind).mkdir(parents=True)
        shutil.copy(source, tmp_path / "atlases" / kind)
    image = tmp_path / "other.nii.gz"
    before = nib.load(second.image)
    turned = before.as_reoriented(nib.orientations.axcodes2ornt("PIR"))
    nib.save(turned, image)
    out = tmp_path / "out"
    outcome = propagate([tmp_path / "atlases"], [image], matcher, out, QUICK)
    assert not outcome.images.failed
    written = nib.load(out / "other.nii.gz")
    assert written.shape == turned.shape
    assert np.array_equal(written.affine, nib.load(image).affine)
    stamp = (out / "other.nii.gz").stat().st_mtime_ns
    again = propagate([tmp_path / "atlases"], [image], matcher, out, QUICK)
    assert [case.id for case in again.images.present] == ["other"]
    assert (out / "other.nii.gz").stat().st_mtime_ns == stamp
    identity = json.loads((out / "predicted.json").read_text(encoding="utf-8"))["identity"]
    assert set(identity) == {"weights", "atlases", "refine", "start", "voting", "least_dice"}  # as of an earlier gvsl
    with pytest.raises(UserError, match="refine"):
        propagate(
            [tmp_path / "atlases"], [image], matcher, out, PropagateSettings(refine=5, start="none", least_dice=0)
        )


def test_turned_and_mirrored_images_get_no_map_and_folders_without_that_check_are_refused(
    matcher: Path, phantom_store: Store, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    known = nib.load(phantom_cohort.cases[0].image)
    voxels, images, out = np.asarray(known.dataobj), tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name, moved in (("a", np.rot90(voxels, 2, (0, 1))), ("b", voxels[::-1])):
        nib.save(nib.Nifti1Image(moved.copy(), known.affine), images / f"{name}.nii.gz")
    settings = replace(QUICK, least_dice=1e-6)
    arguments = [phantom_store.path], [images], matcher, out, settings
    outcome = propagate(*arguments, cases=[phantom_cohort.cases[0].id])
    (_, reason), (_, other) = outcome.images.failed
    assert "it looks turned by 180 degrees about the foot-head axis against" in str(reason)
    assert "switch the check off by least_dice 0" in str(reason)
    assert "it looks mirrored along the left-right axis against" in str(other)
    assert [row["status"] for row in rows(out)] == ["turned", "mirrored"]
    assert not list(out.glob("*.nii.gz"))
    ledger = out / "predicted.json"
    written = json.loads(ledger.read_text(encoding="utf-8"))
    del written["identity"]["check"]
    ledger.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(UserError, match="holds predictions with check none"):
        propagate(*arguments, cases=[phantom_cohort.cases[0].id])


def test_images_vote_on_each_other_as_templates(matcher: Path, phantom_store: Store, tmp_path: Path) -> None:
    path = phantom_store.path
    through = PropagateSettings(**{**vars(QUICK), "templates": 2})
    propagate([path], [path], matcher, tmp_path / "through", through, split="val")
    propagate([path], [path], matcher, tmp_path / "direct", QUICK, split="val")
    first = f"{phantom_store.split('val')[0]}.nii.gz"
    one, other = (np.asarray(nib.load(tmp_path / kind / first).dataobj) for kind in ("through", "direct"))
    assert not np.array_equal(one, other)
    identity = json.loads((tmp_path / "through" / "predicted.json").read_text(encoding="utf-8"))["identity"]
    assert {"templates", "templates_of", "sharpness"} <= set(identity)
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "through").glob("*.nii.gz")}
    propagate([path], [path], matcher, tmp_path / "through", through, split="val")
    assert stamps == {file: file.stat().st_mtime_ns for file in stamps}
    strict = PropagateSettings(refine=1, start="none", least_dice=1.0, templates=1)
    with pytest.raises(UserError, match="leave out --templates"):
        propagate([path], [path], matcher, tmp_path / "none", strict, split="val")


def test_an_image_does_not_vote_on_itself_under_another_name(
    matcher: Path, phantom_store: Store, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    """Of one image under two names, the only template is that image, which is no voter for either."""
    through = PropagateSettings(**{**vars(QUICK), "templates": 1})
    images = [tmp_path / "one.nii.gz", tmp_path / "copy.nii.gz"]
    for path in images:
        shutil.copy(phantom_cohort.cases[-1].image, path)
    outcome = propagate([phantom_store.path], images, matcher, tmp_path / "through", through)
    assert len(outcome.images.done) == 2
    propagate([phantom_store.path], images, matcher, tmp_path / "direct", QUICK)
    for path in images:
        one, other = (np.asarray(nib.load(tmp_path / kind / path.name).dataobj) for kind in ("through", "direct"))
        assert np.array_equal(one, other)


def test_templates_are_known_by_what_they_hold(
    matcher: Path, phantom_store: Store, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    through = PropagateSettings(**{**vars(QUICK), "templates": 1})
    images = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for path, case in zip(images, phantom_cohort.cases[-2:], strict=True):
        shutil.copy(case.image, path)
    propagate([phantom_store.path], images, matcher, tmp_path / "out", through)
    shutil.copy(phantom_cohort.cases[-3].image, images[1])
    with pytest.raises(UserError, match="holds predictions with templates_of"):
        propagate([phantom_store.path], images, matcher, tmp_path / "out", through)


def test_what_is_refused_as_an_image_is_no_template(
    matcher: Path, phantom_store: Store, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    """A label map among the images can be read, but gets no labels and passes none on."""
    through = PropagateSettings(**{**vars(QUICK), "templates": 2})
    images, known = tmp_path / "images", []
    images.mkdir()
    for case in phantom_cohort.cases[-2:]:
        shutil.copy(case.image, images / f"{case.id}.nii.gz")
    for name in ("without", "with"):
        outcome = propagate([phantom_store.path], [images], matcher, tmp_path / name, through)
        assert len(outcome.images.failed) == (name == "with")
        known.append(json.loads((tmp_path / name / "predicted.json").read_text(encoding="utf-8"))["identity"])
        shutil.copy(phantom_cohort.cases[-3].image, images / f"{phantom_cohort.cases[-1].id}_seg.nii.gz")
    assert known[0] == known[1]


def test_an_image_that_does_not_match_gets_no_map(
    matcher: Path, phantom_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [phantom_store.path, phantom_store.path, "--weights", matcher, "--out", tmp_path / "out", "--split", "val"]
    code = main(["propagate", *map(str, words), "--refine", "1", "--start", "none", "--least-dice", "1.0"])
    assert code == 2
    assert "3 of 3 images were not done" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    assert {row["status"] for row in rows(tmp_path / "out")} == {"failed"}


def test_images_are_told_apart_by_their_voxels_and_structures_by_their_names(
    matcher: Path, phantom_store: Store, tmp_path: Path
) -> None:
    """A case of another store that has an atlas's id gets labels; the atlas under another id does not."""
    first, second = phantom_store.split("train")[:2]
    shutil.copytree(phantom_store.path, tmp_path / "other")
    path = tmp_path / "other" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    named = {str(value): name for value, name in phantom_store.label_names.items()}
    value = next(iter(named))
    changed = {**manifest, "label_names": named | {value: "spleen"}}
    path.write_text(json.dumps(changed | {"hash": manifest_hash(changed)}), encoding="utf-8")
    with pytest.raises(UserError, match="but spleen in"):
        propagate([phantom_store.path], [tmp_path / "other"], matcher, tmp_path / "out", QUICK, cases=[first])
    outcome = propagate([phantom_store.path], [phantom_store.path], matcher, tmp_path / "b", QUICK, cases=[first])
    assert first not in [case.id for case in outcome.images.done]
    assert second in [case.id for case in outcome.images.done]


def test_held_out_cases_that_were_trained_on_are_not_scored_unless_asked_for(
    phantom_store: Store, tmp_path: Path
) -> None:
    """As in `gvsl transfer --mode carried`, whose figures these would be."""
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=8, levels=2))
    atlas, held_out = phantom_store.split("train")[0], phantom_store.split("val")[0]
    other = phantom_store.split("train")[1]
    hashes = {case: phantom_store.cases[case].content[:16] for case in (atlas, held_out, other)}
    path = [phantom_store.path]

    def matcher(name: str, images: list[str], labels: list[str]) -> Path:
        run = tmp_path / name
        run.mkdir()
        write_record(
            RunRecord(kind="pretrain", name=name, seed=0, config={"pretext": asdict(method.settings)}, store={}), run
        )
        heads = {key: value for key, value in method.state_dict().items() if not key.startswith("backbone.")}
        save_weights(
            run,
            method.backbone,
            heads=heads,
            method="gvsl",
            preprocessing=phantom_store.preprocessing,
            provenance={"labels": {case: hashes[case] for case in labels}},
            learnt_from=frozenset(hashes[case] for case in images),
        )
        return run

    for number, (images, labels, message) in enumerate(
        [([held_out], [], "holds out in val or test"), ([atlas], [other], f"saw the labels of {other}")]
    ):
        run = matcher(f"run{number}", images, labels)
        with pytest.raises(UserError, match=message):
            propagate(path, path, run, tmp_path / f"refused{number}", QUICK, cases=[atlas], split="val")
        allowed = replace(QUICK, allow_leakage=True)
        outcome = propagate(path, path, run, tmp_path / f"allowed{number}", allowed, cases=[atlas], split="val")
        assert outcome.images.done
    # What is not held out may have been trained on: that is what it is for.
    propagate(path, path, matcher("own", [atlas, other], [atlas]), tmp_path / "own", QUICK, cases=[atlas])


def test_wrong_inputs_are_told(matcher: Path, phantom_store: Store, store: Store, tmp_path: Path) -> None:
    path = phantom_store.path
    (tmp_path / "bare" / "images").mkdir(parents=True)
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)), np.eye(4)), tmp_path / "bare" / "images" / "a.nii"
    )
    cases = {
        "has no label maps": ([tmp_path / "bare"], [path], matcher),
        "prepared": ([store.path], [path], matcher),
        "does not exist": ([path], [tmp_path / "none.nii"], matcher),
    }
    for message, (atlases, images, run) in cases.items():
        with pytest.raises(UserError, match=message):
            propagate(atlases, images, run, tmp_path / "out", QUICK)
    with pytest.raises(UserError, match="no case nobody"):
        propagate([path], [path], matcher, tmp_path / "out", QUICK, cases=["nobody"])


def test_a_run_without_an_affine_head_starts_from_its_field_or_is_refused(phantom_store: Store, tmp_path: Path) -> None:
    path, run = phantom_store.path, write_matcher_without_affine(phantom_store, tmp_path / "run")
    from_affine = replace(QUICK, start="affine")
    with pytest.raises(UserError, match="run has no affine head: give --start field or none"):
        propagate([path], [path], run, tmp_path / "out", from_affine, split="val")
    pair = ImagePair(tmp_path / "moving.nii", tmp_path / "fixed.nii")
    with pytest.raises(UserError, match="run has no affine head: give --start field or none"):
        register(pair, run, tmp_path / "pair")
    outcome = propagate([path], [path], run, tmp_path / "field", replace(QUICK, start="field"), split="val")
    assert outcome.images.done


def test_a_run_that_does_not_match_is_refused(phantom_store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = gvsl_no_matching(UNet3D(width=8, levels=3))
    record = RunRecord(kind="pretrain", name="run", seed=0, config={"pretext": asdict(method.settings)}, store={})
    (tmp_path / "run").mkdir()
    write_record(record, tmp_path / "run")
    save_weights(
        tmp_path / "run",
        method.backbone,
        heads={key: value for key, value in method.state_dict().items() if not key.startswith("backbone.")},
        method="gvsl-no-matching",
        preprocessing=phantom_store.preprocessing,
        provenance={},
    )
    with pytest.raises(UserError, match="was pre-trained by gvsl-no-matching, which does not match volumes"):
        propagate([phantom_store.path], [phantom_store.path], tmp_path / "run", tmp_path / "out", QUICK)


def test_ignored_voxels_get_no_label_and_no_confidence(
    matcher: Path, phantom_cohort: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in phantom_cohort.cases if case.label is not None)
    assert case.label is not None
    for place in ("images", "labels"):
        (tmp_path / "atlases" / place).mkdir(parents=True)
    shutil.copy(case.image, tmp_path / "atlases" / "images" / "a.nii.gz")
    label = nib.load(case.label)
    values = np.asarray(label.dataobj).astype(np.uint8)
    values[:, :, :10] = 99
    nib.save(nib.Nifti1Image(values, label.affine), tmp_path / "atlases" / "labels" / "a.nii.gz")
    names = {str(value): name for value, name in phantom_cohort.label_names.items()} | {"99": "ignore"}
    (tmp_path / "atlases" / "labels.json").write_text(json.dumps(names), encoding="utf-8")
    words = [tmp_path / "atlases", case.image, "--weights", matcher, "--out", tmp_path / "out"]
    main(["propagate", *map(str, words), "--refine", "0", "--start", "none", "--least-dice", "0"])
    assert "atlas a has ignored voxels: it has no vote there" in capsys.readouterr().out
    name = case.image.name.removesuffix(".nii.gz")
    found, confidence = (
        np.asarray(nib.load(tmp_path / "out" / f"{name}{end}.nii.gz").dataobj) for end in ("", "_confidence")
    )
    assert not found[:, :, :9].any()
    assert not confidence[:, :, :9].any()
    assert (found[:, :, 11:] == values[:, :, 11:]).mean() > 0.95
    assert confidence[:, :, 11:].any()
    identity = json.loads((tmp_path / "out" / "predicted.json").read_text(encoding="utf-8"))["identity"]
    assert identity["ignored"] == "no vote"


def test_an_atlas_that_lacks_a_structure_is_told_and_votes_for_background(
    matcher: Path, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    """One atlas has all structures, the other all but one; and a value that neither has is none of the structures."""
    values = sorted(phantom_cohort.label_names)
    labelled = [case for case in phantom_cohort.cases if case.label is not None][:3]
    for place in ("images", "labels"):
        (tmp_path / "atlases" / place).mkdir(parents=True)
    for case, dropped in zip(labelled, ([values[-1]], values[-2:]), strict=False):
        assert case.label is not None
        shutil.copy(case.image, tmp_path / "atlases" / "images" / f"{case.id}.nii.gz")
        label = nib.load(case.label)
        kept = np.where(np.isin(np.asarray(label.dataobj), dropped), 0, np.asarray(label.dataobj))
        nib.save(
            nib.Nifti1Image(kept.astype(np.uint8), label.affine), tmp_path / "atlases" / "labels" / f"{case.id}.nii.gz"
        )
    names = {str(value): name for value, name in phantom_cohort.label_names.items()}
    (tmp_path / "atlases" / "labels.json").write_text(json.dumps(names), encoding="utf-8")
    outcome = propagate([tmp_path / "atlases"], [labelled[2].image], matcher, tmp_path / "out", QUICK)
    assert outcome.atlases.lacking == [(labelled[1].id, names[str(values[-2])])]
    (found,) = (path for path in (tmp_path / "out").glob("*.nii.gz") if "confidence" not in path.name)
    assert set(np.unique(np.asarray(nib.load(found).dataobj))) <= {0, *values[:-1]}
    assert set(json.loads((tmp_path / "out" / "labels.json").read_text())) == {str(value) for value in values[:-1]}
