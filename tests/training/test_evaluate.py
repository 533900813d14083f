from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.data import read_crop
from gvsl.datasets import Dataset
from gvsl.errors import UserError
from gvsl.geometry import gaussian_smooth, identity_grid, inside, nonpositive_jacobian_fraction, warp
from gvsl.heads import DeformableHead, PooledAffineHead
from gvsl.losses import local_ncc_loss
from gvsl.methods import GVSL, GVSLSettings
from gvsl.methods.load_method import load_method
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.records import RunRecord, read_record, write_record
from gvsl.records.matching import MATCHING_METRICS
from gvsl.report.run_metrics import evaluated_split
from gvsl.store import Store
from gvsl.training import awaits_evaluation, evaluate_pretraining

CROP = (32, 16, 16)
PHANTOM_SHAPE = (24, 20, 18)
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path, phantom_store: Store) -> MakeRun:
    """Write what a pre-training leaves, of a network whose heads do move voxels."""
    return maker(tmp_path / "run", phantom_store)


@pytest.fixture(scope="module")
def evaluated(phantom_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """Such a run, evaluated, to be read only, and the record that the evaluation returned."""
    run = maker(tmp_path_factory.mktemp("evaluated") / "run", phantom_store)()
    return run, evaluate_pretraining(run, phantom_store)


def maker(run: Path, usual: Store) -> MakeRun:
    def make(settings: GVSLSettings | None = None, store: Store = usual, split: str = "pretrain") -> Path:
        torch.manual_seed(0)
        settings = replace(settings or GVSLSettings(), affine_head="pooled", deformable_head="direct")
        method = GVSL(UNet3D(width=8, levels=3), settings)
        if method.matching is not None:
            assert isinstance(method.matching.deformable, DeformableHead)
            torch.nn.init.normal_(method.matching.deformable.field.weight, std=0.03)
            if isinstance(method.matching.affine, PooledAffineHead):
                torch.nn.init.normal_(method.matching.affine.translation.weight, std=0.1)
        heads = {name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")}
        save_weights(run, method.backbone, method="gvsl", preprocessing=store.preprocessing, provenance={}, heads=heads)
        config = {"method": "gvsl", "data": {"crop": list(CROP), "split": split}, "pretext": as_values(settings)}
        source = {"name": "phantoms", "hash": store.hash}
        record = RunRecord("pretrain", "run", 0, config, source, "finished", metrics={"train/loss": 0.5})
        write_record(record, run)
        return run

    return make


def as_values(settings: Any) -> dict[str, Any]:
    """Nested settings as JSON has them."""
    return {
        name: as_values(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in vars(settings).items()
    }


def label_crop(store: Store, case: str) -> NDArray[np.int64]:
    """A label map of 24 x 20 x 18 voxels at 32 x 16 x 16, in plain slices."""
    fitted = np.zeros(CROP, dtype=np.int64)
    fitted[4:28] = store.label(case)[:, 2:18, 1:17]
    return fitted


def mean_dice(one: NDArray[np.int64], other: NDArray[np.int64], values: list[int]) -> float:
    scores = []
    for value in values:
        both = np.count_nonzero((one == value) & (other == value))
        either = np.count_nonzero(one == value) + np.count_nonzero(other == value)
        scores.append(2 * both / either if either else 1.0)
    return float(np.mean(scores))


def test_each_held_out_volume_is_matched_with_the_next(evaluated: tuple[Path, RunRecord], phantom_store: Store) -> None:
    run, record = evaluated
    ids = phantom_store.split("val")
    assert [row["id"] for row in record.cases] == [f"{ids[(i + 1) % 3]}->{ids[i]}" for i in range(3)]
    method = load_method(run)
    assert isinstance(method, GVSL)
    values = sorted(phantom_store.label_names)
    for row in record.cases:
        moving, fixed = row["id"].split("->")
        images = [read_crop(phantom_store, case, CROP)[None] for case in (moving, fixed)]
        with torch.no_grad():
            matching = method.match(images[0], images[1])

        def ncc(field: Tensor, images: list[Tensor] = images) -> float:
            warped, target = (gaussian_smooth(image, 1.0) for image in (warp(images[0], field), images[1]))
            return float(local_ncc_loss(target, warped, mask=inside(field)))

        assert matching.dvf.abs().max() > 0.5
        assert row["ncc"] == pytest.approx(ncc(matching.dvf), abs=1e-4)
        assert row["ncc_affine"] == pytest.approx(ncc(matching.affine), abs=1e-4)
        assert row["ncc_identity"] == pytest.approx(ncc(torch.zeros(1, 3, *CROP)), abs=1e-4)
        assert row["folded"] == pytest.approx(float(nonpositive_jacobian_fraction(matching.dvf)))
        before, truth = label_crop(phantom_store, moving), label_crop(phantom_store, fixed)
        after = warp(torch.from_numpy(before)[None, None].double(), matching.dvf, mode="nearest")[0, 0]
        assert row["dice_before"] == pytest.approx(mean_dice(before, truth, values))
        assert row["dice_after"] == pytest.approx(mean_dice(after.long().numpy(), truth, values), abs=0.01)
        by_affine = warp(torch.from_numpy(before)[None, None].double(), matching.affine, mode="nearest")[0, 0]
        assert row["dice_affine"] == pytest.approx(mean_dice(by_affine.long().numpy(), truth, values), abs=0.01)


def test_the_record_on_disk_has_the_means_and_keeps_what_it_had(
    evaluated: tuple[Path, RunRecord], phantom_store: Store
) -> None:
    run, returned = evaluated
    record = read_record(run)
    assert record == returned
    assert record.metrics["train/loss"] == 0.5
    for name in ("ncc", "ncc_affine", "ncc_identity", "folded", "dice_before", "dice_after"):
        assert record.metrics[f"val/{name}"] == pytest.approx(np.mean([row[name] for row in record.cases]))
    assert record.labels == {str(value): name for value, name in phantom_store.label_names.items()}
    # Once more gives the same, and nothing twice.
    assert evaluate_pretraining(run, phantom_store) == record


def test_an_older_record_without_controls_awaits_evaluation(
    make_run: MakeRun, evaluated: tuple[Path, RunRecord]
) -> None:
    run = make_run()
    assert awaits_evaluation(run)
    record = replace(evaluated[1])
    write_record(record, run)
    assert {metric.name for metric in MATCHING_METRICS} == record.cases[0].keys() - {"id"}
    assert not awaits_evaluation(run)
    record.cases = [{name: row[name] for name in row if "smooth" not in name} for row in record.cases]
    write_record(record, run)
    assert awaits_evaluation(run)


def test_pictures_of_pairs_are_planes_through_the_structures(
    evaluated: tuple[Path, RunRecord], phantom_store: Store
) -> None:
    run, record = evaluated
    pairs = [picture for picture in record.pictures if picture["kind"] == "pair"]
    assert [pair["file"] for pair in pairs] == [f"pictures/pair-{index}.npz" for index in range(3)]
    moving, fixed = record.cases[0]["id"].split("->")
    assert pairs[0]["title"] == f"{moving} onto {fixed} (val)"
    method = load_method(run)
    assert isinstance(method, GVSL)
    images = [read_crop(phantom_store, case, CROP)[None] for case in (moving, fixed)]
    with torch.no_grad():
        matching = method.match(images[0], images[1])
    labels = [label_crop(phantom_store, case) for case in (moving, fixed)]
    middle = [round(float(place)) for place in np.argwhere(labels[1] > 0).mean(axis=0)]
    positions = (identity_grid(CROP, dtype=torch.float32, device="cpu") + matching.dvf)[0].numpy()
    values = [0, *sorted(phantom_store.label_names)]
    volumes = {
        "moving": images[0][0, 0].numpy(),
        "fixed": images[1][0, 0].numpy(),
        "affine": warp(images[0], matching.affine)[0, 0].numpy(),
        "warped": warp(images[0], matching.dvf)[0, 0].numpy(),
        "moving_label": np.searchsorted(values, labels[0]),
        "fixed_label": np.searchsorted(values, labels[1]),
    }
    with np.load(run / pairs[0]["file"], allow_pickle=False) as picture:
        for axis in range(3):
            for name, volume in volumes.items():
                np.testing.assert_allclose(picture[f"{name}_{axis}"], volume.take(middle[axis], axis), atol=1e-3)
            others = [other for other in range(3) if other != axis]
            expected = positions[others].take(middle[axis], axis + 1)
            np.testing.assert_allclose(picture[f"grid_{axis}"], expected, atol=1e-3)
            assert picture[f"warped_label_{axis}"].shape == picture[f"fixed_label_{axis}"].shape
        for name in ("ncc", "ncc_affine", "ncc_identity", "dice_before", "dice_after"):
            assert picture[name] == pytest.approx(record.cases[0][name])


def test_pictures_of_restorations_show_what_was_damaged(
    evaluated: tuple[Path, RunRecord], phantom_store: Store
) -> None:
    run, record = evaluated
    shown = [picture for picture in record.pictures if picture["kind"] == "restoration"]
    ids = phantom_store.split("val")
    assert [picture["title"] for picture in shown] == [f"{ids[0]} (val)", f"{ids[1]} (val)"]
    with np.load(run / shown[0]["file"], allow_pickle=False) as picture:
        original = read_crop(phantom_store, ids[0], CROP)[0].numpy()
        for axis in range(3):
            np.testing.assert_array_equal(picture[f"original_{axis}"], original.take(CROP[axis] // 2, axis))
            assert picture[f"restored_{axis}"].shape == picture[f"original_{axis}"].shape
        damage = [(picture[f"damaged_{axis}"] != picture[f"original_{axis}"]).mean() for axis in range(3)]
        assert min(damage) > 0.1


@pytest.mark.parametrize(
    ("ablation", "kinds"),
    [("matching", {"restoration"}), ("affine", {"pair", "restoration"}), ("restoration", {"pair"})],
)
def test_ablations_show_what_they_have(make_run: MakeRun, phantom_store: Store, ablation: str, kinds: set[str]) -> None:
    run = make_run(GVSLSettings(**{ablation: False}))  # type: ignore[arg-type]
    record = evaluate_pretraining(run, phantom_store)
    assert {picture["kind"] for picture in record.pictures} == kinds
    assert bool(record.cases) == ("pair" in kinds)
    if ablation == "affine":
        assert all(row["ncc_affine"] == row["ncc_identity"] for row in record.cases)


def test_volumes_without_labels_are_matched_all_the_same(
    make_run: MakeRun, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    """The first of three validation volumes has no label map, so only one pair has a Dice."""
    held_out = [case.id for case in phantom_cohort.cases if "val" in case.splits]
    cases = [replace(case, label=None) if case.id == held_out[0] else case for case in phantom_cohort.cases]
    contract = replace(PRESETS["ct"], crop="none")
    store = prepare(cases, tmp_path / "store", contract, label_names=phantom_cohort.label_names, source="partly")
    record = evaluate_pretraining(make_run(store=store), store)
    assert [("dice_after" in row) for row in record.cases] == [False, True, False]
    assert record.metrics["val/dice_after"] == pytest.approx(record.cases[1]["dice_after"])
    assert record.metrics["val/ncc"] == pytest.approx(np.mean([row["ncc"] for row in record.cases]))


def test_a_store_without_held_out_volumes_says_which_it_used(
    make_run: MakeRun, phantom_cohort: Dataset, tmp_path: Path
) -> None:
    cases = [replace(case, label=None, splits=("pretrain",)) for case in phantom_cohort.cases[:2]]
    contract = replace(PRESETS["ct"], crop="none")
    store = prepare(cases, tmp_path / "store", contract, label_names=None, source="bare")
    record = evaluate_pretraining(make_run(store=store), store)
    assert len(record.cases) == 2
    assert {name.partition("/")[0] for name in record.metrics} == {"train", "pretrain"}
    assert all(picture["title"].endswith("(pretrain)") for picture in record.pictures)
    assert not any("dice" in name for name in record.metrics)


def test_a_single_held_out_volume_has_no_partner_so_pairs_are_of_training(
    make_run: MakeRun, phantom_cohort: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = [("pretrain",), ("pretrain",), ("val",)]
    cases = [
        replace(case, label=None, splits=split) for case, split in zip(phantom_cohort.cases[:3], splits, strict=True)
    ]
    contract = replace(PRESETS["ct"], crop="none")
    store = prepare(cases, tmp_path / "store", contract, label_names=None, source="bare")
    run = make_run(store=store)
    record = evaluate_pretraining(run, store)
    said = capsys.readouterr().err
    assert f"the split val of {store.place} has one subject, and a pair needs two: the run is measured on" in said
    assert [row["id"] for row in record.cases] == [
        f"{cases[1].id}->{cases[0].id}",
        f"{cases[0].id}->{cases[1].id}",
    ]
    assert "pretrain/smooth_ncc_swapped" in record.metrics
    assert evaluated_split(record) == "pretrain"
    assert not awaits_evaluation(run)
    write_record(replace(record, cases=[]), run)  # as an earlier gvsl left it
    assert awaits_evaluation(run)
    blind = make_run(GVSLSettings(matching=False), store=store)
    assert evaluated_split(evaluate_pretraining(blind, store)) == "val"
    assert not awaits_evaluation(blind)


def test_a_run_on_another_split_is_measured_there_and_on_no_more_than_some_volumes(
    make_run: MakeRun,
    phantom_cohort: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gvsl.training.evaluate.MOST", 3)
    cases = [replace(case, label=None, splits=("train",)) for case in phantom_cohort.cases[:4]]
    contract = replace(PRESETS["ct"], crop="none")
    store = prepare(cases, tmp_path / "store", contract, label_names=None, source="bare")
    run = make_run(store=store, split="train")
    record = evaluate_pretraining(run, store)
    said = capsys.readouterr().err
    assert "has no volume: the run is measured on volumes of train, which it was trained on" in said
    assert f"{run} is measured on 3 of the 4 volumes of train, drawn at random" in said
    assert len(record.cases) == 3
    assert evaluated_split(record) == "pretrain"


def test_held_out_pairs_are_of_two_subjects(make_run: MakeRun, phantom_cohort: Dataset, tmp_path: Path) -> None:
    names = ["", "", "a", "a", "b", "b"]
    cases = [
        replace(case, label=None, subject=name, splits=("val" if name else "pretrain",))
        for case, name in zip(phantom_cohort.cases, names, strict=False)
    ]
    contract = replace(PRESETS["ct"], crop="none")
    store = prepare(cases, tmp_path / "store", contract, label_names=None, source="bare")
    record = evaluate_pretraining(make_run(store=store), store)
    val = store.split("val")
    assert len(val) == 4
    expected = [(val[2], val[0]), (val[3], val[1]), (val[0], val[2]), (val[1], val[3])]
    assert [row["id"] for row in record.cases] == [f"{moving}->{fixed}" for moving, fixed in expected]


def test_a_store_of_another_contract_is_refused(
    make_run: MakeRun, phantom_cohort: Dataset, phantom_store: Store, tmp_path: Path
) -> None:
    other = replace(PRESETS["ct"], crop="none", upper=500.0)
    store = prepare(phantom_cohort.cases[:2], tmp_path / "store", other, label_names=None, source="other")
    run = make_run()
    before = (run / "record.json").read_bytes()
    with pytest.raises(UserError, match=r"trained on volumes with upper 1024, but .* was prepared with upper 500"):
        evaluate_pretraining(run, store)
    assert (run / "record.json").read_bytes() == before
    assert not (run / "pictures").exists()


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path, phantom_store: Store) -> None:
    with pytest.raises(UserError, match=r"holds no record\.json"):
        evaluate_pretraining(tmp_path, phantom_store)
