"""Whether an image is turned by right angles or mirrored against an atlas, which a refined match may hide."""

from itertools import permutations, product
from math import ceil

import torch
from torch import Tensor

from gvsl.geometry import constants, identity_grid, resize_dvf, shrink, spatial_shape, warp
from gvsl.losses import local_similarity
from gvsl.refinement import RefinementSettings, refine

FACTOR = 4
"""Factor by which the volumes are shrunk, along the axes with the smallest voxels."""
LEAST_SIDE, LARGEST_SIDE = 8, 32
"""Sides in voxels of shrunk volumes between which the factor is another; the smallest side counts first."""
REFINEMENT = RefinementSettings(steps=8, step=0.5)
"""Of each pose; a voxel of a shrunk volume is several of the volume's, so that steps are short."""
WINDOW = 5
"""Side of the similarity's windows, in shrunk voxels."""
MARGIN = 0.02
"""By how much the mean local similarity of a turned start must exceed that of those that are not."""
MIRROR_MARGIN = 0.1
"""The same for a mirrored start, which anatomy that is nearly symmetric lets come close."""
AXES = ("left-right", "back-front", "foot-head")
"""The axes of prepared volumes."""
ISOTROPIC = (1.0, 1.0, 1.0)
"""Edges of voxels that are cubes."""


@torch.no_grad()
def turned(
    moving: Tensor, fixed: Tensor, affine: Tensor | None = None, voxel: tuple[float, float, float] = ISOTROPIC
) -> str:
    """Return how an image seems to be turned or mirrored against an atlas; empty if it is neither.

    The atlas is matched coarsely and without the network from each of the 24 poses that differ by right angles, from
    its mirror image along each axis, and from the network's affine part. The image counts as turned or mirrored if such
    a start ends clearly more similar than all that are neither.

    Args:
        moving: the atlas's image, (1, C, D, H, W).
        fixed: the image, the same, of any other size.
        affine: (1, 3, D, H, W), on the fixed image's grid, in voxels about the centres of both.
        voxel: edges of a voxel of both images along each axis, in one unit.

    Returns:
        Such as "turned by 90 degrees about the foot-head axis", or "mirrored along the left-right axis".
    """
    factors = _factors(spatial_shape(fixed), voxel)
    small, target = shrink(moving.float(), factors), shrink(fixed.float(), factors)
    shape = spatial_shape(target)
    rotations = _rotations()
    poses = torch.cat([rotations, _mirrors()])
    edges = torch.tensor([edge * factor for edge, factor in zip(voxel, factors, strict=True)])
    in_voxels = (poses * edges / edges[:, None]).to(target)  # a pose maps distances, not numbers of voxels
    centre, other = (_centre(spatial_shape(each), target) for each in (target, small))
    grid = identity_grid(shape, dtype=target.dtype, device=target.device)
    starts = torch.einsum("bij,jxyz->bixyz", in_voxels, (grid - centre)[0]) + other - grid
    if affine is not None:
        starts = torch.cat([starts, other - centre + resize_dvf(affine, shape)])
    small, target = (each.expand(len(starts), -1, -1, -1, -1) for each in (small, target))
    warped = warp(small, refine(starts, small, target, REFINEMENT), padding="border")
    scores = local_similarity(target, warped, window=WINDOW).mean(dim=(1, 2, 3, 4))
    unturned = torch.cat([scores[:1], scores[len(poses) :]]).max()
    others = scores[1 : len(poses)]
    margins = others.new_full(others.shape, MARGIN)
    margins[len(rotations) - 1 :] = MIRROR_MARGIN
    told = others.where(others > unturned + margins, 0)
    best = int(told.argmax())
    return _name(poses[1 + best]) if told[best] else ""


def _factors(shape: tuple[int, int, int], voxel: tuple[float, float, float]) -> list[int]:
    """Return the factor along each axis: the shrunk voxels are about cubes, where that leaves an axis enough of them.

    >>> _factors((64, 64, 64), ISOTROPIC), _factors((256, 256, 24), (0.8, 0.8, 3.0))
    ([4, 4, 4], [8, 8, 2])
    """
    relative = [edge / min(voxel) for edge in voxel]
    fewest = min(side * edge for side, edge in zip(shape, relative, strict=True))
    coarsest = max(ceil(side / LARGEST_SIDE) * edge for side, edge in zip(shape, relative, strict=True))
    wanted = max(min(FACTOR, int(fewest / LEAST_SIDE)), coarsest)
    return [max(min(round(wanted / edge), side // LEAST_SIDE), 1) for side, edge in zip(shape, relative, strict=True)]


def _centre(shape: tuple[int, int, int], like: Tensor) -> Tensor:
    return constants([(side - 1) / 2 for side in shape], like.dtype, like.device).view(1, 3, 1, 1, 1)


def _rotations() -> Tensor:
    """Return the 24 rotations by right angles, (24, 3, 3), the identity first."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = torch.diag(torch.tensor(signs))[list(order)]
            if torch.linalg.det(matrix) > 0:
                found.append(matrix)
    return torch.stack(sorted(found, key=lambda matrix: -float(matrix.trace())))


def _mirrors() -> Tensor:
    """Return the mirror image along each axis of a volume, (3, 3, 3)."""
    return torch.diag_embed(1 - 2 * torch.eye(3))


def _name(pose: Tensor) -> str:
    """Return a rotation in words, by its axis if that is one of the volume's, else without; or a mirror image."""
    if torch.linalg.det(pose) < 0:
        return f"mirrored along the {AXES[int(pose.diagonal().argmin())]} axis"
    kept = [name for name, value in zip(AXES, pose.diagonal().tolist(), strict=True) if value == 1]
    if not kept:
        return "turned about several axes"
    return f"turned by {90 if pose.trace() == 1 else 180} degrees about the {kept[0]} axis"
