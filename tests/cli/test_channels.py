"""Several channels from the source to the prediction, by the commands."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.backbones.weights import read_size
from gvsl.cli import main
from gvsl.store import Store

from ..channels import make_files, make_task
from .conftest import CaptureFixture, Complaint

SMALL = ["--backbone.width", "8", "--backbone.levels", "2", "--data.workers", "0", "--data.batch-size", "1"]


def test_what_a_source_has_is_said_and_taken_as_asked(
    tmp_path: Path, capsys: CaptureFixture, complaint: Complaint
) -> None:
    task = make_task(tmp_path / "Task05", ["T2", "ADC"], 3, (8, 8, 8))
    words = ["prepare", str(task), str(tmp_path / "store"), "--dataset", "decathlon", "--processes", "1"]
    assert "has 2 channels per image (T2, ADC): give --channels all, or those to take" in complaint(*words)
    assert not (tmp_path / "store").exists()
    assert main([*words, "--channels", "all"]) == 0
    assert "Channels: T2 (percentiles 0.5 to 99.5), ADC (percentiles 0.5 to 99.5)" in capsys.readouterr().out
    assert "ADC=percentiles:0.5:99.5, now ADC=" in complaint(*words, "--channels", "ADC")
    words[2] = str(tmp_path / "other")
    assert "asoca has images of one channel: leave out --channels" in complaint(*words[:4], "asoca", "--channels", "T2")
    assert main(["prepare", str(folder_of(tmp_path)), str(tmp_path / "plain"), "--processes", "1"]) == 0
    assert "--channels 0000 0001 takes them as one" in capsys.readouterr().out


def folder_of(root: Path) -> Path:
    make_files(root / "folder", "a", ["0000", "0001"])
    return root / "folder"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "shape", "spacing", "asked", "more"),
    [
        (["FLAIR", "T1w", "t1gd", "T2w"], (24, 24, 20), (1.0, 1.0, 1.0), ["all"], []),
        (
            ["T2", "ADC"],
            (28, 28, 10),
            (0.8, 0.8, 3.0),
            ["T2", "ADC=window:0:400"],
            ["--spacing", "0.8", "0.8", "3"],
        ),
    ],
)
def test_a_task_of_several_channels_from_end_to_end(
    tmp_path: Path,
    complaint: Complaint,
    modalities: list[str],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    asked: list[str],
    more: list[str],
) -> None:
    task, store, out = make_task(tmp_path / "Task", modalities, 6, shape, spacing), tmp_path / "store", tmp_path / "out"
    source = ["prepare", str(task)]
    given = ["--dataset", "decathlon", "--processes", "1", *more]
    assert main([*source, str(store), *given, "--channels", *asked]) == 0
    opened = Store.open(store)
    assert opened.channel_count == len(modalities) and opened.preprocessing.voxel == spacing
    assert main(["inspect", str(store), "--verify"]) == 0
    crop = ["16", "16", "8"]
    for method in ("gvsl", "models-genesis", "denoising", "simsiam", "byol"):
        run = [str(store), "--out", str(tmp_path / method), "--method", method, "--trainer.max-steps", "2", *SMALL]
        assert main(["pretrain", *run, "--data.crop", *crop]) == 0, method
        assert read_size(tmp_path / method).in_channels == len(modalities)
    train = ["--mode", "finetune", "--max-steps", "2", "--validate-every", "2", "--crop", *crop]
    weights = ["--weights", str(tmp_path / "gvsl")]
    assert main(["transfer", str(store), *weights, *train, "--out", str(tmp_path / "run")]) == 0
    scratch = ["--weights", "scratch", "--mode", "scratch", "--width", "8", "--levels", "2", *train[2:]]
    assert main(["transfer", str(store), *scratch, "--out", str(tmp_path / "scratch")]) == 0
    assert main(["predict", str(tmp_path / "run"), str(task / "imagesTs"), "--out", str(out)]) == 0
    found = nibabel.load(out / "test_0.nii.gz")
    assert found.shape == shape
    np.testing.assert_allclose(found.header.get_zooms(), spacing)
    to = ["--out", str(tmp_path / "carried"), "--refine", "0", "--least-dice", "0"]
    assert main(["propagate", str(store), str(task / "imagesTs"), *weights, *to]) == 0
    one = tmp_path / "one"
    assert main([*source, str(one), *given, "--channels", modalities[1]]) == 0
    refused = complaint("transfer", one, *weights, *train, "--out", tmp_path / "no")
    assert f"takes {len(modalities)} channels, but {one} has 1 ({modalities[1]})" in refused
