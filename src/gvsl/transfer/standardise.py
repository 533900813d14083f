"""Heads that see each channel of the features at one scale."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-6
"""Of a channel that says nothing, which would else be blown up."""


class StandardisedHead(nn.Module):
    """What makes a linear map one on standardised features; it goes before the map among a head's bases.

    Each channel is centred and scaled by what the training cases have on average; until `standardise` is called
    it is taken as it comes. The map stays linear, but it can be found: channels of a trained backbone differ in
    scale by orders of magnitude, and where they do a head stops short of its optimum.
    """

    centre: Tensor
    spread: Tensor
    weight: Tensor

    def register_scale(self, channels: int) -> None:
        """Add the buffers, to be called once the map is there."""
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    @torch.no_grad()
    def standardise(self, features: Iterable[Tensor]) -> None:
        """Take each channel's mean and standard deviation over all rows and voxels of (B, channels, ...) tensors."""
        count, total, squares = 0, torch.zeros_like(self.centre).double(), torch.zeros_like(self.centre).double()
        for each in features:
            values = each.transpose(0, 1).flatten(1).double()
            count += values.shape[1]
            total += values.sum(1)
            squares += values.square().sum(1)
        centre = total / count
        self.centre.copy_(centre)
        self.spread.copy_((squares / count - centre.square()).clamp_min(LEAST_VARIANCE).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """The map of the standardised features."""
        shape = (1, -1, *(1,) * (features.dim() - 2))
        mapped: Tensor = super().forward((features - self.centre.view(shape)) / self.spread.view(shape))
        return mapped
