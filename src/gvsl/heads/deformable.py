"""The deformable head: local features of two volumes to a displacement field (Section 3.2.2, Fig. 12 c)."""

import torch
from torch import Tensor, nn

from gvsl.backbones.blocks import Convolution, conv_group

INITIAL_SCALE = 1e-5
"""Standard deviation of the last layer's weights, for a field close to zero at the start."""


class DeformableHead(nn.Module):
    """Map two volumes' local features to the local field: two convolution groups and a convolution.

    >>> features = torch.rand(1, 8, 6, 6, 6)
    >>> DeformableHead(channels=8)(features, features).shape
    torch.Size([1, 3, 6, 6, 6])
    """

    def __init__(self, channels: int, in_channels: int | None = None, initial_scale: float = INITIAL_SCALE) -> None:
        """Create the layers.

        Args:
            channels: of the hidden layers.
            in_channels: of all inputs together; by default those of two volumes' features.
            initial_scale: standard deviation of the last layer's weights.
        """
        super().__init__()
        inputs = 2 * channels if in_channels is None else in_channels
        self.groups = nn.Sequential(conv_group(inputs, channels), conv_group(channels, channels))
        self.field = Convolution(channels, 3)
        nn.init.normal_(self.field.weight, std=initial_scale)

    def forward(self, *features: Tensor) -> Tensor:
        """Predict the local field, in float32 or higher: bf16 would round 8 voxels to the nearest 1/16.

        Args:
            features: local features of the moving volume, affinely warped onto the fixed grid, and of the fixed volume,
                (B, C, D, H, W) each; in the pyramid with other maps of them.

        Returns:
            (B, 3, D, H, W), in voxels, on the fixed grid.
        """
        hidden = self.groups(torch.cat(features, dim=1))
        with torch.autocast(hidden.device.type, enabled=False):
            field: Tensor = self.field(hidden.to(self.field.weight.dtype))
        return field
