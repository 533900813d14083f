"""Mistakes of a user: one line, exit code 2, and nothing written."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.cli import main
from gvsl.store import Store

from .helpers import make_image, write_volume

Complaint = Callable[..., str]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepar"], "no command prepar (did you mean prepare?)"),
        (["prepare"], "source, store"),
        (["prepare", "a", "b", "c"], "unrecognized arguments: c"),
        (["prepare", "a", "b", "--spacin", "1"], "no setting --spacin (did you mean --spacing?)"),
        (["prepare", "a", "b", "--spacing", "wide"], "--spacing is wide: give one spacing in mm, or three"),
        (["prepare", "a", "b", "--spacing", "-1"], "spacing is -1"),
        (["prepare", "a", "b", "--spacing"], "--spacing: expected one argument"),
        (["prepare", "a", "b", "--crop", "all"], "foreground"),
        (["prepare", "a", "b", "--preset", "mri"], "no preset mri"),
        (["prepare", "a", "b", "--dataset", "folders"], "no dataset folders (did you mean folder?)"),
        (["prepare", "nowhere", "b"], "nowhere"),
        (
            ["prepare", "a", "b", "--processes", "2", "--dask", "tcp://x"],
            "--processes is for this machine, and --dask for a cluster",
        ),
        (["prepare", "s3://bucket/scans", "b"], "s3://bucket/scans is a URL; a source is a folder of files: copy or"),
        (["inspect", "nowhere"], "nowhere"),
        (["inspect", "."], "is not a store"),
        (["pretrain"], "store, out"),
        (["pretrain", "nowhere", "--out", "run"], "nowhere"),
        (["pretrain", "a", "--out", "run", "--method", "gvls"], "no method gvls (did you mean gvsl?)"),
        (["pretrain", "a", "--out", "run", "--trainer.max-step", "3"], "did you mean --trainer.max-steps?"),
        (
            ["pretrain", "a", "--out", "run", "--trainer.max-steps", "many"],
            "--trainer.max-steps is many: give a whole number",
        ),
        (["pretrain", "a", "--out", "run", "--pretext.colour", "1"], "no setting --pretext.colour"),
        (["pretrain", "a", "--out", "run", "--data.workers", "-1"], "data.workers is -1: give 0 or more"),
        (
            ["pretrain", "a", "--out", "b", "--method", "rotation", "--pretext.affine", "1"],
            "no setting --pretext.affine",
        ),
        (["methods", "all"], "unrecognized arguments: all"),
        (
            ["pretrain", "a", "--out", "run", "--recipe", "slow"],
            "no recipe slow: name one of demo, paper, quick",
        ),
        (["pretrain", "a", "--out", "run", "--recipe"], "--recipe: expected one argument"),
        (["transfer", "a"], "weights"),
        (["transfer", "a", "--weights", "scratch", "--out", "b", "--task", "flying"], "no task flying"),
        (["transfer", "a", "--weights", "scratch", "--out", "b", "--mode", "best"], "linear"),
        (["transfer", "nowhere", "--weights", "scratch", "--out", "run"], "nowhere"),
        (
            ["transfer", "a", "--weights", "scratch", "--out", "b", "--no-whiten"],
            "--whiten has no effect with optimiser adam: leave it out",
        ),
        (
            ["transfer", "a", "--weights", "scratch", "--out", "b", "--recipe", "quick", "--learning-rate", "1e-3"],
            "--learning-rate has no effect with optimiser lbfgs: leave it out",
        ),
        (["report", "--out", "x.html"], "folders"),
        (["report", "nowhere", "--out", "x.html"], "nowhere"),
        (["demo", "--out"], "--out: expected one argument"),
        (["demo", "--recipe", "slow"], "no recipe slow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_that_names_it(
    words: list[str], expected: str, complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in complaint(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out"],
        ["prepare", "source"],
        ["pretrain", "store", "--out"],
        ["transfer", "store", "--weights", "scratch", "--out"],
        ["report", "run", "--out"],
    ],
    ids=" ".join,
)
def test_an_output_that_exists_is_left_alone(
    words: list[str], complaint: Complaint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    Path("taken").write_text("mine", encoding="utf-8")
    assert "taken exists already" in complaint(*words, "taken")
    assert Path("taken").read_text(encoding="utf-8") == "mine"


def test_there_must_be_something_to_resume(store: Path, tmp_path: Path, complaint: Complaint) -> None:
    assert "nothing-there" in complaint("pretrain", store, "--out", tmp_path / "nothing-there", "--resume")
    assert not (tmp_path / "nothing-there").exists()


def test_one_volume_makes_no_pair(tmp_path: Path, complaint: Complaint) -> None:
    write_volume(tmp_path / "source" / "only.nii.gz", make_image(0))
    assert main(["prepare", str(tmp_path / "source"), str(tmp_path / "store")]) == 0
    assert "pair" in complaint("pretrain", tmp_path / "store", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_crop_too_small_for_the_levels_is_refused_with_a_number_that_fits(
    store: Path, tmp_path: Path, complaint: Complaint
) -> None:
    said = complaint("pretrain", store, "--out", tmp_path / "run", "--width", "8", "--crop", "16")
    assert "crop of 16 x 16 x 16" in said and "give --backbone.levels 3" in said
    assert not (tmp_path / "run").exists()


def test_weights_of_another_contract_are_refused(store: Path, tmp_path: Path, complaint: Complaint) -> None:
    pretrained, wide = tmp_path / "pretrained", tmp_path / "wide"
    preprocessing = Store.open(store).preprocessing
    save_weights(pretrained, UNet3D(width=8, levels=2), method="gvsl", preprocessing=preprocessing, provenance={})
    assert main(["prepare", str(tmp_path / "source"), str(wide), "--spacing", "2"]) == 0
    said = complaint("transfer", wide, "--weights", pretrained, "--mode", "linear", "--out", tmp_path / "run")
    assert "spacing" in said
    assert not (tmp_path / "run").exists()


def test_control_characters_of_a_file_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "run\x1b]0;owned\x07\x1b[2J\u202e"
    (tmp_path / "run").mkdir()
    config = {"method": evil, "mode": "linear", "weights": "scratch", "train_cases": []}
    record = {"kind": "transfer", "name": evil, "seed": 0, "config": config, "store": {"name": evil, "hash": "0"}}
    record |= {"status": "running", "format": 1}
    (tmp_path / "run" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["inspect", str(tmp_path / "run")]) == 0
    assert main(["inspect", str(tmp_path / evil)]) == 2
    said = capsys.readouterr()
    assert "\\x1b]0;owned\\x07" in said.out and "\\u202e" in said.err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said.out + said.err)
