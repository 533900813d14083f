from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gvsl.data import DataSettings, PairStream, crop_for, draw_pairs, pair_loader, read_crop
from gvsl.datasets.dataset import Dataset
from gvsl.errors import UserError
from gvsl.store import PRESETS, Store, prepare
from gvsl.types import PairBatch

SETTINGS = DataSettings(batch_size=2, crop=(16, 24, 20), workers=0)
IDS = ["a", "b", "c", "d"]


def equal(one: PairBatch, other: PairBatch) -> bool:
    return (
        (one.moving_ids, one.fixed_ids) == (other.moving_ids, other.fixed_ids)
        and torch.equal(one.moving, other.moving)
        and torch.equal(one.fixed, other.fixed)
    )


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 6), batch=st.integers(1, 9), seed=st.integers(0, 2**70), step=st.integers(0, 10**7))
def test_the_two_of_a_pair_are_always_different(count: int, batch: int, seed: int, step: int) -> None:
    ids = [str(number) for number in range(count)]
    pairs = draw_pairs(ids, batch, seed, step)
    assert len(pairs) == batch
    for moving, fixed in pairs:
        assert moving != fixed
        assert {moving, fixed} <= set(ids)
    assert pairs == draw_pairs(ids, batch, seed, step)


def test_every_ordered_pair_is_as_likely() -> None:
    counts = Counter(pair for step in range(1200) for pair in draw_pairs(IDS, 2, seed=0, step=step))
    assert len(counts) == 12
    assert min(counts.values()) > 150  # 200 in the mean
    assert max(counts.values()) < 250


def test_seeds_and_steps_have_pairs_of_their_own() -> None:
    ids = [str(number) for number in range(100)]
    drawn = {tuple(draw_pairs(ids, 3, seed, step)) for seed in range(10) for step in range(10)}
    assert len(drawn) == 100


def test_a_batch_holds_the_volumes_that_it_names(phantom_store: Store) -> None:
    batch = PairStream(phantom_store, SETTINGS, seed=3).batch(5)
    assert batch.moving.shape == batch.fixed.shape == (2, 1, 16, 24, 20)
    assert batch.moving.dtype == torch.float32
    assert list(zip(batch.moving_ids, batch.fixed_ids, strict=True)) == draw_pairs(
        phantom_store.split("pretrain"), 2, seed=3, step=5
    )
    for images, ids in ((batch.moving, batch.moving_ids), (batch.fixed, batch.fixed_ids)):
        assert images.min() >= 0
        assert images.max() <= 1
        for image, case in zip(images, ids, strict=True):
            # 24 x 20 x 18 voxels: cropped along the first axis, padded along the others.
            np.testing.assert_array_equal(image[0, :, 2:22, 1:19].numpy(), phantom_store.image(case)[4:20])
            assert not image[0, :, :2].any()
            assert not image[0, :, :, 19:].any()
            assert torch.equal(image, read_crop(phantom_store, case, (16, 24, 20)))


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(SETTINGS, batch_size=0), "data.batch_size is 0"),
        (replace(SETTINGS, crop=(16, 1, 16)), "data.crop is"),
        (replace(SETTINGS, split="test"), "test"),
    ],
)
def test_settings_out_of_range_are_refused(phantom_store: Store, settings: DataSettings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairStream(phantom_store, settings, seed=0)
