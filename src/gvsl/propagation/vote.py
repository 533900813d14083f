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
    image: Tensor, atlases: Tensor, labels: Tensor, voting: Voting = "local", sharpness: float = 2.0
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

    Returns:
        The votes, (1, classes, D, H, W), not negative and summing to 1; and the local similarity of image and atlases,
        weighed alike, (1, 1, D, H, W), in [0, 1].

    >>> image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.eye(2).view(2, 2, 1, 1, 1).expand(2, 2, 8, 8, 8)
    >>> votes, _ = fuse(image, torch.cat([image, image.flip(2)]), labels, "local")
    >>> bool((votes[:, 0] > votes[:, 1]).float().mean() > 0.9)
    True
    """
    similarity = local_similarity(image.expand_as(atlases), atlases, window=WINDOW)
    if len(atlases) == 1 or voting == "majority":
        weights = torch.full_like(similarity, 1 / len(atlases))
    elif voting == "local":
        weights = similarity.clamp(min=1e-3) ** sharpness
        weights = weights / weights.sum(dim=0, keepdim=True)
    else:
        weights = _joint_weights(image, atlases)
    votes = (weights * labels).sum(dim=0, keepdim=True).clamp_(min=0)
    votes = votes / votes.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return votes, (weights * similarity).sum(dim=0, keepdim=True).clamp_(0, 1)


def _joint_weights(image: Tensor, atlases: Tensor) -> Tensor:
    """Return the weights that minimise the expected error of the fused label, (K, 1, D, H, W), summing to 1."""
    count = len(atlases)
    errors = (_in_windows(atlases) - _in_windows(image)).abs()
    joint = errors.new_empty(count, count, errors[0, 0].numel())
    for first in range(count):
        for second in range(first, count):
            product = (errors[first] * errors[second]).mean(dim=0)[None, None]
            joint[first, second] = joint[second, first] = box_sum(product, WINDOW).flatten() ** ERROR_POWER
    found = [_solve(part) for part in joint.split(VOXELS_AT_ONCE, dim=2)]
    return torch.cat(found, dim=1).view(count, 1, *image.shape[2:])


def _solve(joint: Tensor) -> Tensor:
    """Return M^-1 1 / (1' M^-1 1) for each voxel's matrix of joint errors: (K, K, N) to (K, N)."""
    matrices = joint.permute(2, 0, 1)
    ridge = RIDGE * matrices.diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=1e-8)
    matrices = matrices + torch.diag_embed(ridge[:, None].expand(-1, len(joint)))
    weights = torch.linalg.solve(matrices, torch.ones_like(matrices[:, :, :1]))[:, :, 0]
    return (weights / weights.sum(dim=1, keepdim=True)).T


def _in_windows(images: Tensor) -> Tensor:
    """Return images standardised in the window about each voxel, so that contrast and brightness do not count."""
    images = images.double()
    count = box_sum(torch.ones_like(images[:1, :1]), WINDOW)
    mean = box_sum(images, WINDOW) / count
    variance = (box_sum(images.square(), WINDOW) / count - mean.square()).clamp_(min=0)
    floor = 1e-3 * images.var(dim=(2, 3, 4), keepdim=True).clamp(min=1e-12)
    return ((images - mean) / (variance + floor).sqrt()).float()
