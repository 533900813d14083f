"""gvsl push: what the folder holds and what it must not, the card, and the Hub, which is a server on this machine."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

import gvsl
from gvsl.backbones.provenance import labels_seen
from gvsl.cli import main
from gvsl.export.reading import read_source
from gvsl.methods import METHODS
from gvsl.publication.card import described
from gvsl.publication.contract import published_provenance
from gvsl.records import read_record, write_record
from gvsl.transfer import Segmenter
from gvsl.transfer.weights import load_segmenter

from .conftest import CONTRACT, SECRET
from .hub_server import Hub

Complain = Callable[..., str]


@pytest.fixture
def complain(capsys: pytest.CaptureFixture[str]) -> Complain:
    """Push what must be refused, and return the one line."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main(["push", *map(str, words), "--licence", "mit"]) == 2
        said = capsys.readouterr()
        assert re.fullmatch(r"gvsl: error: .+\n", said.err) and said.out == "", said.err
        return said.err

    return run


def push(run: Path, *words: object) -> None:
    assert main(["push", str(run), "someone/heart", *map(str, words)]) == 0


def same_backbone(name: str | Path, run: Path) -> None:
    found, wanted = gvsl.load_backbone(name), gvsl.load_backbone(run)
    assert found.preprocessing == wanted.preprocessing == CONTRACT
    assert found.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(value, wanted.state_dict()[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize("kind", ["pretrained", "adapted"])
def test_no_name_of_a_case_a_store_or_the_machine_is_published(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Path = request.getfixturevalue(kind)
    push(run, "--out", tmp_path / "folder", *(["--hashes"] if kind == "pretrained" else []))
    files = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    for name, data in files.items():
        for secret in (SECRET, str(run), str(Path.home()), "clinic"):
            assert secret.encode() not in data, (name, secret)
    with safe_open(tmp_path / "folder" / "model.safetensors", "pt") as file:
        assert file.metadata() in (None, {"format": "pt"})
    head = {"head.json", "head.safetensors"} if kind == "adapted" else {"learnt_from.txt"}
    assert files.keys() == {"README.md", "config.json", "model.safetensors"} | head
    same_backbone(tmp_path / "folder", run)


def test_the_published_network_predicts_as_its_run(adapted: Path, tmp_path: Path) -> None:
    push(adapted, "--out", tmp_path / "folder")
    image = tmp_path / "scan.nii.gz"
    noise = np.random.default_rng(0).normal(150, 200, (12, 14, 16)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), image)
    for run, out in ((adapted, "own"), (tmp_path / "folder", "published")):
        assert main(["predict", str(run), str(image), "--out", str(tmp_path / out)]) == 0
    own, published = (np.asarray(nib.load(tmp_path / out / "scan.nii.gz").dataobj) for out in ("own", "published"))
    assert np.unique(own).size > 1
    assert np.array_equal(own, published)


def test_the_card_states_what_the_record_has(adapted: Path, pretrained: Path, tmp_path: Path) -> None:
    push(adapted, "--out", tmp_path / "a", "--licence", "cc-by-4.0", "--data", "CT <b>of</b> hearts\n# fake heading")
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    matter = yaml.safe_load(card.split("---")[1])
    assert (matter["license"], matter["pipeline_tag"]) == ("cc-by-4.0", "image-segmentation")
    assert "| DSC | 0.750 | 0.700 to 0.800 | 5 |" in card
    assert r"| DSC of head\|tail | 0.700 | 0.600 to 0.800 | 5 |" in card
    assert r"CT \<b\>of\</b\> hearts \# fake heading" in card
    assert "2 labelled cases to train on, 4 to validate on, 5 to test on" in card
    assert "values of -100 to 400 are mapped" in card and "--spacing 1.5" in card
    assert "not known that no test image was trained on" in card
    assert 'backbone = gvsl.load_backbone("someone/heart")' in card
    push(pretrained, "--out", tmp_path / "b")
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "license" not in yaml.safe_load(card.split("---")[1]) and "None stated" in card
    assert "https://arxiv.org/abs/2303.00874" in card and "Learnt from 5 images" in card
    values = [0.3 + 0.01 * number for number in range(6)]
    row = next(line for line in card.splitlines() if line.startswith("| NCC loss |")).split(" | ")
    low, high = map(float, row[2].split(" to "))
    assert float(row[1]) == pytest.approx(np.mean(values), abs=5e-4) and min(values) <= low < np.mean(values) < high
    assert "it matches" in card


def test_names_of_channels_are_no_markup(pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    config = json.loads((run / "weights" / "config.json").read_text(encoding="utf-8"))
    channel = {"name": "T1|<b>`` x", "number": 0, "count": 2, "intensity": "window", "lower": 0.0, "upper": 9.0}
    config["preprocessing"]["channels"] = [channel]
    (run / "weights" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    push(run, "--out", tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert r"| intensities of channel T1\|\<b\>\`\` x | values of 0 to 9" in card
    assert re.search(r"^```gvsl prepare SOURCE STORE .*``.*``` prepares volumes so", card, re.MULTILINE)


def test_the_card_of_a_run_without_held_out_volumes_says_so(pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    record = read_record(run)
    record.metrics = {f"pretrain/{name.removeprefix('val/')}": value for name, value in record.metrics.items()}
    write_record(record, run)
    push(run, "--out", tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert "On pairs or volumes that it was trained on, since nothing held out was measured: means" in card
    assert "Not checked on any held-out case: the figures are of pairs or volumes that it was trained on" in card
    assert "gvsl found: nothing held out was measured" in card
    assert "Checked on held-out" not in card and "On held-out" not in card


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_description_and_a_paper_for_the_card(method: str) -> None:
    what, paper = described(method)
    assert what.endswith(".") and re.search(r"\d{4}.*https://\S+$", paper)


def test_a_dry_run_shows_the_card_and_leaves_nothing(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    push(pretrained, "--dry-run")
    said = capsys.readouterr()
    assert "model.safetensors" in said.out and "## Figures" in said.out and "states no licence" in said.err
    assert sorted(tmp_path.rglob("*")) == before and hub.files == {}


def test_what_is_pushed_is_loaded_from_the_hub(
    pretrained: Path, adapted: Path, hub: Hub, complain: Complain, capsys: pytest.CaptureFixture[str]
) -> None:
    push(pretrained, "--hashes")
    assert capsys.readouterr().out == f"{hub.address}/someone/heart\n"
    assert hub.private == {"someone/heart": True}
    same_backbone("someone/heart", pretrained)
    assert gvsl.load_backbone("someone/heart").learnt_from == gvsl.load_backbone(pretrained).learnt_from
    before = dict(hub.files["someone/heart"])
    assert "give --update" in complain(adapted, "someone/heart")
    assert hub.files["someone/heart"] == before
    hub.files["someone/heart"]["figure.png"] = b"the owner's"
    push(adapted, "--update", "--public")
    assert hub.files["someone/heart"].keys() == {
        *(".gitattributes", "figure.png", "README.md", "config.json", "model.safetensors"),
        *("head.json", "head.safetensors"),
    }
    assert hub.private == {"someone/heart": True}  # as it was
    config = json.loads(hub.files["someone/heart"]["config.json"])
    assert config["method"] == "scratch"
    source = read_source(Path("someone/heart"))  # with its head
    assert isinstance(source.model, Segmenter)
    torch.testing.assert_close(source.model.network.state_dict(), load_segmenter(adapted).network.state_dict())
    assert source.name == "heart"


def test_a_public_repository_is_one_that_was_asked_for(adapted: Path, hub: Hub) -> None:
    push(adapted, "--public")
    assert hub.private == {"someone/heart": False}


def test_what_the_hub_refuses_is_one_line(
    adapted: Path, hub: Hub, complain: Complain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "does not know you" in complain(adapted, "someone/heart")
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in complain(adapted, "someone/heart")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "may not write to someone/heart" in complain(adapted, "someone/heart")
    assert hub.files == {}


def test_without_a_network_the_folder_is_the_way(
    adapted: Path, hub: Hub, complain: Complain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        said = complain(adapted, "someone/heart")
        assert "can't be reached" in said and "--out FOLDER" in said


@pytest.mark.usefixtures("offline")
def test_offline_the_folder_is_the_way(adapted: Path, hub: Hub, complain: Complain) -> None:
    assert "can't be reached" in complain(adapted, "someone/heart")


def test_without_huggingface_hub_its_extra_is_named(
    pretrained: Path, complain: Complain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    assert 'pip install "gvsl[hub]"' in complain(pretrained, "someone/heart")
    with pytest.raises(gvsl.errors.UserError, match=r"pip install \"gvsl\[hub\]\""):
        gvsl.load_backbone("someone/heart")
    push(pretrained, "--out", tmp_path / "folder")
    same_backbone(tmp_path / "folder", pretrained)


@pytest.mark.parametrize(
    "name", ["heart", "a/b/c", "../heart", "some one/heart", "someone/", "/heart", "me/a..b", "é/x"]
)
def test_a_name_that_is_not_user_and_name_is_refused(name: str, pretrained: Path, complain: Complain) -> None:
    assert "give USER/NAME" in complain(pretrained, name, "--dry-run")


def test_what_is_no_finished_run_is_refused(pretrained: Path, tmp_path: Path, complain: Complain) -> None:
    assert "holds no record.json" in complain(tmp_path, "a/b", "--dry-run")
    record = read_record(pretrained)
    write_record(record, tmp_path / "bare")
    assert "holds no model.safetensors" in complain(tmp_path / "bare", "a/b", "--dry-run")
    record.status = "failed"
    write_record(record, tmp_path / "failed")
    assert "is failed: push a finished run" in complain(tmp_path / "failed", "a/b", "--dry-run")
    (tmp_path / "there").mkdir()
    assert "exists already" in complain(pretrained, "a/b", "--out", tmp_path / "there")
    assert "leave out --dry-run" in complain(pretrained, "a/b", "--out", tmp_path / "new", "--dry-run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "failed", "there"]


def test_that_labels_were_seen_is_published_and_not_whose() -> None:
    earlier = {"labels": {"patient-7": "0123456789abcdef"}}
    found = published_provenance({"labels": {"patient-1": "f" * 16, "patient-2": "e" * 16}, "weights": earlier})
    assert found["labels"] == {f"case {number}": "not published" for number in (1, 2, 3)}
    assert labels_seen(found) == found["labels"]  # that of the earlier weights does not count twice
    assert "patient" not in str(found)
