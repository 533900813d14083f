"""What all targets share: the contract, the refusals, and files that are whole or not there."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.export import agreement, onnx
from gvsl.export.export import TARGETS, export
from gvsl.export.reading import read_source
from gvsl.export.source import plain_network
from gvsl.preprocessing import PRESETS, parse_preprocessing
from gvsl.preprocessing.spec import Channel
from gvsl.transfer import load_adapted

from .conftest import WINDOW, MakeRun

Capture = pytest.CaptureFixture[str]


def complaint(capsys: Capture, *words: object) -> str:
    assert main(["export", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"gvsl: error: .+\n", said)
    return said


def test_the_contract_is_written_beside_the_file_and_the_check_is_printed(
    make_run: MakeRun, tmp_path: Path, capsys: Capture
) -> None:
    run = make_run("segmentation")
    assert main(["export", str(run), str(tmp_path / "out"), "--to", "torchscript"]) == 0
    entries = json.loads((tmp_path / "out" / "export.json").read_text())
    assert parse_preprocessing(entries["input"]["preprocessing"]) == PRESETS["mr"]
    assert entries["labels"]["order"] == [0, 1, 7] and entries["windows"]["crop"] == [16, 16, 16]
    figure = entries["check"]["largest_difference"]
    assert figure <= 1e-5 and f"{figure:.1e}" in capsys.readouterr().out


def test_help_names_every_target(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    assert all(target in said for target in TARGETS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--to", "onx"], "there is no target onx (did you mean onnx?)"),
        (["--to", "onnx", "--dataset", "Dataset001_A"], "--store and --dataset are for --to nnunet"),
        (["--to", "nnunet", "--dataset", "hippo"], "nnU-Net takes names such as Dataset004_Hippocampus"),
        (["--to", "nnunet"], "percentiles, which nnU-Net's plans can't express: give --store STORE"),
        (["--to", "nnunet", "--store", "nowhere"], "nowhere"),
        (["--to", "monai"], "is a pre-training run, monai takes runs of segmentation"),
        ([], "to"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], expected: str, make_run: MakeRun, tmp_path: Path, capsys: Capture
) -> None:
    run, out = make_run("pretrain"), tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    assert expected in complaint(capsys, run, out, *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_run_without_weights_or_contract_and_an_output_that_exists_are_refused(
    target: str, make_run: MakeRun, tmp_path: Path, capsys: Capture
) -> None:
    run, out = make_run("pretrain"), tmp_path / "out"
    config = run / "weights" / "config.json"
    values = json.loads(config.read_text())
    del values["preprocessing"]
    assert "exists already" in complaint(capsys, run, run, "--to", target)
    assert "name the folder of a" in complaint(capsys, tmp_path, out, "--to", target)
    config.write_text(json.dumps(values))
    assert "preprocessing" in complaint(capsys, run, out, "--to", target)
    assert not out.exists()


@pytest.mark.parametrize("target", ["nnunet", "monai"])
def test_images_of_several_channels_are_refused_where_they_can_not_be_exported(target: str, tmp_path: Path) -> None:
    channels = tuple(Channel(name, number, 2, "percentiles", 1, 99) for number, name in enumerate("AB"))
    backbone, spec = UNet3D(in_channels=2, width=8, levels=2), replace(PRESETS["mr"], channels=channels)
    save_weights(tmp_path / "run", backbone, method="gvsl", preprocessing=spec, provenance={})
    with pytest.raises(UserError, match=r"2 channels|runs of segmentation"):
        export(tmp_path / "run", tmp_path / "out", target)


def test_a_missing_package_is_named_with_the_extra(
    make_run: MakeRun, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "PACKAGES", ("torch", "no_such_package"))
    said = complaint(capsys, make_run("pretrain"), tmp_path / "out", "--to", "onnx")
    assert "needs no_such_package: pip install 'gvsl[onnx]'" in said
    assert not (tmp_path / "out").exists()


def test_a_network_that_differs_is_not_put_in_place(make_run: MakeRun, tmp_path: Path) -> None:
    source = read_source(make_run("segmentation"))
    network = plain_network(source)
    with torch.no_grad():
        network.get_parameter("head.bias").add_(0.01)
        with pytest.raises(UserError, match=r"differs .* of the largest value"):
            agreement.check(source, lambda image: [network(image)])


def test_a_failed_check_leaves_nothing(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("pretrain")
    monkeypatch.setattr(agreement, "TOLERANCE", -1.0)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="nothing was written"):
        export(run, tmp_path / "out", "torchscript")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("to", ["onnx", "torchscript", "monai", "nnunet"])
def test_a_network_that_no_target_has_is_refused(to: str, make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a genesis, which gvsl exports nowhere"):
        export(make_run("segmentation", WINDOW, name="genesis"), tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_a_file_of_weights_is_a_source_and_never_a_name_on_the_hub(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("segmentation")
    monkeypatch.chdir(run)
    source = read_source(Path("weights/model.safetensors"))  # the backbone alone
    assert source.model is None and source.backbone.width == 8
    with pytest.raises(UserError, match=r"^weights/model\.safetensors is a file: name the folder of its run$"):
        load_adapted(Path("weights/model.safetensors"))
