"""The network of Models Genesis as a backbone; its features are compared in tests/transfer/test_genesis_file.py."""

from pathlib import Path

import pytest
import torch

from gvsl.backbones import BackboneSettings, build_backbone
from gvsl.backbones.genesis import Genesis, published_name
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.io import UnusableFile
from gvsl.preprocessing import PRESETS

SMALL = BackboneSettings(name="genesis", width=8, levels=3)


def test_it_has_the_published_sizes() -> None:
    with torch.device("meta"):
        tensors = build_backbone(BackboneSettings(name="genesis", width=64, levels=4)).state_dict()
    shapes = {published_name(name): tuple(value.shape) for name, value in tensors.items()}
    assert len(shapes) == len(tensors) == 4 * 2 * 7 + 3 * (2 + 2 * 7)
    assert shapes["down_tr64.ops.0.conv1.weight"] == (32, 1, 3, 3, 3)
    assert shapes["down_tr512.ops.1.conv1.weight"] == (512, 256, 3, 3, 3)
    assert shapes["up_tr256.up_conv.weight"] == (512, 512, 2, 2, 2)
    assert shapes["up_tr256.ops.0.conv1.weight"] == (256, 768, 3, 3, 3)
    assert shapes["up_tr64.ops.1.bn1.running_var"] == (64,)


@torch.no_grad()
def test_odd_sides_are_halved_rounding_up() -> None:
    features = build_backbone(SMALL).eval()(torch.rand(1, 1, 9, 14, 5))
    assert features.local.shape == (1, 8, 9, 14, 5) and features.global_.shape == (1, 32, 3, 4, 2)


def test_a_single_voxel_at_the_last_level_is_refused_in_training_alone() -> None:
    backbone, image = build_backbone(SMALL), torch.rand(1, 1, 4, 3, 4)
    with pytest.raises(UnusableFile, match="4 x 3 x 4 voxels leave a single one at the last of 3 levels"):
        backbone(image)
    assert backbone.eval()(image).global_.isfinite().all()


def test_recomputed_activations_are_refused() -> None:
    with pytest.raises(UserError, match="checkpoint_activations would count every image twice"):
        build_backbone(BackboneSettings(name="genesis", width=8, levels=3, checkpoint_activations=True))


@torch.no_grad()
def test_weights_keep_the_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone, image = build_backbone(SMALL), torch.rand(2, 1, 8, 8, 8)
    backbone(image)  # in training, which moves them
    save_weights(tmp_path, backbone, method="gvsl", preprocessing=PRESETS["ct"], provenance={})
    loaded = load_backbone(tmp_path)
    assert isinstance(loaded, Genesis) and loaded.size == backbone.size
    assert torch.equal(loaded(image).local, backbone.eval()(image).local)
    backbone.state_dict()["encoder.0.0.1.running_var"][0] = -1
    save_weights(tmp_path, backbone, method="gvsl", preprocessing=PRESETS["ct"], provenance={})
    with pytest.raises(UserError, match=r"variance below 0 in encoder\.0\.0\.1\.running_var"):
        load_backbone(tmp_path)
