import pytest
import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.transfer import SegmentationNetwork
from gvsl.types import Features


class WithStatistics(UNet3D):
    """A backbone whose buffers change whenever it is run in train mode."""

    def __init__(self) -> None:
        super().__init__(width=8)
        self.norm = nn.BatchNorm3d(1)

    def forward(self, image: Tensor) -> Features:
        return super().forward(self.norm(image))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_changes_a_backbone_only_where_it_is_not_frozen(frozen: bool) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(WithStatistics(), 3, frozen=frozen)
    before = snapshot(network.backbone), snapshot(network.head)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()
    network(torch.rand(1, 1, 16, 16, 16)).square().mean().backward()
    optimiser.step()
    assert same(before[0], snapshot(network.backbone)) is frozen
    assert not same(before[1], snapshot(network.head))
    assert any(part.training for part in network.backbone.modules()) is not frozen
    assert network.head.training
    assert all(parameter.grad is None for parameter in network.backbone.parameters()) is frozen


def test_logits_are_the_head_on_the_local_features() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8), 4, kernel=1).eval()
    image = torch.rand(1, 1, 10, 12, 7)
    local = network.backbone(image).local
    expected = torch.einsum("kc,bcdhw->bkdhw", network.head.weight[:, :, 0, 0, 0], local)
    assert network.head.bias is not None
    expected += network.head.bias[None, :, None, None, None]
    assert torch.allclose(network(image), expected, atol=1e-5)


def test_bf16_features_are_close_and_leave_as_float32() -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=8).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    exact = SegmentationNetwork(backbone, 2).features(image)
    rounded = SegmentationNetwork(backbone, 2, precision="bf16").features(image)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.99
