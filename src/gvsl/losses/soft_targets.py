"""Dice and cross-entropy with soft targets, each voxel with a weight."""

import torch
from torch import Tensor

SMOOTH = 1e-5
"""Added to numerator and denominator, as MONAI's DiceLoss does."""


def soft_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the soft Dice of weighted soft targets, averaged over the structures without the background.

    It is 1 - (|p| + |q| - |p - q|) / (|p| + |q|), which equals the usual soft Dice for targets of 0 and 1, and for
    others is least where prediction and target agree; the usual one is least at 0 and 1. Source: Z. Wang, T.
    Popordanoska, J. Bertels, R. Lemmens and M. B. Blaschko. Dice Semimetric Losses: Optimizing the Dice Score with Soft
    Labels. MICCAI 2023. https://arxiv.org/abs/2303.16296

    Args:
        probabilities: (B, classes, D, H, W).
        target: (B, classes, D, H, W), not negative: probabilities times the voxel's weight, which is their sum.

    Returns:
        A scalar in [0, 1].

    >>> target = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1, 1)
    >>> f"{soft_dice_loss(target, target):.4f}"
    '0.0000'
    """
    wanted = target[:, 1:]
    expected = target.sum(dim=1, keepdim=True) * probabilities[:, 1:]
    total = (expected + wanted).flatten(2).sum(dim=2)
    apart = (expected - wanted).abs().flatten(2).sum(dim=2)
    return (1 - (total - apart + SMOOTH) / (total + SMOOTH)).mean()


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of weighted soft targets, a weighted mean over voxels: logits and target of one shape.

    >>> target = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1, 1)
    >>> f"{soft_cross_entropy(target, 3 * target):.4f}"
    '0.6931'
    """
    tiny = torch.finfo(target.dtype).tiny
    return -(target * logits.log_softmax(dim=1)).sum() / target.sum().clamp(min=tiny)
