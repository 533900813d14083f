"""Checkpoints of nnU-Net and nnssl: the features of the network that wrote them, and a line for what doesn't fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer.weights_file import load_weights_file

unet = pytest.importorskip("dynamic_network_architectures.architectures.unet", reason="pip install 'gvsl[nnunet]'")

COMMON = {
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}
PLAN = {"architecture_plans": {"arch_class_name": "ResEncL"}, "key_to_encoder": "encoder.stages"}


def resenc(strides: Any = (1, 2, 2), classes: int = 1) -> nn.Module:
    features, blocks = [8, 16, 24], [1, 3, 2]
    return unet.ResidualEncoderUNet(
        1,
        3,
        features,
        COMMON["conv_op"],
        **_rest(strides),
        n_blocks_per_stage=blocks,
        num_classes=classes,
        n_conv_per_stage_decoder=1,
    )


def plain(classes: int = 4) -> nn.Module:
    return unet.PlainConvUNet(
        1,
        3,
        [8, 16, 32],
        COMMON["conv_op"],
        **_rest((1, 2, 2)),
        n_conv_per_stage=2,
        num_classes=classes,
        n_conv_per_stage_decoder=2,
    )


def _rest(strides: Any) -> dict[str, Any]:
    return {**{name: value for name, value in COMMON.items() if name != "conv_op"}, "strides": strides}


def save(path: Path, tensors: dict[str, Tensor], **entries: Any) -> Path:
    """Write a checkpoint as nnssl does: the network's tensors, its plan, curves."""
    curves = {"train_losses": [np.float64(0.5), np.float32(0.25)]}
    torch.save({"network_weights": tensors, "nnssl_adaptation_plan": PLAN, "logging": curves, **entries}, path)
    return path


@pytest.mark.parametrize(("make", "prefix"), [(resenc, ""), (plain, "module."), (plain, "_orig_mod.")])
def test_features_are_those_of_the_network_that_wrote_it(
    make: Callable[[], Any], prefix: str, store: Store, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, image, seen = make().eval(), torch.rand(2, 1, 16, 20, 12), list[Tensor]()
    tensors = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    backbone = load_weights_file(save(tmp_path / "checkpoint.pth", tensors), store)
    network.decoder.stages[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        network(image)
        features = backbone(image)
        torch.testing.assert_close(features.global_, network.encoder(image)[-1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.local, seen[0], rtol=1e-5, atol=1e-5)
    assert backbone.preprocessing == store.preprocessing and backbone.keys.complete


def test_an_encoder_alone_is_taken_and_its_decoder_is_random(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = resenc()
    tensors = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    path = save(tmp_path / "encoder.pth", tensors | {"projector.weight": torch.zeros(2, 2)})
    backbone = load_weights_file(path, store)
    assert backbone.provenance["pretrained"] == ["encoder"]
    said = capsys.readouterr().err
    assert "its weights are random" in said and "left out projector" in said and "neither is checked" in said


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    tensors = resenc().state_dict()
    for name, value in changes.items():
        for key in [key for key in tensors if key.endswith(name)]:
            if value is None:
                del tensors[key]
            else:
                tensors[key] = value
    return tensors


STEM = "stem.convs.0.all_modules.0.weight"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (lambda: resenc(((1, 1, 1), (1, 2, 2), (2, 2, 2))).state_dict(), r"weight \(16, 8, 1, 2, 2\) for "),
        (
            lambda: changed(
                **{"decoder.stages.1.convs.0.all_modules.0.bias": None, "stages.1.convs.0.conv.bias": None}
            ),
            r"1 missing \(decoder.stages.1.convs.0.all_modules.0.bias",
        ),
        (lambda: changed(**{STEM: torch.full((8, 1, 3, 3, 3), torch.nan)}), "NaN or infinite"),
        (lambda: changed(**{STEM: torch.zeros(8, 1)}), "has no encoder.stem"),
        (lambda: changed(**{STEM: torch.zeros(10**4, 1, 3, 3, 3)}), "no network that gvsl can build"),
        (lambda: {"module.down_tr64.ops.0.conv1.weight": torch.zeros(32, 1, 3, 3, 3)}, "but down_tr64.ops.0.conv1"),
        (dict, "as a network of nnU-Net has, but nothing"),
    ],
)
def test_what_does_not_fit_is_named(
    tensors: Callable[[], dict[str, Tensor]], expected: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected) as raised:
        load_weights_file(save(tmp_path / "checkpoint.pth", tensors()), store)
    assert "\n" not in str(raised.value)


class Executed:
    """What runs a function where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


def test_nothing_in_a_checkpoint_is_executed(store: Store, tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoint.pth", resenc().state_dict(), init_args=Executed(tmp_path / "executed"))
    with pytest.raises(UserError, match="no whole checkpoint of nnU-Net"):
        load_weights_file(path, store)
    assert not (tmp_path / "executed").exists()
    for hollow in (torch.zeros(1).expand(8, 1, 3, 3, 3), torch.empty(8, 1, 3, 3, 3, device="meta")):
        with pytest.raises(UserError, match=f"lacks values of .*{STEM}"):
            load_weights_file(save(path, changed(**{STEM: hollow})), store)
    torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match="no network_weights or state_dict"):
        load_weights_file(path, store)


def test_a_run_starts_from_the_file(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "checkpoint.pth", resenc().state_dict())
    words = ["transfer", store.path, "--weights", path, "--out", tmp_path / "run", "--device", "cpu"]
    short = ["--mode", "finetune", "--max-steps", 1, "--crop", 16]
    assert main([*map(str, words), "--width", "16"]) == 2
    assert "--width is for random weights" in capsys.readouterr().err
    assert main([*map(str, [*words, *short])]) == 0
    assert "labels seen in training: not known" in capsys.readouterr().out
    record = read_record(tmp_path / "run")
    config = record.config
    assert record.pretraining["labels"] == "not known"
    assert config["backbone"] == {"name": "resenc", "blocks": [1, 3, 2], "max_width": 24}
    assert (config["width"], config["levels"], config["method"]) == (8, 3, "nnunet")
    assert "0 missing" in config["weights_keys"]
