import pytest
import torch
from torch import Tensor

from gvsl.augment import SpatialSettings, draw_spatial
from gvsl.errors import UserError
from gvsl.geometry import gaussian_smooth, nonpositive_jacobian_fraction, warp
from gvsl.losses import local_ncc_loss
from gvsl.refinement import RefinementSettings, refine

SHAPE = (24, 28, 32)
ELASTIC = SpatialSettings(rotation=0, scale=0, translation=0, shear=0, elastic=0.05)


def volumes(count: int) -> Tensor:
    """Smooth random textures."""
    return gaussian_smooth(torch.rand((count, 1, *SHAPE), generator=torch.Generator().manual_seed(0)), 1.5)


def pairs(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Volumes, the same deformed, and the fields that deformed them."""
    moving = volumes(count)
    truth = draw_spatial(count, SHAPE, ELASTIC, torch.Generator().manual_seed(1))
    return moving, warp(moving, truth, padding="border"), truth


def inner(dvf: Tensor) -> Tensor:
    return dvf[..., 4:-4, 4:-4, 4:-4]


def test_a_known_field_is_found_and_does_not_fold() -> None:
    moving, fixed, truth = pairs(2)
    found = refine(torch.zeros_like(truth), moving, fixed, RefinementSettings(steps=60))
    before = inner(truth).norm(dim=1).mean()
    after = inner(found - truth).norm(dim=1).mean()
    assert before > 1
    assert after < 0.35 * before
    assert nonpositive_jacobian_fraction(found) == 0


def test_a_true_start_stays() -> None:
    moving, fixed, truth = pairs(1)
    assert inner(refine(truth, moving, fixed) - truth).norm(dim=1).mean() < 0.6


def test_unrelated_volumes_are_left_with_a_field_that_does_not_fold() -> None:
    moving, fixed = volumes(2).chunk(2)
    found = refine(torch.zeros(1, 3, *SHAPE), moving, fixed)
    assert nonpositive_jacobian_fraction(found) < 1e-3
    assert local_ncc_loss(fixed, warp(moving, found)) < local_ncc_loss(fixed, moving)


def test_a_batch_is_what_its_pairs_are_alone() -> None:
    moving, fixed, truth = pairs(3)
    settings, start = RefinementSettings(steps=6), torch.zeros_like(truth)
    alone = torch.cat([refine(start[[i]], moving[[i]], fixed[[i]], settings) for i in range(3)])
    torch.testing.assert_close(refine(start, moving, fixed, settings), alone, rtol=0, atol=1e-2)


def test_constant_volumes_do_not_move() -> None:
    flat = torch.full((1, 1, *SHAPE), 0.5)
    assert not refine(torch.zeros(1, 3, *SHAPE), flat, flat, RefinementSettings(steps=4)).any()


def test_no_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"refinement\.steps"):
        RefinementSettings(steps=0)
