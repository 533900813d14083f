from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from gvsl.backbones import UNet3D, UNet3DSettings, coarsest, levels_for
from gvsl.methods import GVSL, GVSLSettings


def volumes(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network() -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(width=8)


def test_the_papers_network_has_23_5_million_parameters() -> None:
    with torch.device("meta"):
        network = GVSL(UNet3D(), GVSLSettings(affine_head="pooled", deformable_head="direct"))
    assert sum(parameter.numel() for parameter in network.backbone.parameters()) == 23_538_144
    assert sum(parameter.numel() for parameter in network.parameters()) == 30_734_995


def test_the_papers_network_goes_from_32_to_512_channels_and_back() -> None:
    settings = UNet3DSettings()
    with torch.device("meta"):
        network = UNet3D(settings.in_channels, settings.width, int(settings.levels), settings.checkpoint_activations)
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv3d)]
    assert [part.out_channels for part in convolutions] == [
        *(32, 32, 64, 64, 128, 128, 256, 256, 512, 512),
        *(256, 256, 128, 128, 64, 64, 32, 32),
    ]
    assert [part.in_channels for part in convolutions[10::2]] == [512 + 256, 256 + 128, 128 + 64, 64 + 32]
    assert {part.kernel_size for part in convolutions} == {(3, 3, 3)}
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    assert [part.num_groups for part in norms] == [part.out_channels // 8 for part in convolutions]
    assert {part.negative_slope for part in network.modules() if isinstance(part, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 32, 48), (17, 5, 30), (1, 1, 1), (31, 16, 15)])
def test_any_size_passes_through(network: UNet3D, shape: tuple[int, int, int]) -> None:
    features = network(volumes(1, 1, *shape))
    bottom = [-(-side // 16) for side in shape]
    assert features.global_.shape == (1, 128, *bottom)
    assert features.local.shape == (1, 8, *shape)
    assert features.local.isfinite().all()


def test_no_plane_of_an_odd_size_is_left_out(network: UNet3D) -> None:
    image = volumes(1, 1, 17, 19, 21).requires_grad_()
    (gradient,) = torch.autograd.grad(network.encode(image).square().sum(), image)
    for axis in (2, 3, 4):
        assert gradient.transpose(0, axis).flatten(1).any(dim=1).all()


def test_other_channels_go_in(network: UNet3D) -> None:
    assert UNet3D(in_channels=3, width=8)(volumes(1, 3, 16, 16, 16)).local.shape == (1, 8, 16, 16, 16)


@pytest.mark.parametrize("shape", [(16, 32, 16), (15, 18, 16)])
def test_a_batch_is_what_its_volumes_are_alone(network: UNet3D, shape: tuple[int, int, int]) -> None:
    images = volumes(3, 1, *shape)
    together = network(images)
    for index in range(3):
        alone = network(images[[index]])
        torch.testing.assert_close(together.global_[[index]], alone.global_, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.local[[index]], alone.local, rtol=1e-4, atol=1e-4)


def test_encode_is_the_global_half(network: UNet3D) -> None:
    image = volumes(1, 1, 18, 16, 16)
    assert torch.equal(network.encode(image), network(image).global_)


def test_channels_innermost_change_nothing(network: UNet3D) -> None:
    image = volumes(1, 1, 16, 16, 32)
    expected = network(image)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    found = network(image.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found.global_, expected.global_, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.local, expected.local, rtol=1e-4, atol=1e-4)


def test_bf16_stays_near_fp32(network: UNet3D) -> None:
    image = volumes(1, 1, 32, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(image)
    assert rounded.local.dtype == torch.bfloat16
    for found, expected in zip(rounded, network(image), strict=True):
        assert (found.float() - expected).norm() < 0.05 * expected.norm()


def gradients(make: partial[UNet3D], image: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    network = make()
    features = network(image)
    (features.local.square().mean() + features.global_.square().mean()).backward()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def test_recomputed_activations_give_the_same_gradients() -> None:
    image = volumes(1, 1, 16, 16, 16)
    expected = gradients(partial(UNet3D, width=8), image)
    found = gradients(partial(UNet3D, width=8, checkpoint_activations=True), image)
    assert len(found) == len(expected) == len(list(UNet3D(width=8).parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_recomputed_activations_are_not_kept() -> None:
    kept = []
    for checkpointed in (False, True):
        network = UNet3D(width=8, checkpoint_activations=checkpointed)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: (sizes.append(tensor.numel()), tensor)[1],  # type: ignore[misc]
            lambda tensor: tensor,
        ):
            network(volumes(1, 1, 16, 16, 16))
        kept.append(sum(sizes))
    assert kept[1] < 0.4 * kept[0]


def test_no_convolution_is_computed_again() -> None:
    counts = []
    for checkpointed in (False, True):
        network = UNet3D(width=8, levels=3, checkpoint_activations=checkpointed)
        with FlopCounterMode(display=False) as counter:
            network(volumes(1, 1, 8, 8, 8)).local.sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]


def test_the_decoder_convolves_enlarged_features_and_skip_side_by_side() -> None:
    network = UNet3D(width=8, levels=2).double()
    image = volumes(1, 1, 5, 6, 7).double()
    skip, deep = network.encoder[0](image), network.encode(image)
    larger = functional.interpolate(deep, size=skip.shape[2:], mode="trilinear", align_corners=True)
    expected = network.decoder[0](torch.cat([larger, skip], dim=1))
    torch.testing.assert_close(network(image).local, expected)


@pytest.mark.parametrize("width", [0, 4, 12, -8])
def test_a_width_without_groups_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}: give a positive multiple of 8"):
        UNet3D(width=width)


def test_fewer_levels_keep_more_of_a_small_crop() -> None:
    network = UNet3D(width=8, levels=4)
    features = network(torch.rand(1, 1, 32, 48, 32))
    assert features.global_.shape == (1, 64, 4, 6, 4)
    assert features.local.shape == (1, 8, 32, 48, 32)
    assert network.global_channels == 64
    with pytest.raises(ValueError, match="levels is 1"):
        UNet3D(levels=1)


@pytest.mark.parametrize("crop", [(32, 48, 32), (16, 16, 16), (64, 24, 96), (17, 40, 33), (128, 128, 128), (5, 9, 9)])
def test_levels_for_a_crop_keep_four_voxels_along_its_shortest_side_and_one_more_would_not(
    crop: tuple[int, int, int],
) -> None:
    def bottom(levels: int) -> int:
        with torch.device("meta"):
            return min(UNet3D(width=8, levels=levels).encode(torch.empty(1, 1, *crop)).shape[2:])

    levels = levels_for(crop)
    assert (bottom(levels), bottom(levels + 1)) == (coarsest(crop, levels), coarsest(crop, levels + 1))
    assert bottom(levels + 1) < 4
    assert bottom(levels) >= 4 or levels == 2
