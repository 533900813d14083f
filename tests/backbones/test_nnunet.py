"""nnU-Net's networks as backbones: the same features as nnU-Net's own, for images of any size."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.backbones import BACKBONES, BackboneSettings, build_backbone
from gvsl.backbones.nnunet import LAST_LAYERS, NNUNetBackbone, own_name
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.io import UnusableFile
from gvsl.preprocessing import PRESETS
from gvsl.settings.backbones import NetworkSettings

pytest.importorskip("dynamic_network_architectures", reason="pip install 'gvsl[nnunet]'")

NAMES = ("resenc", "plainconv")
SETTINGS = {
    "resenc": BackboneSettings(name="resenc", width=8, levels=3, blocks=(1, 2, 1), max_width=16),
    "plainconv": BackboneSettings(name="plainconv", width=8, levels=3),
}


def make(name: str) -> NNUNetBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(SETTINGS[name]).eval()
    assert isinstance(backbone, NNUNetBackbone)
    with torch.no_grad():  # the last normalisation of a residual block starts at 0, and would hide the block
        for parameter in backbone.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    return backbone


def stock_features(backbone: NNUNetBackbone, image: Tensor) -> tuple[Tensor, Tensor]:
    """What nnU-Net's own network has before its last layer and at its last level, with the same weights."""
    stock, seen, own = backbone.stock(2).eval(), dict[str, Tensor](), backbone.state_dict()
    missing, unexpected = stock.load_state_dict(own, strict=False)
    assert not unexpected and all(own_name(name) in own or LAST_LAYERS in name for name in missing)
    stock.decoder.stages[-1].register_forward_hook(lambda _, __, output: seen.update(local=output))
    stock(image)
    return seen["local"], stock.encoder(image)[-1]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_features_are_nnunets(name: str) -> None:
    backbone, image = make(name), torch.rand(2, 1, 16, 20, 24)
    features = backbone(image)
    local, deepest = stock_features(backbone, image)
    assert torch.equal(features.local, local) and torch.equal(features.global_, deepest)
    assert torch.equal(backbone.encode(image), deepest)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_odd_sides_are_halved_rounding_up(name: str) -> None:
    backbone = make(name)
    features = backbone(torch.rand(1, 1, 9, 14, 5))
    assert features.local.shape == (1, backbone.local_channels, 9, 14, 5)
    assert features.global_.shape == (1, backbone.global_channels, 3, 4, 2)


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_is_kept_once_and_encoder_and_decoder_share_none(name: str) -> None:
    backbone = make(name)
    places = [value.data_ptr() for value in backbone.state_dict().values()]
    assert len(places) == len(set(places))
    shared = set(map(id, backbone.encoder.parameters())) & set(map(id, backbone.decoder.parameters()))
    assert not shared and backbone.stem_key in backbone.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    image, found = torch.rand(1, 1, 12, 12, 12), []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone(replace(SETTINGS[name], checkpoint_activations=checkpointed))
        backbone(image).local.square().mean().backward()
        found.append([parameter.grad for parameter in backbone.parameters()])
    assert all(one is other is None or torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_pickled_for_other_processes(name: str) -> None:
    backbone = make(name)
    again = pickle.loads(pickle.dumps(backbone))
    assert again.state_dict().keys() == backbone.state_dict().keys()


def test_a_single_voxel_at_the_last_level_is_refused() -> None:
    with pytest.raises(UnusableFile, match="4 x 3 x 4 voxels leave a single one at the last of 3 levels"):
        make("plainconv")(torch.rand(1, 1, 4, 3, 4))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_weights_record_the_network(name: str, tmp_path: Path) -> None:
    backbone, image = make(name), torch.rand(1, 1, 8, 8, 8)
    save_weights(tmp_path, backbone, method="gvsl", preprocessing=PRESETS["ct"], provenance={})
    loaded = load_backbone(tmp_path)
    assert (loaded.size, type(backbone) in type(loaded).__mro__) == (backbone.size, True)
    assert loaded.size["name"] == name and torch.equal(loaded(image).local, backbone(image).local)
    twice = load_backbone(tmp_path, in_channels=2)(image.repeat(1, 2, 1, 1, 1))
    torch.testing.assert_close(twice.local, backbone(image).local, rtol=1e-4, atol=1e-4)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    for name in NAMES:
        with pytest.raises(UserError, match=r"pip install 'gvsl\[nnunet\]'"):
            build_backbone(SETTINGS[name])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"blocks": (1, 1)}, "backbone.blocks is a setting of resenc, not of unet"),
        ({"name": "plainconv", "blocks": (1, 1)}, "backbone.blocks is a setting of resenc, not of plainconv"),
        ({"max_width": 64}, "backbone.max_width is a setting of resenc or plainconv, not of unet"),
        ({"name": "resenc", "blocks": (1, 0)}, "1 or more for each level"),
        ({"name": "resnet"}, "resnet"),
    ],
)
def test_settings_that_a_network_lacks_are_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        NetworkSettings(**values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "resenc", "blocks": (1, 1)}, "one number for each of 5 levels"),
        ({"name": "plainconv", "max_width": 16}, "max_width is 16: give 32"),
        ({"name": "resenc", "width": 12}, "multiple of 8"),
        ({"name": "resenc", "levels": 1}, "levels is 1"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        build_backbone(BackboneSettings(**values))


def test_every_backbone_is_named_in_the_settings_and_by_itself() -> None:
    names = NetworkSettings.__dataclass_fields__["name"].type
    assert set(BACKBONES) == set(names.__args__)  # type: ignore[union-attr]
    assert all(kind.name == name for name, kind in BACKBONES.items())
