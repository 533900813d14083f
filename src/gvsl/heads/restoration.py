"""The restoration head: local features to the undamaged volume (Section 3.3, Fig. 12 d)."""

from torch import Tensor, nn

from gvsl.backbones.blocks import Convolution, conv_group


class RestorationHead(nn.Module):
    """Map local features to intensities: a convolution group and a convolution.

    >>> import torch
    >>> RestorationHead(channels=8)(torch.rand(1, 8, 6, 6, 6)).shape
    torch.Size([1, 1, 6, 6, 6])
    """

    def __init__(self, channels: int, out_channels: int = 1) -> None:
        super().__init__()
        self.group = conv_group(channels, channels)
        self.intensity = Convolution(channels, out_channels)

    def forward(self, local: Tensor) -> Tensor:
        """Restore a volume: (B, C, D, H, W) to (B, out_channels, D, H, W), unbounded."""
        restored: Tensor = self.intensity(self.group(local))
        return restored
