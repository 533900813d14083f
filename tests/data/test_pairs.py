import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gvsl.data import DataSettings, PairStream, crop_for, pair_loader, read_crop
from gvsl.data.order import independent_pairs
from gvsl.data.pairs import affordable_workers
from gvsl.datasets import Dataset, folder
from gvsl.errors import UserError
from gvsl.io import Volume, write_nifti
from gvsl.memory import shared_memory
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store
from gvsl.store.manifest import CASES_NAME
from gvsl.store.table import CaseTable, row_line
from gvsl.types import PairBatch

SETTINGS = DataSettings(batch_size=2, crop=(16, 24, 20), workers=0)
SIDES = ("moving", "fixed")


def equal(one: PairBatch, other: PairBatch) -> bool:
    return (
        (one.moving_ids, one.fixed_ids) == (other.moving_ids, other.fixed_ids)
        and torch.equal(one.moving, other.moving)
        and torch.equal(one.fixed, other.fixed)
    )


def test_a_batch_holds_the_volumes_that_it_names(phantom_store: Store) -> None:
    stream = PairStream(phantom_store, SETTINGS, seed=3)
    batch = stream.batch(5)
    assert batch.moving.shape == batch.fixed.shape == (2, 1, 16, 24, 20)
    assert batch.moving.dtype == torch.float32
    ids = phantom_store.split("pretrain")
    expected = [(ids[moving], ids[fixed]) for moving, fixed in independent_pairs(range(len(ids)), 2, seed=3, step=5)]
    assert list(zip(batch.moving_ids, batch.fixed_ids, strict=True)) == stream.pairs(5) == expected
    for images, ids in ((batch.moving, batch.moving_ids), (batch.fixed, batch.fixed_ids)):
        assert images.min() >= 0
        assert images.max() <= 1
        for image, case in zip(images, ids, strict=True):
            # 24 x 20 x 18 voxels: cropped along the first axis, padded along the others.
            np.testing.assert_array_equal(image[0, :, 2:22, 1:19].numpy(), phantom_store.image(case)[4:20])
            assert not image[0, :, :2].any()
            assert not image[0, :, :, 19:].any()
            assert torch.equal(image, read_crop(phantom_store, case, (16, 24, 20)))


@pytest.mark.parametrize("crop", [(16, 24, 20), (32, 8, 8)])
@pytest.mark.parametrize("pairing", ["whole", "aligned"])
def test_volumes_kept_on_the_device_give_the_same_batches_each_read_once(
    phantom_store: Store, crop: tuple[int, int, int], pairing: Literal["whole", "aligned"]
) -> None:
    settings = replace(SETTINGS, crop=crop, pairing=pairing, workers=2)
    usual = PairStream(phantom_store, settings, seed=3)
    assert usual.kept_on(torch.device("cpu")).resident is None
    kept = PairStream(phantom_store, replace(settings, on_device=True), seed=3).kept_on(torch.device("cpu"))
    assert pair_loader(kept).num_workers == 0
    for step in range(6):
        assert equal(kept.batch(step), usual.batch(step))
    assert kept.resident is not None
    before = {case: volume.data_ptr() for case, volume in kept.resident.held.items()}
    kept.batch(0)
    assert {case: kept.resident.held[case].data_ptr() for case in before} == before
    assert set(before) <= set(usual.ids)


def test_volumes_that_the_device_has_no_memory_for_are_refused(
    phantom_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gvsl.data.resident.available_memory", lambda: 1000)
    stream = PairStream(phantom_store, replace(SETTINGS, on_device=True), seed=3)
    with pytest.raises(UserError, match=r"data\.on_device would keep .* GiB of volumes on cpu.*: leave it out"):
        stream.kept_on(torch.device("cpu"))


def test_a_stream_goes_on_from_any_step(phantom_store: Store) -> None:
    whole = list(islice(PairStream(phantom_store, SETTINGS, seed=1), 5))
    rest = list(islice(PairStream(phantom_store, SETTINGS, seed=1, first_step=3), 2))
    assert all(equal(one, other) for one, other in zip(whole[3:], rest, strict=True))
    assert not equal(whole[0], whole[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_reading_processes_change_nothing(phantom_store: Store, workers: int) -> None:
    def batches(workers: int) -> list[PairBatch]:
        stream = PairStream(phantom_store, replace(SETTINGS, workers=workers), seed=1, first_step=4)
        return list(islice(pair_loader(stream), 5))

    found, expected = batches(workers), batches(0)
    assert all(equal(one, other) for one, other in zip(found, expected, strict=True))


def test_other_splits_can_be_used(phantom_store: Store) -> None:
    batch = PairStream(phantom_store, replace(SETTINGS, split="val", batch_size=8), seed=0).batch(0)
    assert {*batch.moving_ids, *batch.fixed_ids} == set(phantom_store.split("val"))


def test_without_a_crop_it_fits_the_store(phantom_store: Store) -> None:
    free = replace(SETTINGS, crop=None)
    assert crop_for(phantom_store, free) == (32, 16, 16)  # 24 x 20 x 18 to the nearest multiples of 16
    assert crop_for(phantom_store, replace(free, most_voxels=16**3)) == (16, 16, 16)
    assert crop_for(phantom_store, SETTINGS) == (16, 24, 20)
    assert PairStream(phantom_store, free, seed=0).crop == (32, 16, 16)


def test_one_volume_makes_no_pair(phantom_cohort: Dataset, tmp_path: Path) -> None:
    store = prepare(phantom_cohort.cases[:1], tmp_path / "one", PRESETS["ct"], label_names=None, source="one")
    with pytest.raises(UserError, match="has one volume in the split 'pretrain'; a pair needs two"):
        PairStream(store, SETTINGS, seed=0)


def of_subjects(cohort: Dataset, subjects: list[str], folder: Path) -> Store:
    """A store of the first cases of a cohort, of these subjects."""
    cases = [
        replace(case, subject=subject, splits=("pretrain",))
        for case, subject in zip(cohort.cases, subjects, strict=False)
    ]
    return prepare(cases, folder, PRESETS["ct"], label_names=None, source="subjects")


@pytest.mark.parametrize("order", ["independent", "epoch"])
def test_two_scans_of_a_subject_are_never_a_pair(
    phantom_cohort: Dataset, tmp_path: Path, order: Literal["independent", "epoch"]
) -> None:
    store = of_subjects(phantom_cohort, ["Jane Doe", "", "Jane Doe", ""], tmp_path / "store")
    one, two, three, four = store.split("pretrain")
    assert store.subjects([one, two, three, four]) == [one, two, one, four]
    assert b"Jane" not in (store.path / CASES_NAME).read_bytes()
    stream = PairStream(store, replace(SETTINGS, order=order), seed=0)
    pairs = {frozenset(pair) for step in range(30) for pair in stream.pairs(step)}
    assert pairs == {frozenset(pair) for pair in ((one, two), (one, four), (three, two), (three, four))} | (
        {frozenset((two, four))} if order == "independent" else set()
    )
    batch = stream.batch(0)
    assert batch.subjects == store.subjects([*batch.moving_ids, *batch.fixed_ids])


def test_a_subject_with_most_scans_has_no_epochs_and_an_only_one_pairs_with_itself(
    phantom_cohort: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = of_subjects(phantom_cohort, ["a", "a", "a", ""], tmp_path / "most")
    with pytest.raises(UserError, match=r"a subject has 3 of the 4 volumes .* set data.order to independent"):
        PairStream(store, replace(SETTINGS, order="epoch"), seed=0)
    last = store.split("pretrain")[-1]
    assert all(last in pair for step in range(9) for pair in PairStream(store, SETTINGS, seed=0).pairs(step))
    alone = of_subjects(phantom_cohort, ["a"] * 4, tmp_path / "alone")
    assert all(one != two for one, two in PairStream(alone, replace(SETTINGS, order="epoch"), seed=0).pairs(0))
    assert "are of one subject, and so are pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"crop": (16, 1, 16)}, "data.crop is"),
        ({"split": "test"}, "test"),
        ({"jitter": 0.6}, "data.jitter is 0.6"),
        ({"workers": -1}, "data.workers is -1"),
    ],
)
def test_settings_out_of_range_are_refused(phantom_store: Store, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairStream(phantom_store, replace(SETTINGS, **change), seed=0)


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["independent", "epoch"])
def test_processes_are_sharded_from_what_one_process_would_draw(
    phantom_store: Store, order: Literal["independent", "epoch"]
) -> None:
    stream = PairStream(phantom_store, replace(SETTINGS, batch_size=1, order=order), seed=4)
    for step in range(20):
        shards = [stream.shard(rank, 2).pairs(step) for rank in (0, 1)]
        seen = [volume for shard in shards for pair in shard for volume in pair]
        assert len(seen) == 4
        together = PairStream(phantom_store, replace(SETTINGS, batch_size=2, order=order), seed=4).pairs(step)
        assert shards[0] + shards[1] == together
        if order == "epoch":  # four volumes: each is seen by one process
            assert sorted(seen) == sorted(phantom_store.split("pretrain"))


def test_a_shard_goes_on_from_any_step_and_with_any_number_of_reading_processes(phantom_store: Store) -> None:
    def batches(first: int, workers: int, count: int) -> list[PairBatch]:
        settings = replace(SETTINGS, batch_size=1, order="epoch", pairing="aligned", workers=workers)
        return list(islice(pair_loader(PairStream(phantom_store, settings, 1, first).shard(1, 2)), count))

    whole, rest = batches(0, 0, 6), batches(3, 2, 3)
    assert all(equal(one, other) for one, other in zip(whole[3:], rest, strict=True))


# --- aligned pairs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two volumes of unlike sizes, nowhere dark, whose values rise with their own relative coordinate along the first
    axis: from 0.2 to 1."""
    root = tmp_path_factory.mktemp("ramps")
    for name, shape in (("a", (60, 20, 18)), ("b", (90, 20, 18))):
        ramp = (np.arange(shape[0]) + 0.5) / shape[0]
        image = np.broadcast_to((0.2 + 0.8 * ramp[:, None, None]) * 2048 - 1024, shape).astype(np.float32)
        write_nifti(root / f"{name}.nii.gz", Volume(image, np.eye(4)))
    contract = replace(PRESETS["ct"], crop="none")
    return prepare(folder(root).cases, root / "store", contract, source="ramps")


def relative_centres(store: Store, chosen: DataSettings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The relative centres of the crops of 100 pairs, moving and fixed, read off the voxels."""
    stream = PairStream(store, chosen, seed=0)
    batches = [stream.batch(step) for step in range(50)]
    moving, fixed = ((torch.cat([getattr(batch, side) for batch in batches]) - 0.2) / 0.8 for side in SIDES)
    return moving.mean(dim=(1, 2, 3, 4)).double().numpy(), fixed.mean(dim=(1, 2, 3, 4)).double().numpy()


def test_aligned_crops_lie_at_the_same_relative_place(ramps: Store) -> None:
    chosen = replace(SETTINGS, crop=(24, 16, 16), pairing="aligned", jitter=0.0)
    voxel, float16 = 1 / 60, 1e-3
    moving, fixed = relative_centres(ramps, chosen)
    assert np.abs(moving - fixed).max() < voxel + float16
    assert moving.min() < 0.25  # a crop at the border of the smaller volume is centred at 0.2
    assert moving.max() > 0.75
    jittered, aside = relative_centres(ramps, replace(chosen, jitter=0.25))
    most = 0.25 * 24 / 60
    apart = np.abs(jittered - aside)
    assert 0.5 * most < apart.max() < most + voxel + float16
    # Without alignment, which is what pairs of one step's moving and another's fixed are, crops lie far apart.
    assert np.abs(moving - np.roll(fixed, 1)).mean() > 5 * apart.mean()


def test_whole_pairs_are_cropped_about_their_centres(ramps: Store) -> None:
    moving, fixed = relative_centres(ramps, replace(SETTINGS, crop=(24, 16, 16)))
    np.testing.assert_allclose([moving, fixed], 0.5, atol=1e-3)


def in_air(root: Path, crop: str) -> Store:
    """Volumes of air, each with a body in one corner, whose values rise along the first axis."""
    for name, first, side in (("a", 4, 24), ("b", 50, 30), ("c", 8, 40)):
        image = np.full((90, 80, 80), -1024, np.float32)
        ramp = 0.2 + 0.8 * (np.arange(side) + 0.5) / side
        image[first : first + side, 5:29, 45:69] = ramp[:, None, None] * 2048 - 1024
        write_nifti(root / f"{name}.nii.gz", Volume(image, np.eye(4)))
    contract = replace(PRESETS["ct"], crop=crop, margin=0)  # type: ignore[arg-type]
    return prepare(folder(root).cases, root / f"store-{crop}", contract, source="air")


@pytest.mark.parametrize("pairing", ["whole", "aligned"])
def test_what_was_not_cropped_is_cropped_about_its_foreground_all_the_same(
    tmp_path: Path, pairing: Literal["whole", "aligned"]
) -> None:
    whole, cropped = in_air(tmp_path, "none"), in_air(tmp_path, "foreground")
    chosen = replace(SETTINGS, crop=(16, 16, 16), pairing=pairing, jitter=0.0)
    assert whole.cases["a"].foreground == (slice(3, 29), slice(4, 30), slice(44, 70))
    assert {case.foreground for case in cropped.cases.values()} == {None}
    places = set()
    for step in range(20):
        found, expected = (PairStream(store, chosen, seed=1).batch(step) for store in (whole, cropped))
        assert equal(found, expected)
        assert (found.moving > 0.1).float().mean() > 0.8  # the box has a voxel of air about it
        places.add(round(float(found.moving.mean()), 2))
    assert (len(places) > 9) is (pairing == "aligned")


def test_a_store_of_before_is_cropped_about_its_middle(tmp_path: Path) -> None:
    store = in_air(tmp_path, "none")
    rows = [json.loads(line) for line in store.table.lines.splitlines()]
    lines = b"".join(row_line({name: value for name, value in row.items() if name != "foreground"}) for row in rows)
    before = replace(store, table=CaseTable.parse(lines))
    assert not read_crop(before, "a", (16, 16, 16)).any()
    np.testing.assert_array_equal(
        read_crop(before, "c", (16, 16, 16))[0], store.image("c", (slice(37, 53), slice(32, 48), slice(32, 48)))
    )
    assert PairStream(before, SETTINGS, seed=0).centres(0) == [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))] * 2


def test_aligned_crops_of_volumes_no_larger_than_the_crop_are_whole(phantom_store: Store) -> None:
    whole = replace(SETTINGS, crop=(32, 32, 32))
    for step in range(3):
        batches = [
            PairStream(phantom_store, replace(whole, pairing=pairing), seed=0).batch(step)
            for pairing in ("whole", "aligned")
        ]
        assert equal(*batches)


def test_batches_that_do_not_fit_shared_memory_are_read_by_the_training_itself(
    phantom_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    if shared_memory() is None:
        pytest.skip("shared memory has no limit of its own here")
    small = PairStream(phantom_store, DataSettings(crop=(16, 16, 16), workers=2), seed=0)
    assert affordable_workers(small) == 2
    huge = PairStream(phantom_store, DataSettings(crop=(8192, 8192, 8192), workers=2), seed=0)
    assert affordable_workers(huge) == 0
    assert "reading in the training process instead (in Docker, --shm-size gives more)" in capsys.readouterr().err
