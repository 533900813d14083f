"""Label fusion: the votes of several atlases at each voxel, weighed by how well each matches around it."""

import torch
from torch import Tensor

from gvsl.losses import box_sum, local_similarity
from gvsl.settings.propagation import Voting

WINDOW = 5
"""Side in voxels of the windows in which atlases are compared with the image."""
ERROR_POWER = 2
"""Power of the expected joint errors of two atlases, under `joint` (Wang et al.: beta)."""
RIDGE = 0.1
"""Added to the diagonal of the joint errors, relative to its mean: atlases that are alike share a weight (Wang et al.:
alpha)."""
VOXELS_AT_ONCE = 50_000
"""Voxels whose systems of equations are solved together, to bound the memory."""


def fuse(
    image: Tensor,
    atlases: Tensor,
    labels: Tensor,
    voting: Voting = "local",
    sharpness: float = 2.0,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Combine labels that several atlases carry onto an image.

    `majority` gives each atlas the same weight; `local` weighs each by its local correlation with the image, so that an
    atlas that does not match spoils nothing; `joint` also takes into account which atlases err together.

    Source of `joint`: H. Wang, J. W. Suh, S. R. Das, J. B. Pluta, C. Craige and P. A. Yushkevich. Multi-Atlas
    Segmentation with Joint Label Fusion. IEEE TPAMI 35(3) (2013). Patches are not searched: the fields are local.

    Args:
        image: (1, C, D, H, W).
        atlases: the K images, each warped onto the image's grid, (K, C, D, H, W).
        labels: their class probabilities, warped alike, (K, classes, D, H, W).
        voting: the rule.
        sharpness: power of the local similarity, under `local`.
        known: (K, 1, D, H, W), True where an atlas has a vote; by default everywhere.

    Returns:
        The votes, (1, classes, D, H, W), not negative and summing to 1, or all 0 where no atlas has one; and the local
        similarity of image and atlases, weighed alike, (1, 1, D, H, W), in [0, 1], of all where none has a vote.

    >>> image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.eye(2).view(2, 2, 1, 1, 1).expand(2, 2, 8, 8, 8)
    >>> votes, _ = fuse(image, torch.cat([image, image.flip(2)]), labels, "local")
    >>> bool((votes[:, 0] > votes[:, 1]).float().mean() > 0.9)
    True
    """
    similarity = local_similarity(image.expand_as(atlases), atlases, window=WINDOW)
    known = torch.ones_like(similarity, dtype=torch.bool) if known is None else known
    anyone = known.any(dim=0, keepdim=True)
    counted = known | ~anyone  # those whose similarity counts
    if len(atlases) == 1 or voting == "majority":
        weights = counted.to(similarity.dtype)
    elif voting == "local":
        weights = similarity.clamp(min=1e-3) ** sharpness * counted
    else:
        weights = _joint_weights(image, atlases, counted)
    weights = weights / weights.sum(dim=0, keepdim=True)
    votes = (weights * labels).sum(dim=0, keepdim=True).clamp_(min=0)
    votes = anyone * votes / votes.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return votes, (weights * similarity).sum(dim=0, keepdim=True).clamp_(0, 1)


def _joint_weights(image: Tensor, atlases: Tensor, counted: Tensor) -> Tensor:
    """Return the weights that minimise the expected error of the fused label, up to a factor, (K, 1, D, H, W).

    Atlases that don't count at a voxel, where `counted`, (K, 1, D, H, W), is False, have the weight 0 there.
    """
    count = len(atlases)
    errors = (_in_windows(atlases) - _in_windows(image)).abs()
    joint = errors.new_empty(count, count, errors[0, 0].numel())
    for first in range(count):
        for second in range(first, count):
            product = (errors[first] * errors[second]).mean(dim=0)[None, None]
            joint[first, second] = joint[second, first] = box_sum(product, WINDOW).flatten() ** ERROR_POWER
    parts = (each.split(VOXELS_AT_ONCE, dim=-1) for each in (joint, counted.flatten(1).float()))
    found = [_solve(*part) for part in zip(*parts, strict=True)]
    return torch.cat(found, dim=1).view(count, 1, *image.shape[2:])


def _solve(joint: Tensor, counted: Tensor) -> Tensor:
    """Return M^-1 1 for each voxel's matrix of joint errors and the atlases that count: (K, K, N), (K, N) to (K, N)."""
    mask = counted.T
    matrices = joint.permute(2, 0, 1) * mask[:, :, None] * mask[:, None]
    ridge = RIDGE * (matrices.diagonal(dim1=1, dim2=2).sum(dim=1) / mask.sum(dim=1)).clamp(min=1e-8)
    matrices = matrices + torch.diag_embed(ridge[:, None].expand(-1, len(joint)))
    return torch.linalg.solve(matrices, mask[:, :, None])[:, :, 0].T


def _in_windows(images: Tensor) -> Tensor:
    """Return images standardised in the window about each voxel, so that contrast and brightness do not count."""
    images = images.double()
    count = box_sum(torch.ones_like(images[:1, :1]), WINDOW)
    mean = box_sum(images, WINDOW) / count
    variance = (box_sum(images.square(), WINDOW) / count - mean.square()).clamp_(min=0)
    floor = 1e-3 * images.var(dim=(2, 3, 4), keepdim=True).clamp(min=1e-12)
    return ((images - mean) / (variance + floor).sqrt()).float()
