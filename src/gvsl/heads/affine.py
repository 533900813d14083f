"""The affine head: global features of two volumes to an affine matrix (Section 3.2.1, Fig. 12 b)."""

import math

import torch
from torch import Tensor, nn

from gvsl.backbones.blocks import conv_group
from gvsl.geometry import affine_matrix

ROTATION_LIMIT = math.radians(20)
SCALE_LIMIT = 0.25
SHEAR_LIMIT = math.tan(math.radians(10))
TRANSLATION_LIMIT = 0.25
"""Fraction of each side of the volume; the other three limits are the published code's."""
INITIAL_SCALE = 1e-4
"""Standard deviation of the last layers' weights: nearly the identity, yet with a gradient for every layer below."""


class AffineHead(nn.Module):
    """Map two volumes' global features to the affine map that aligns the moving volume with the fixed one.

    A convolution group on the concatenated features, global average pooling, and four linear layers for 3 rotations,
    3 translations, 3 scales and 6 shears. The published code clamps the values, which leaves a saturated head without
    a gradient; here tanh bounds them to 20 degrees, 0.25 of a side, 0.75 to 1.25 and tan 10 degrees.

    >>> features = torch.rand(2, 16, 2, 2, 2)
    >>> AffineHead(channels=16)(features, features, shape=(32, 32, 32)).shape
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
            sides = pooled.new_tensor(shape)
            return affine_matrix(
                rotation=ROTATION_LIMIT * self.rotation(pooled).tanh(),
                translation=TRANSLATION_LIMIT * sides * self.translation(pooled).tanh(),
                scale=1 + SCALE_LIMIT * self.scale(pooled).tanh(),
                shear=SHEAR_LIMIT * self.shear(pooled).tanh(),
            )
