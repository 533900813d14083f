import pytest
import torch
from torch import Tensor, nn

from gvsl.geometry import Fusion, affine_dvf, fuse, warp
from gvsl.heads import DeformableHead, PooledAffineHead, ZMatchingHead
from gvsl.types import Features

WIDTH = 8
SHAPE = (17, 20, 24)
FUSIONS: list[Fusion] = ["compose", "paper"]


def features(batch: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Features(draw(batch, 16 * WIDTH, 2, 2, 2), draw(batch, WIDTH, *SHAPE))


def moving_head(fusion: Fusion = "compose", affine: bool = True) -> ZMatchingHead:
    """A head whose last layers have weights that make voxels move by some voxels."""
    torch.manual_seed(0)
    head = ZMatchingHead(16 * WIDTH, WIDTH, affine="pooled" if affine else None, deformable="direct", fusion=fusion)
    assert isinstance(head.deformable, DeformableHead)
    nn.init.normal_(head.deformable.field.weight, std=0.05)
    if isinstance(head.affine, PooledAffineHead):
        for layer in (head.affine.rotation, head.affine.translation, head.affine.scale, head.affine.shear):
            nn.init.normal_(layer.weight, std=0.3)
    return head


def test_the_field_is_nearly_zero_at_the_start() -> None:
    torch.manual_seed(0)
    matching = ZMatchingHead(16 * WIDTH, WIDTH, affine="pooled", deformable="direct")(features(2, 1), features(2, 2))
    assert matching.dvf.shape == matching.affine.shape == matching.local.shape == (2, 3, *SHAPE)
    assert 0 < matching.dvf.abs().max() < 0.02  # voxels


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_affine_map_goes_first_and_both_are_fused(fusion: Fusion) -> None:
    head, moving, fixed = moving_head(fusion), features(1, 1), features(1, 2)
    matching = head(moving, fixed)
    assert head.affine is not None
    matrix = head.affine(moving.global_, fixed.global_, SHAPE)
    affine = affine_dvf(matrix, SHAPE)
    local = head.deformable(warp(moving.local, affine, padding="border"), fixed.local)
    assert affine.abs().max() > 1
    assert local.abs().max() > 0.1
    torch.testing.assert_close(matching.affine, affine)
    torch.testing.assert_close(matching.local, local, rtol=0, atol=1e-3)
    torch.testing.assert_close(matching.dvf, fuse(matrix, local, fusion), rtol=0, atol=1e-3)


def test_without_an_affine_head_the_local_field_is_all() -> None:
    head, moving, fixed = moving_head(affine=False), features(1, 1), features(1, 2)
    matching = head(moving, fixed)
    assert head.affine is None
    assert not matching.affine.any()
    assert torch.equal(matching.dvf, matching.local)
    assert torch.equal(matching.dvf, head.deformable(moving.local, fixed.local))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_batch_is_what_its_pairs_are_alone(fusion: Fusion) -> None:
    head, moving, fixed = moving_head(fusion), features(3, 1), features(3, 2)
    together = head(moving, fixed)
    for index in range(3):
        halves = (Features(part.global_[[index]], part.local[[index]]) for part in (moving, fixed))
        for found, expected in zip(together, head(*halves), strict=True):
            torch.testing.assert_close(found[[index]], expected, rtol=0, atol=1e-3)


def test_the_fields_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        matching = moving_head()(features(1, 1), features(1, 2))
    assert {field.dtype for field in matching} == {torch.float32}
