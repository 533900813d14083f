"""Warping of a volume by a displacement vector field (Eq. 10)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import ALIGN_CORNERS, constants, identity_grid, normalised_grid, spatial_shape


def warp(
    image: Tensor,
    dvf: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Literal["zeros", "border"] = "zeros",
    exact: bool = True,
) -> Tensor:
    r"""Warp a volume by a displacement vector field: out(p) = image(p + dvf(p)) (Eq. 10, Appendix D.1).

    Args:
        image: (B, C, D, H, W), any values.
        dvf: (B, 3, D', H', W'), in voxels of `image`, components in axis order; the output is on its grid.
        mode: "bilinear" for images and features (trilinear in 3D), "nearest" for label maps.
        padding: value outside the volume: "zeros" (air) or the nearest voxel of the "border".
        exact: sample in float64 where the device supports it. In float32 the normalised grid alone is off by up to
            1e-7 of the volume's side, so that a zero field is not the identity. Features do not need the precision.

    Returns:
        (B, C, D', H', W'), in the image's type.

    >>> image = torch.arange(4.0).view(1, 1, 4, 1, 1)
    >>> dvf = torch.zeros(1, 3, 4, 1, 1)
    >>> dvf[:, 0] = 1  # sample one voxel further along the first axis
    >>> warp(image, dvf).flatten()
    tensor([1., 2., 3., 0.])
    """
    min_dtype = torch.float64 if exact and image.device.type != "mps" else torch.float32
    dtype = torch.promote_types(dvf.dtype, min_dtype)
    positions = identity_grid(spatial_shape(dvf), dtype=dtype, device=dvf.device) + dvf
    grid = normalised_grid(positions, spatial_shape(image))
    with torch.autocast(image.device.type, enabled=False):
        return _sample(image.to(dtype), grid, mode, padding).to(image.dtype)


def inside(dvf: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """Return the mask of voxels whose sampling points lie inside the sampled volume.

    Args:
        dvf: (B, 3, D, H, W), in voxels.
        shape: (D, H, W) of the sampled volume; by default the field's own.

    Returns:
        (B, 1, D, H, W), True where p + dvf(p) is in the volume.

    >>> inside(torch.full((1, 3, 2, 1, 1), 0.0), (1, 1, 1)).flatten()
    tensor([ True, False])
    """
    grid_shape = spatial_shape(dvf)
    positions = identity_grid(grid_shape, dtype=dvf.dtype, device=dvf.device) + dvf
    sides = [side - 1 for side in shape or grid_shape]
    last = constants(sides, positions.dtype, positions.device).view(1, 3, 1, 1, 1)
    return ((positions >= 0) & (positions <= last)).all(dim=1, keepdim=True)


def _sample(image: Tensor, grid: Tensor, mode: str, padding: str) -> Tensor:
    """Call `grid_sample` with the channels split over the CPU's threads; PyTorch itself only splits the batch."""
    batch, channels = image.shape[:2]
    # A compiled graph would break at the number of threads, which is no tensor.
    threads = 1 if image.device.type != "cpu" or torch.compiler.is_compiling() else torch.get_num_threads()
    splits = threads
    while channels % splits:
        splits -= 1
    if splits == 1 or batch >= threads:
        return functional.grid_sample(image, grid, mode, padding, ALIGN_CORNERS)
    split_image = image.reshape(batch * splits, channels // splits, *image.shape[2:])
    split_grid = grid.repeat_interleave(splits, dim=0)
    return functional.grid_sample(split_image, split_grid, mode, padding, ALIGN_CORNERS).reshape(
        batch, channels, *grid.shape[1:4]
    )
