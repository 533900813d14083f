"""Predictions of images with several channels."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gvsl.backbones import UNet3D
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.prediction import PredictSettings, find_images, predict, segment_volume
from gvsl.preprocessing import Preprocessing
from gvsl.preprocessing.spec import Channel
from gvsl.transfer import SegmentationNetwork, TransferSettings, load_adapted, save_adapted
from gvsl.transfer.weights import Segmenter, segmenter_config

from ..channels import make_channels, make_files, save

T2, ADC = Channel("T2", 0, 2, "percentiles", 0.5, 99.5), Channel("ADC", 1, 2, "window", 0.0, 400.0)
ON_CPU = PredictSettings(device="cpu")


def make_run(folder: Path, channels: tuple[Channel, ...]) -> Path:
    """A run with random weights."""
    torch.manual_seed(0)
    save_adapted(
        folder,
        SegmentationNetwork(UNet3D(max(1, len(channels)), width=8, levels=3), 3),
        segmenter_config({1: "core", 2: "ball"}, kernel=3),
        settings=TransferSettings(width=8, crop=(96, 96, 96)),
        method="x",
        preprocessing=Preprocessing(channels=channels),
        provenance={},
    )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("both") / "run", (T2, ADC))


def result(out: Path, name: str) -> NDArray[np.uint8]:
    return np.asarray(nibabel.load(out / f"{name}.nii.gz").dataobj)


def test_files_numbers_names_and_a_fourth_axis_give_the_same(tmp_path: Path, run: Path) -> None:
    array, _ = make_channels(0, 2)
    save(tmp_path / "in" / "axis.nii.gz", array)
    make_files(tmp_path / "in", "numbered", ["0000", "0001"])
    make_files(tmp_path / "in" / "named", "a", ["t2", "ADC"])
    outcome = predict(run, find_images([tmp_path / "in"]), tmp_path / "out", ON_CPU)
    assert (sorted(case.id for case in outcome.done), outcome.failed) == (["axis", "named_a", "numbered"], [])
    model = load_adapted(run)
    assert isinstance(model, Segmenter)
    expected = segment_volume(model, [Volume(array[..., number], np.eye(4)) for number in range(2)])
    assert len(np.unique(expected)) > 1
    for name in ("axis", "named_a", "numbered"):
        np.testing.assert_array_equal(result(tmp_path / "out", name), expected)


def test_what_lacks_a_channel_is_listed_and_the_others_are_done(tmp_path: Path, run: Path) -> None:
    make_files(tmp_path, "a", ["0000", "0001"])
    array, _ = make_channels(0, 3)
    save(tmp_path / "b_0000.nii.gz", array[..., 0])
    save(tmp_path / "c.nii.gz", array[..., 0])
    save(tmp_path / "d.nii.gz", array)
    save(tmp_path / "e_0000.nii.gz", array[..., 0])
    save(tmp_path / "e_0001.nii.gz", array[:, :-1, :, 1])
    outcome = predict(run, find_images([tmp_path]), tmp_path / "out", ON_CPU)
    assert [case.id for case in outcome.done] == ["a"]
    reasons = {case.id: reason for case, reason in outcome.failed}
    assert reasons["b"] == "lacks the channel ADC: there is no such file beside it"
    assert reasons["c"].startswith("has 1 of 2 channels")
    assert reasons["d"].startswith("has 3 of 2 channels")
    assert reasons["e"].startswith("its channel ADC (e_0001.nii.gz): its grid is not that of T2")


def test_a_run_on_one_of_several_channels_takes_that_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (ADC,))
    array, _ = make_channels(0, 2)
    make_files(tmp_path / "in", "files", ["0000", "0001"])
    save(tmp_path / "in" / "axis.nii.gz", array)
    save(tmp_path / "in" / "alone.nii.gz", array[..., 1])
    outcome = predict(run, find_images([tmp_path / "in"]), tmp_path / "out", ON_CPU)
    assert outcome.failed == []
    for name in ("files", "axis"):
        np.testing.assert_array_equal(result(tmp_path / "out", name), result(tmp_path / "out", "alone"))


def test_a_model_refuses_another_number_of_volumes(run: Path) -> None:
    model = load_adapted(run)
    assert isinstance(model, Segmenter)
    with pytest.raises(UserError, match=r"has 1 channels, not 2 \(T2, ADC\)"):
        segment_volume(model, Volume(make_channels(0, 1)[0][..., 0], np.eye(4)))


def test_weights_that_name_other_channels_than_they_take_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (T2, ADC))
    config = run / "weights" / "config.json"
    text = config.read_text(encoding="utf-8")
    start = text.index('"channels"')
    config.write_text(text[:start].rstrip().rstrip(",") + text[text.index("]", start) + 1 :], encoding="utf-8")
    with pytest.raises(UserError, match="takes images of 2 channels, but names 1"):
        predict(run, [], tmp_path / "out", ON_CPU)
