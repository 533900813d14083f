"""Sampling a volume where a displacement vector field says to look (Eq. 10)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import ALIGN_CORNERS, identity_grid, normalised_grid


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
        dvf: (B, 3, D', H', W') in voxels of `image`, components in axis order; the output has its grid.
        mode: "bilinear" for images and features (trilinear in 3D), "nearest" for label maps.
        padding: what lies outside the volume: "zeros" (air) or the nearest voxel of the "border".
        exact: sample in float64, where the device has it. In float32 the normalised grid alone is off by up to
            1e-7 of the volume's side, so a zero field is not the identity; features of many channels don't care.

    Returns:
        (B, C, D', H', W'), in the image's type.
    """
    shape = (image.shape[2], image.shape[3], image.shape[4])
    least = torch.float64 if exact and image.device.type != "mps" else torch.float32
    dtype = torch.promote_types(dvf.dtype, least)
    grid_shape = (dvf.shape[2], dvf.shape[3], dvf.shape[4])
    positions = identity_grid(grid_shape, dtype=dtype, device=dvf.device) + dvf
    grid = normalised_grid(positions, shape)
    with torch.autocast(image.device.type, enabled=False):
        return _sample(image.to(dtype), grid, mode, padding).to(image.dtype)


def inside(dvf: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """Where a field looks inside the volume that it samples.

    Args:
        dvf: (B, 3, D, H, W) in voxels.
        shape: (D, H, W) of the sampled volume; the field's own if it is not given.

    Returns:
        (B, 1, D, H, W), true where p + dvf(p) is in the volume.
    """
    grid_shape = (dvf.shape[2], dvf.shape[3], dvf.shape[4])
    positions = identity_grid(grid_shape, dtype=dvf.dtype, device=dvf.device) + dvf
    last = positions.new_tensor([side - 1 for side in shape or grid_shape]).view(1, 3, 1, 1, 1)
    return ((positions >= 0) & (positions <= last)).all(dim=1, keepdim=True)


def _sample(image: Tensor, grid: Tensor, mode: str, padding: str) -> Tensor:
    """`grid_sample`, with the channels split over the CPU's threads: PyTorch shares out nothing but the batch."""
    batch, channels = image.shape[:2]
    shares = torch.get_num_threads() if image.device.type == "cpu" else 1
    while channels % shares:
        shares -= 1
    if shares == 1 or batch >= torch.get_num_threads():
        return functional.grid_sample(image, grid, mode, padding, ALIGN_CORNERS)
    shared_image = image.reshape(batch * shares, channels // shares, *image.shape[2:])
    shared_grid = grid.repeat_interleave(shares, dim=0)
    return functional.grid_sample(shared_image, shared_grid, mode, padding, ALIGN_CORNERS).reshape(
        batch, channels, *grid.shape[1:4]
    )
