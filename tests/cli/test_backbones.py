"""A run on a network of nnU-Net goes the whole way that one on gvsl's own goes."""

from pathlib import Path

import pytest

from gvsl.cli import main
from gvsl.records import read_record

from .conftest import Complaint

pytest.importorskip("dynamic_network_architectures", reason="pip install 'gvsl[nnunet]'")

NETWORK = ("--backbone.name", "resenc", "--width", 8, "--levels", 3, "--backbone.blocks", "[1, 1, 1]")
SHORT = ("--max-steps", 2, "--crop", 16, "--batch-size", 1, "--device", "cpu")


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


@pytest.fixture
def pretrained(store: Path, tmp_path: Path) -> Path:
    run("pretrain", store, "--out", tmp_path / "run", *NETWORK, *SHORT, "--workers", 0)
    return tmp_path / "run"


@pytest.mark.slow
def test_a_pretraining_records_its_network_and_a_transfer_takes_it(
    store: Path, pretrained: Path, tmp_path: Path, complaint: Complaint
) -> None:
    chosen = {"name": "resenc", "blocks": [1, 1, 1], "max_width": 320}
    config = read_record(pretrained).config["backbone"]
    assert {name: config[name] for name in chosen} == chosen
    out, weights = tmp_path / "linear", ("--weights", pretrained)
    said = complaint("transfer", store, *weights, "--mode", "linear", "--out", out, "--backbone.name", "unet")
    assert "backbone is unet, but" in said and "has backbone resenc" in said
    linear = ("transfer", store, *weights, "--mode", "linear", "--out", out, "--backbone.name", "resenc")
    said = complaint(*linear, "--backbone.blocks", "[1, 2, 1]")
    assert "blocks is [1, 2, 1], but" in said and "leave out --backbone.blocks" in said
    said = complaint(*linear, "--backbone.max-width", 64)
    assert "max-width is 64, but" in said and "leave out --backbone.max-width" in said
    run("transfer", store, *weights, "--mode", "linear", "--out", out, *SHORT)
    config = read_record(out).config
    assert (config["backbone"], config["width"], config["levels"]) == (chosen, 8, 3)
    run("predict", out, store.parent / "source" / "images" / "case_3.nii.gz", "--out", tmp_path / "maps")
    assert (tmp_path / "maps" / "case_3.nii.gz").is_file()


@pytest.mark.slow
def test_every_other_command_takes_the_runs(store: Path, pretrained: Path, tmp_path: Path) -> None:
    images = store.parent / "source" / "images"
    weights = ("--weights", pretrained)
    run("transfer", store, *weights, "--mode", "finetune", "--out", tmp_path / "finetune", *SHORT)
    scratch = ("--weights", "scratch", "--mode", "scratch")
    run("transfer", store, *scratch, "--out", tmp_path / "scratch", *NETWORK, *SHORT)
    assert read_record(tmp_path / "scratch").config["backbone"]["blocks"] == [1, 1, 1]
    carrying = ("--weights", pretrained, "--mode", "carried")
    run("transfer", store, *carrying, "--out", tmp_path / "carried", "--device", "cpu")
    one, other = (images / f"case_{number}.nii.gz" for number in (0, 1))
    run("register", one, other, *weights, "--out", tmp_path / "registered", "--device", "cpu")
    run("propagate", store, other, *weights, "--out", tmp_path / "propagated", "--device", "cpu")
    for name in ("run", "finetune"):
        run("inspect", tmp_path / name)
        run("doctor", tmp_path / name)
    runs = [tmp_path / name for name in ("run", "finetune", "scratch")]
    run("report", *runs, "--out", tmp_path / "report.html")
    run("push", tmp_path / "finetune", "someone/heart", "--out", tmp_path / "pushed")
    assert "nnU-Net's U-Net with a residual encoder" in (tmp_path / "pushed" / "README.md").read_text()
    run("transfer", store, "--weights", tmp_path / "pushed", "--mode", "linear", "--out", tmp_path / "again", *SHORT)
