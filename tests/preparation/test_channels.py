"""Images of several channels in a store."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.io import read_volume
from gvsl.preparation import prepare
from gvsl.preprocessing import Preprocessing, preprocess
from gvsl.preprocessing.spec import Channel
from gvsl.store import Store, describe, verify

from ..channels import make_channels, make_files, save

T2, ADC = Channel("T2", 0, 2, "percentiles", 0.5, 99.5), Channel("ADC", 1, 2, "window", 0.0, 300.0)
SPEC = Preprocessing(crop="none", margin=0, channels=(T2, ADC))
ENDINGS = ["T2", "ADC"]


def as_case(name: str, files: list[Path], **more: Any) -> Case:
    return Case(name, files[0], channels=tuple(Case(file.name, file) for file in files), **more)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path / "source", "a", ENDINGS)


def make(cases: list[Case], out: Path, spec: Preprocessing = SPEC) -> Store:
    return prepare(cases, out, spec, source="here")


def test_a_store_holds_each_channel_as_it_would_be_alone(tmp_path: Path, files: list[Path]) -> None:
    label = save(tmp_path / "source" / "label.nii.gz", make_channels(0, 1)[1])
    store = make([as_case("a", files, label=label)], tmp_path / "store")
    expected = np.stack(
        [
            preprocess(read_volume(file), None, own)[0].array.astype(np.float16)
            for file, own in zip(files, SPEC.contracts, strict=True)
        ]
    )
    np.testing.assert_array_equal(store.image("a"), expected.astype(np.float32))
    assert store.image("a").shape == (2, *store.cases["a"].shape)
    box = (slice(2, 9), slice(None), slice(4, 20))
    np.testing.assert_array_equal(store.channels("a", box), store.image("a")[:, 2:9, :, 4:20])
    assert store.label("a").shape == store.cases["a"].shape
    assert (verify(store).arrays, verify(store).damaged) == (2, [])
    assert "channel   T2, percentiles 0.5 to 99.5\nchannel   ADC, window 0 to 300\n" in describe(store)


def test_a_fourth_axis_gives_the_same_store_as_files(tmp_path: Path, files: list[Path]) -> None:
    array, _ = make_channels(0, 2)
    four = Case("a", save(tmp_path / "other" / "a.nii.gz", array))
    joined, apart = make([four], tmp_path / "four"), make([as_case("a", files)], tmp_path / "two")
    assert joined.cases["a"].hash == apart.cases["a"].hash
    assert joined.cases["a"].content == apart.cases["a"].content
    one = make([four], tmp_path / "one", replace(SPEC, channels=(ADC,)))
    np.testing.assert_array_equal(one.image("a"), joined.image("a")[1])
    alone = make([Case("a", files[1])], tmp_path / "alone", replace(SPEC, channels=()))
    assert one.cases["a"].content == alone.cases["a"].content


def test_chunks_hold_one_channel_and_damage_in_any_is_seen(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(100, 20, (70, 66, 8, 2)).astype(np.float32)
    store = make([Case("a", save(tmp_path / "source" / "a.nii", array))], tmp_path / "store")
    box = (slice(60, 70), slice(60, 66), slice(0, 8))
    np.testing.assert_array_equal(store.channels("a", box), store.image("a")[:, 60:, 60:])
    path = tmp_path / "store" / "images" / "a.b2nd"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 3 // 4] ^= 4  # in the second channel
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="it is damaged"):
        store.image("a")


def test_what_does_not_fit_costs_its_case_and_is_named(tmp_path: Path, files: list[Path]) -> None:
    source, array = tmp_path / "source", make_channels(1, 3)[0]
    other = save(source / "b_ADC.nii.gz", array[:-1, ..., 0])
    moved = save(source / "c_ADC.nii.gz", array[..., 0], (1.0, 1.0, 1.5))
    flat = save(source / "d_ADC.nii.gz", np.ones_like(array[..., 0]))
    cases = [
        as_case("a", files),
        *(as_case(path.name[0], [files[0], path]) for path in (other, moved, flat, source / "e_ADC.nii.gz")),
        as_case("f", files[:1]),
        Case("g", save(source / "g.nii.gz", array)),
        Case("h", save(source / "h.nii.gz", array[..., 0])),
        Case("i", files[0], unusable="lacks the channel ADC"),
    ]
    store = make(cases, tmp_path / "store")
    assert list(store.cases) == ["a"]
    reasons = [reason for _, reason in sorted(store.refused)]
    for expected in (
        "its channel ADC (b_ADC.nii.gz): its grid is not that of T2: 23 x 22 x 20 instead of 24 x 22 x 20",
        "its channel ADC (c_ADC.nii.gz): its grid is not that of T2: same shape, different position",
        "its channel ADC (d_ADC.nii.gz): every voxel has the same value",
        "its channel ADC (e_ADC.nii.gz): there is no such file",
        "has 1 channels, not 2 (T2, ADC)",
        "has 3 of 2 channels: it is 24 x 22 x 20 x 3",
        "has 1 of 2 channels: it is 24 x 22 x 20",
        "lacks the channel ADC",
    ):
        assert sum(reason.startswith(expected) for reason in reasons) == 1, (expected, reasons)


def test_copies_under_two_names_are_noted(tmp_path: Path, files: list[Path]) -> None:
    store = make([as_case("a", [files[0], files[0]])], tmp_path / "store")
    assert "its channels T2 and ADC are the same image" in store.cases["a"].notes


def test_a_change_of_any_file_is_noticed_and_another_order_is_refused(tmp_path: Path, files: list[Path]) -> None:
    cases = [as_case("a", files)]
    before = make(cases, tmp_path / "store")
    assert make(cases, tmp_path / "store").hash == before.hash
    (line,) = (tmp_path / "store" / "sources.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(json.loads(line)["others"]) == 1
    save(files[1], make_channels(7, 2)[0][..., 1])
    changed = make(cases, tmp_path / "store")
    assert changed.cases["a"].hash != before.cases["a"].hash
    with pytest.raises(UserError, match=r"channels T2=percentiles:0.5:99.5 ADC=window:0:300, now ADC=.* T2="):
        make(cases, tmp_path / "store", replace(SPEC, channels=(ADC, T2)))
    with pytest.raises(UserError, match=r"ADC=window:0:300, now one"):
        make(cases, tmp_path / "store", replace(SPEC, channels=()))


def test_no_channel_is_taken_where_none_is_named(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(UserError, match="has 2 channels, and the preprocessing names none"):
        make([as_case("a", files)], tmp_path / "store", replace(SPEC, channels=()))
