"""The building blocks of the backbone and the heads (Fig. 12)."""

import torch
from torch import Tensor, nn

CHANNELS_PER_GROUP = 8
SLOPE = 0.2


def conv_group(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3x3 convolution, GroupNorm with out_channels / 8 groups and LeakyReLU 0.2 (Appendix D.2).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 8.
    """
    convolution = Convolution(in_channels, out_channels)
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE, nonlinearity="leaky_relu")
    return nn.Sequential(
        convolution,
        nn.GroupNorm(out_channels // CHANNELS_PER_GROUP, out_channels),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class SoundConv3d(nn.Conv3d):
    """A convolution whose gradient is sound in bf16 on the CPU too.

    On the CPU, PyTorch 2.13 leaves the weights' gradient of a bf16 convolution partly uninitialised where the first
    side is 2, as at the bottleneck for a crop of 32. In that case this layer computes in float32.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Convolve: (B, in_channels, D, H, W) to (B, out_channels, d, h, w)."""
        return self.convolve(features, self.weight, self.bias)

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with other weights, such as those of a part of the channels."""
        if features.device.type == "cpu" and features.shape[2] == 2:
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(features.to(weight.dtype), weight, bias)
        return self._conv_forward(features, weight, bias)


class Convolution(SoundConv3d):
    """A 3x3x3 convolution that keeps the size and whose bias starts at zero."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
