from collections.abc import Callable

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor
from torch.nn import functional

from gvsl.losses import soft_cross_entropy
from gvsl.losses import soft_dice_loss as dice_of_probabilities

SHAPE = (5, 4, 3)


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    return dice_of_probabilities(logits.softmax(dim=1), target)


def random(channels: int, seed: int) -> Tensor:
    return torch.randn(1, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_hard_targets_of_weight_one_give_the_usual_losses() -> None:
    logits, classes = random(3, 0), random(3, 1).argmax(dim=1, keepdim=True)
    target = functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float()
    how = {"softmax": True, "to_onehot_y": True, "include_background": False}
    dice, both = (kind(**how)(logits, classes) for kind in (DiceLoss, DiceCELoss))
    assert soft_dice_loss(logits, target).item() == pytest.approx(dice.item(), rel=1e-5)
    assert soft_cross_entropy(logits, target).item() == pytest.approx((both - dice).item(), rel=1e-5)


def test_the_losses_are_least_where_prediction_and_target_agree() -> None:
    target = random(3, 2).softmax(dim=1) * random(1, 3).sigmoid()
    right = target.log()
    assert soft_dice_loss(right, target).item() == pytest.approx(0, abs=1e-5)
    for seed in range(4, 8):
        other = right + 0.3 * random(3, seed)
        assert soft_dice_loss(other, target) > soft_dice_loss(right, target)
        assert soft_cross_entropy(other, target) > soft_cross_entropy(right, target)


@pytest.mark.parametrize("loss", [soft_dice_loss, soft_cross_entropy])
def test_a_voxel_without_weight_counts_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, target = random(3, 0), random(3, 1).softmax(dim=1)
    target[:, :, 0] = 0
    changed = logits.clone()
    changed[:, :, 0] += random(3, 2)[:, :, 0]
    assert torch.equal(loss(logits, target), loss(changed, target))
    assert torch.allclose(loss(logits[:, :, 1:], target[:, :, 1:]), loss(logits, target))


def test_nothing_is_known_of_targets_without_any_weight() -> None:
    logits = random(3, 0).requires_grad_()
    total = soft_dice_loss(logits, torch.zeros(1, 3, *SHAPE)) + soft_cross_entropy(logits, torch.zeros(1, 3, *SHAPE))
    total.backward()
    assert total.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
