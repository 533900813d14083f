"""Affine heads: global features of two volumes to an affine matrix (Section 3.2.1, Fig. 12 b)."""

import math

import torch
from torch import Tensor, nn

from gvsl.backbones.blocks import conv_group
from gvsl.geometry import affine_matrix, constants

ROTATION_LIMIT = math.radians(20)
SCALE_LIMIT = 0.25
SHEAR_LIMIT = math.tan(math.radians(10))
TRANSLATION_LIMIT = 0.25
"""Fraction of each side of the volume; the other three limits are the published code's."""
INITIAL_SCALE = 1e-4
"""Standard deviation of the last layers' weights: nearly the identity, yet with a gradient for every layer below."""
MIN_WEIGHT = 1e-3
"""Added to each key point's weight, so that flat heat maps still give a map with a gradient."""
RIDGE = 0.01
"""Weight of the identity in the least squares, relative to key points as scattered as the volume's voxels."""


class PooledAffineHead(nn.Module):
    """The paper's head: predict the 15 values of an affine map from globally pooled features.

    Pooling leaves little of where things are: on small cohorts this head gives every pair nearly the same map, which
    `KeypointAffineHead` does not (docs/results.md).

    A convolution group on the concatenated features, global average pooling, and four linear layers for 3 rotations,
    3 translations, 3 scales and 6 shears. The published code clamps the values, which leaves a saturated head without
    a gradient; here tanh bounds them to 20 degrees, 0.25 of a side, 0.75 to 1.25 and tan 10 degrees.

    >>> features = torch.rand(2, 16, 2, 2, 2)
    >>> PooledAffineHead(channels=16)(features, features, shape=(32, 32, 32)).shape
    torch.Size([2, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.group = conv_group(2 * channels, hidden)
        self.rotation = nn.Linear(hidden, 3)
        self.translation = nn.Linear(hidden, 3)
        self.scale = nn.Linear(hidden, 3)
        self.shear = nn.Linear(hidden, 6)
        for layer in (self.rotation, self.translation, self.scale, self.shear):
            nn.init.normal_(layer.weight, std=INITIAL_SCALE)
            nn.init.zeros_(layer.bias)

    def forward(self, moving: Tensor, fixed: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Predict the affine matrix, in float32 or higher.

        Args:
            moving: global features of the moving volume, (B, C, d, h, w).
            fixed: global features of the fixed volume, (B, C, d, h, w).
            shape: (D, H, W) of the volumes, which bounds the translation.

        Returns:
            (B, 4, 4), acting on voxel coordinates relative to the volume's centre.
        """
        pooled = self.group(torch.cat([moving, fixed], dim=1)).mean(dim=(2, 3, 4))
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        with torch.autocast(pooled.device.type, enabled=False):
            sides = constants(shape, pooled.dtype, pooled.device)
            return affine_matrix(
                rotation=ROTATION_LIMIT * self.rotation(pooled).tanh(),
                translation=TRANSLATION_LIMIT * sides * self.translation(pooled).tanh(),
                scale=1 + SCALE_LIMIT * self.scale(pooled).tanh(),
                shear=SHEAR_LIMIT * self.shear(pooled).tanh(),
            )


class KeypointAffineHead(nn.Module):
    """Find the same key points in two volumes, and fit the affine map between them.

    A 1x1x1 convolution turns the global features into heat maps, one per key point; a point is its map's centre of mass
    after a softmax. The affine map that takes the fixed volume's points to the moving volume's is the solution of
    weighted least squares in closed form: it depends on the pair from the first step on, and its gradient asks the
    encoder to respond with the same channel to the same anatomy in every subject. Sharper maps weigh more.

    Source: A. Q. Wang, E. M. Yu, A. V. Dalca and M. R. Sabuncu. A robust and interpretable deep learning framework for
    multi-modal registration via keypoints (KeyMorph). Medical Image Analysis 90, 2023.

    >>> features = torch.rand(2, 16, 2, 2, 2)
    >>> KeypointAffineHead(channels=16)(features, features, shape=(32, 32, 32)).allclose(torch.eye(4), atol=1e-5)
    True
    """

    def __init__(self, channels: int, keypoints: int = 64) -> None:
        super().__init__()
        self.heatmaps = nn.Conv3d(channels, keypoints, kernel_size=1)
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, moving: Tensor, fixed: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Fit the affine matrix, in float32 or higher.

        Args:
            moving: global features of the moving volume, (B, C, d, h, w).
            fixed: global features of the fixed volume, (B, C, d, h, w).
            shape: (D, H, W) of the volumes.

        Returns:
            (B, 4, 4), acting on voxel coordinates relative to the volume's centre.
        """
        with torch.autocast(moving.device.type, enabled=False):
            moving_points, moving_sharpness = self.keypoints(moving, shape)
            fixed_points, fixed_sharpness = self.keypoints(fixed, shape)
            weights = moving_sharpness * fixed_sharpness + MIN_WEIGHT
            return fit_affine(fixed_points, moving_points, weights, shape)

    def keypoints(self, features: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Return each key point's position and the sharpness of its heat map.

        Returns:
            positions, (B, K, 3), in voxels relative to the volume's centre, and sharpness, (B, K), the entropy of a
            flat map less this map's: at least 0.
        """
        heat = self.heatmaps(features.to(self.heatmaps.weight.dtype)).flatten(2) * self.log_sharpness.exp()
        log_probability = heat.log_softmax(dim=2)
        probability = log_probability.exp()
        sides = features.shape[2:]
        axes = [_cell_centres(cells, side).to(heat.device) for cells, side in zip(sides, shape, strict=True)]
        centres = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).to(heat.dtype)
        sharpness = (probability * log_probability).sum(dim=2) + math.log(math.prod(sides))
        return probability @ centres.T, sharpness.clamp(min=0)


def _cell_centres(cells: int, side: int) -> Tensor:
    """Return the centres of the cells along an axis, in voxels relative to the volume's centre.

    A cell is as many voxels long as the levels have halved the axis to, but for the last one, which ends with the axis.

    >>> _cell_centres(3, 48), _cell_centres(3, 40)
    (tensor([-16.,   0.,  16.]), tensor([-12.,   4.,  16.]))
    """
    length = 2 ** math.ceil(math.log2(side / cells))
    starts = length * torch.arange(cells, dtype=torch.float32)
    return (starts + (starts + length).clamp(max=side) - side) / 2


def fit_affine(source: Tensor, target: Tensor, weights: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the affine map that takes source points to target points with the least weighted squared error.

    A ridge holds it near the identity where the points do not determine it.

    Args:
        source: (B, K, 3), in voxels relative to the volume's centre.
        target: (B, K, 3), likewise.
        weights: (B, K), positive.
        shape: (D, H, W) of the volume, the scale of the ridge.

    Returns:
        (B, 4, 4).

    >>> points = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0)) * 10
    >>> fit_affine(points, points + 2, torch.ones(1, 20), (32, 32, 32))[0, :3, 3].round()
    tensor([2., 2., 2.])
    """
    weights = (weights / weights.sum(dim=1, keepdim=True))[..., None]
    homogeneous = torch.cat([source, torch.ones_like(source[..., :1])], dim=2)
    scatter = RIDGE * sum(side**2 for side in shape) / 36  # a box's voxels vary by a twelfth of each squared side
    ridge = torch.diag(constants([scatter, scatter, scatter, 1e-5], source.dtype, source.device))
    identity = torch.eye(4, dtype=source.dtype, device=source.device)
    weighted = (homogeneous * weights).transpose(1, 2)
    sides = weighted @ homogeneous + ridge, weighted @ target + ridge @ identity[:, :3]
    solution, _ = torch.linalg.solve_ex(*sides, check_errors=source.device.type == "cpu")  # a GPU's queue would empty
    return torch.cat([solution.transpose(1, 2), identity[3:].expand(len(source), 1, 4)], dim=1)
