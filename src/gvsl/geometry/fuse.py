"""Fusion of an affine map and a local field into one displacement vector field (Eq. 12, Appendix D.3)."""

from torch import Tensor

from gvsl.geometry.affine import affine_dvf, affine_positions
from gvsl.geometry.grid import identity_grid, spatial_shape
from gvsl.geometry.warp import warp
from gvsl.settings.methods import Fusion as Fusion


def fuse(matrix: Tensor, local: Tensor, fusion: Fusion = "compose") -> Tensor:
    r"""Fuse an affine map and a local field on the fixed grid into one field.

    With T the affine map about the centre and u the local field:

    - "compose": dvf(p) = T(p + u(p)) - p, the exact composition. Warping once by it samples the moving image at the
      same points as warping by the affine map and then by u, with one interpolation instead of two.
    - "paper": dvf(p) = u(T(p)) + T(p) - p (Eq. 12), which reads the local field at the affinely mapped point.

    Args:
        matrix: (B, 4, 4), from `affine_matrix`.
        local: (B, 3, D, H, W), in voxels, on the fixed image's grid.
        fusion: "compose" or "paper".

    Returns:
        (B, 3, D, H, W), in voxels.

    Raises:
        ValueError: `fusion` is neither.

    >>> import torch
    >>> local = torch.rand(1, 3, 4, 4, 4)
    >>> torch.allclose(fuse(torch.eye(4)[None], local), local, atol=1e-5)
    True
    """
    shape = spatial_shape(local)
    if fusion == "compose":
        grid = identity_grid(shape, dtype=local.dtype, device=local.device)
        return affine_positions(matrix, grid + local, shape) - grid
    if fusion == "paper":
        affine = affine_dvf(matrix, shape)
        return warp(local, affine, padding="border") + affine
    raise ValueError(f"fusion {fusion!r} is not one of compose, paper")
