"""Each fault that gvsl doctor names is found where it was planted, and nothing is where none was."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gvsl.backbones import UNet3D, UNet3DSettings
from gvsl.backbones.weights import save_weights
from gvsl.cli import main
from gvsl.data import DataSettings
from gvsl.diagnosis import diagnose
from gvsl.diagnosis.activity import effective_rank
from gvsl.methods import METHODS
from gvsl.methods.deepcluster import DeepClusterSettings
from gvsl.methods.gvsl import GVSLSettings
from gvsl.preprocessing import Preprocessing
from gvsl.records import RunRecord, read_record, write_record
from gvsl.records.volumes import segmented_volume, write_arrays
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings, pretrain
from gvsl.training.pretrain import build_method
from gvsl.transfer import SegmentationNetwork
from gvsl.transfer.weights import save_adapted, segmenter_config

SETTINGS = PretrainSettings(seed=4, backbone=UNet3DSettings(width=8, levels=3), pretext=GVSLSettings())
MODEL, HEADS = "weights/model.safetensors", "weights/heads.safetensors"
Change = Callable[[dict[str, Tensor]], None]


def trained(network: nn.Module) -> nn.Module:
    """Move every parameter a little, as training does."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return network


@pytest.fixture
def pretraining(tmp_path: Path) -> Path:
    """The folder of a healthy pre-training."""
    method = build_method("gvsl", SETTINGS)
    trained(method)
    heads = {name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")}
    run = tmp_path / "run"
    save_weights(run, method.backbone, method="gvsl", preprocessing=Preprocessing(), provenance={}, heads=heads)
    config = {"method": "gvsl", **asdict(SETTINGS)}
    record = RunRecord("pretrain", "run", 4, config, {"name": "s", "hash": "00"}, status="finished")
    write_record(replace(record, metrics={"val/restoration": 0.01, "val/restoration_identity": 0.02}), run)
    return run


@pytest.fixture
def transfer(tmp_path: Path) -> Path:
    """The folder of a healthy segmentation."""
    run, generator = tmp_path / "transfer", np.random.default_rng(0)
    torch.manual_seed(1)
    network = trained(SegmentationNetwork(UNet3D(width=8, levels=2), classes=3))
    assert isinstance(network, SegmentationNetwork)
    settings = TransferSettings(mode="scratch")
    save_adapted(
        run,
        network,
        segmenter_config({1: "head", 2: "body"}, 3),
        settings=settings,
        method="x",
        preprocessing=Preprocessing(),
        provenance={},
    )
    image, label = generator.random((12, 14, 10)), np.zeros((12, 14, 10), np.uint8)
    volumes = [write_arrays(run, "volumes/best.npz", segmented_volume(image, label, label), "segmentation", "best")]
    config = {"mode": "scratch", "weights": "scratch", "method": "scratch", "task": "segmentation"}
    metrics = {"test/dice": 0.7, "test/dice/head": 0.7}
    record = RunRecord("transfer", "transfer", 1, config, {"name": "s", "hash": "00"}, status="finished")
    write_record(replace(record, metrics=metrics, cases=[{"id": "a", "dice": 0.7}], volumes=volumes), run)
    return run


def change(run: Path, file: str, how: Change) -> None:
    tensors = load_file(run / file)
    how(tensors)
    save_file(tensors, run / file)


def found(run: Path) -> list[str]:
    return [f"{finding.level}: {finding.text}" for finding in diagnose(run).findings]


def test_healthy_runs_have_no_findings(pretraining: Path, transfer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, what in ((pretraining, "noise"), (transfer, "1 of its own volumes and noise")):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert main(["doctor", str(run)]) == 0
        said = capsys.readouterr()
        assert said.out.splitlines()[1:] == ["nothing found"] and f"run on {what}:" in said.out and said.err == ""
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def nan(tensors: dict[str, Tensor]) -> None:
    next(iter(tensors.values())).view(-1)[:2] = float("nan")


def dead_channel(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.1.0.1.weight"][3] = 0


def one_sided(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.1.1.1.bias"] += 30


def no_input(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.0.0.0.weight"][:] = 0


def equal_channels(tensors: dict[str, Tensor]) -> None:
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        values = tensors[f"decoder.1.1.{name}"]
        values[:] = values[:1].clone()


@pytest.mark.parametrize(
    ("file", "fault", "words"),
    [
        (MODEL, nan, "broken: 2 values of model.safetensors not finite, in "),
        (HEADS, nan, "broken: 2 values of heads.safetensors not finite, in "),
        (MODEL, dead_channel, "broken: dead: channels that are constant, whatever the input (1 of 32 in encoder.1)"),
        (MODEL, one_sided, "caution: saturated: channels whose activation never changes its side"),
        (MODEL, no_input, "broken: blind: the global features do not depend on the input"),
        (
            MODEL,
            equal_channels,
            "broken: collapsed: the channels of the local features are nearly one (effective rank 1.0",
        ),
    ],
    ids=["nan", "nan in heads", "dead", "saturated", "blind", "collapsed"],
)
def test_a_planted_fault_of_the_weights_is_found(pretraining: Path, file: str, fault: Change, words: str) -> None:
    change(pretraining, file, fault)
    lines = found(pretraining)
    assert any(line.startswith(words) for line in lines), lines
    assert all("--" in line for line in lines)  # each names the setting
    if fault is not no_input:  # without input, all later channels are constant too
        assert len(lines) == 1


def test_a_part_that_was_not_trained_is_found(pretraining: Path) -> None:
    initial = build_method("gvsl", SETTINGS).state_dict()
    heads = load_file(pretraining / HEADS)
    part = next(name for name in heads if name.startswith("restoration")).partition(".")[0]
    back = {name: initial[name] for name in heads if name.startswith(part)}
    change(pretraining, HEADS, lambda tensors: tensors.update(back))
    (line,) = found(pretraining)
    assert line.startswith("broken: the restoration part never had a gradient, and was not trained")
    key = "encoder.0.0.0.weight"
    change(pretraining, MODEL, lambda tensors: tensors.update({key: initial[f"backbone.{key}"]}))
    assert any("1 of 20 weights of the backbone part are as initialised" in line for line in found(pretraining))


def test_the_decoder_of_a_method_that_trains_the_encoder_alone_is_no_finding(tmp_path: Path) -> None:
    settings = replace(SETTINGS, pretext=None)
    method = build_method("rotation", settings)
    trained(method.backbone.encoder)
    trained(method.get_submodule("classifier"))
    heads = {name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")}
    save_weights(
        tmp_path,
        method.backbone,
        method="rotation",
        preprocessing=Preprocessing(),
        provenance={"pretrained": ["encoder"]},
        heads=heads,
    )
    config = {"method": "rotation", **asdict(settings), "pretext": asdict(method.settings)}
    record = RunRecord("pretrain", "run", 4, config, {"name": "s", "hash": "00"}, status="finished")
    write_record(replace(record, metrics={"val/accuracy": 0.8}), tmp_path)
    assert found(tmp_path) == []


def test_an_affine_head_at_its_limits_is_found(pretraining: Path) -> None:
    record = read_record(pretraining)
    record.config["pretext"]["affine_head"] = "pooled"
    record.metrics |= {"val/affine_rotation": 19.9, "val/affine_scale": 0.1}
    write_record(record, pretraining)
    lines = found(pretraining)
    assert any("the affine head's rotation is at its limit (19.9 of 20)" in line for line in lines)
    assert any("not checked if each part was trained" in line for line in lines)  # the heads are of the other kind
    assert not any("scale" in line for line in lines)


def test_a_segmenter_that_finds_one_class_everywhere_is_found(transfer: Path) -> None:
    change(transfer, "head.safetensors", lambda tensors: tensors.update(bias=torch.tensor([0.0, 0.0, 1e4])))
    (line,) = found(transfer)
    assert line.startswith("broken: blind: it finds nothing but body in 1 volume of its own")


def test_norms_as_they_begin_are_found(transfer: Path) -> None:
    def reset(tensors: dict[str, Tensor]) -> None:
        tensors["decoder.0.0.1.weight"][:] = 1
        tensors["decoder.0.0.1.bias"][:] = 0

    change(transfer, MODEL, reset)
    (line,) = found(transfer)
    assert line.startswith("broken: 1 of 6 normalisations are as initialised") and "decoder.0.0.1" in line
    record = read_record(transfer)
    record.config["mode"] = "linear"  # a frozen backbone may well be as initialised
    write_record(record, transfer)
    assert found(transfer) == []


def test_the_findings_of_the_record_are_those_of_the_report(transfer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(transfer)
    record.metrics |= {"test/dice/body": 0.0}
    write_record(record, transfer)
    for command in ("doctor", "inspect"):
        assert main([command, str(transfer)]) == 0
        assert "structures that were found in no test case (DSC 0): body; more --max-steps" in capsys.readouterr().out


def test_a_run_that_failed_has_its_reason_and_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"method": "gvsl", "reason": "the loss is not finite"}
    write_record(RunRecord("pretrain", "run", 0, config, {"name": "s", "hash": "00"}, status="failed"), tmp_path)
    assert main(["doctor", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "by its record alone: it has no weights" in said and "failed: the run failed: the loss is not finite" in said


@pytest.mark.parametrize("broken", ["nowhere", "record", "weights"])
def test_what_can_not_be_read_is_one_line(broken: str, pretraining: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pretraining
    if broken == "nowhere":
        run = run / "nowhere"
    elif broken == "record":
        (run / "record.json").write_text(json.dumps([1]), encoding="utf-8")
    else:
        (run / MODEL).write_bytes(b"nothing")
    assert main(["doctor", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_effective_rank_of_known_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 1, 12, 12, 12, generator=generator)
    two = torch.randn(1, 1, 12, 12, 12, generator=generator)
    assert effective_rank([torch.cat([one, 5 * one, -one], 1)]) == pytest.approx(1)
    assert effective_rank([torch.cat([one, 3 * two], 1)]) == pytest.approx(2, abs=0.01)
    assert effective_rank([torch.ones(1, 3, 4, 4, 4)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_real_run_has_no_finding_about_its_weights(method: str, phantom_store: Store, tmp_path: Path) -> None:
    settings = PretrainSettings(
        backbone=UNet3DSettings(width=8, levels=3),
        data=DataSettings(batch_size=2, crop=(16, 16, 16), workers=0),
        optimiser=OptimiserSettings(learning_rate=1e-3),
        trainer=TrainerSettings(max_steps=12, device="cpu", loggers=("csv",)),
        pretext=DeepClusterSettings(clusters=2) if method == "deepcluster" else PRETEXTS[method].settings,
    )
    pretrain(phantom_store, tmp_path / "run", settings, method)
    words = ("dead", "saturated", "blind", "finite", "initialised", "gradient", "not checked if", "the channels")
    assert [line for line in found(tmp_path / "run") if any(word in line for word in words)] == []
