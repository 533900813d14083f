"""The building blocks of the backbone and the heads (Fig. 12)."""

from torch import nn

from gvsl.backbones.convolution import SoundConv3d

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


class Convolution(SoundConv3d):
    """A 3x3x3 convolution that keeps the size and whose bias starts at zero."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
