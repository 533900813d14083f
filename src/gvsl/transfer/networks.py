"""Backbones with a linear head on some of their features (Appendix E.3)."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.backbones import Backbone
from gvsl.backbones.convolution import SoundConv3d

VARIANCE_EPS = 1e-6
"""Lower bound of a channel's variance, so that a constant channel is not amplified."""
RIDGE = 1e-4
"""Added to the eigenvalues of the standardised inputs' covariance before whitening; cached features are float16, whose
rounding would otherwise be amplified."""
EVERY_OTHER = 2
"""Step along each axis between the positions that the covariance of a convolution's inputs is computed from."""


class StandardisedHead(nn.Module):
    """Mixin that makes a linear map one on standardised features; it precedes the map among a head's bases.

    Each channel is centred and scaled by its statistics over the training cases; before `standardise` is called it
    passes unchanged. The map stays linear, but its optimum can be reached: the channels of a trained backbone differ
    in scale by orders of magnitude, and without scaling an optimiser stops short of it.

    Between `whiten` and `fold`, `weight` is that of a map on whitened inputs: the inputs of one output, such as the
    3x3x3 neighbours of all channels, are strongly correlated, which slows an optimiser down as scales do. It is a
    change of variables: the loss as a function of `standardised_weight`, and so its optimum, is the same.
    """

    centre: Tensor
    spread: Tensor
    weight: Tensor
    whitening: Tensor | None = None
    """Whitening matrix of an output's inputs, (inputs, inputs); None if `weight` applies to standardised ones."""

    def register_scale(self, channels: int) -> None:
        """Add the buffers; to be called after the map is built."""
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    @torch.no_grad()
    def standardise(self, features: Iterable[Tensor]) -> None:
        """Set each channel's mean and standard deviation from tensors (B, channels, ...), over rows and voxels."""
        count, total, squares = 0, torch.zeros_like(self.centre).double(), torch.zeros_like(self.centre).double()
        for each in features:
            values = each.transpose(0, 1).flatten(1).double()
            count += values.shape[1]
            total += values.sum(1)
            squares += values.square().sum(1)
        centre = total / count
        self.centre.copy_(centre)
        self.spread.copy_((squares / count - centre.square()).clamp_min(VARIANCE_EPS).sqrt())

    @torch.no_grad()
    def whiten(self, features: Iterable[Tensor], ridge: float = RIDGE) -> None:
        """Start from a zero weight on whitened inputs, their covariance estimated from tensors (B, channels, ...).

        Args:
            features: those that `standardise` has seen.
            ridge: added to the eigenvalues of the covariance, which are 1 on average.
        """
        inputs = self.weight[0].numel()
        count, products = 0, torch.zeros(inputs, inputs, dtype=torch.float64, device=self.weight.device)
        for each in features:
            for rows in self._inputs(self._standardised(each)):
                count += len(rows)
                products += (rows.T @ rows).double()
        values, vectors = torch.linalg.eigh(products / count)
        self.whitening = ((vectors / (values.clamp_min(0) + ridge).sqrt()) @ vectors.T).to(self.weight.dtype)
        self.weight.zero_()

    @torch.no_grad()
    def fold(self) -> None:
        """Make `weight` one on standardised inputs again, with the same outputs."""
        self.weight.copy_(self.standardised_weight)
        self.whitening = None

    @property
    def standardised_weight(self) -> Tensor:
        """The weight on standardised inputs."""
        if self.whitening is None:
            return self.weight
        return (self.weight.flatten(1) @ self.whitening).view_as(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map of the standardised features."""
        return self._map(self._standardised(features), self.standardised_weight)

    def _standardised(self, features: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (features.dim() - 2))
        return (features - self.centre.view(shape)) / self.spread.view(shape)

    @abstractmethod
    def _map(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the linear map of features with a weight of the shape of `weight`."""

    @abstractmethod
    def _inputs(self, features: Tensor) -> Iterable[Tensor]:
        """Yield the inputs of some outputs, (outputs, inputs), in the order of `weight[0]` flattened."""


class SegmentationHead(StandardisedHead, SoundConv3d):
    """A convolution: (B, channels, D, H, W) to logits, (B, classes, D, H, W)."""

    def __init__(self, channels: int, classes: int, kernel: int) -> None:
        super().__init__(channels, classes, kernel, padding=kernel // 2)
        self.register_scale(channels)

    def _map(self, features: Tensor, weight: Tensor) -> Tensor:
        return self.convolve(features, weight, self.bias)

    def _inputs(self, features: Tensor) -> Iterable[Tensor]:
        side = self.kernel_size[0]
        patches = functional.pad(features, [side // 2] * 6)
        for axis in (2, 3, 4):
            patches = patches.unfold(axis, side, EVERY_OTHER)
        for plane in patches.unbind(2):  # one at a time: all together are as many volumes as the kernel has voxels
            yield plane.permute(0, 2, 3, 1, 4, 5, 6).flatten(3).flatten(0, 2)


class ClassificationHead(StandardisedHead, nn.Linear):
    """A linear layer: (B, channels) to a logit, (B, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)
        self.register_scale(channels)

    def _map(self, features: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(features, weight, self.bias)

    def _inputs(self, features: Tensor) -> Iterable[Tensor]:
        yield features


class AdaptedNetwork(nn.Module):
    """A backbone with a head on some of its features.

    A frozen backbone requires no gradient and stays in eval mode, so that a step changes neither its parameters nor
    its buffers. A subclass adds `head` and defines the features that it sees in `_represent`.
    """

    head: StandardisedHead

    def __init__(self, backbone: Backbone, *, frozen: bool, precision: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = frozen
        self.precision = precision
        if frozen:
            backbone.requires_grad_(False)

    @property
    def trained(self) -> nn.Module:
        """The part that training changes: the head, and the backbone unless frozen."""
        return self.head if self.frozen else self

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but a frozen backbone, which stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, image: Tensor) -> Tensor:
        """Return the features that the head sees, float32, of an image (B, in_channels, D, H, W)."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
            torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            represented = self._represent(image)
        return represented.float()

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, float32, of an image (B, in_channels, D, H, W)."""
        logits: Tensor = self.head(self.features(image))
        return logits

    @abstractmethod
    def _represent(self, image: Tensor) -> Tensor:
        """Return the backbone's features that the head takes."""


class SegmentationNetwork(AdaptedNetwork):
    """A convolution on the backbone's local features, without softmax.

    The features are (B, width, D, H, W), the logits (B, classes, D, H, W).
    """

    head: SegmentationHead

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        kernel: int = 3,
        frozen: bool = False,
        precision: str = "fp32",
    ) -> None:
        super().__init__(backbone, frozen=frozen, precision=precision)
        self.head = SegmentationHead(backbone.local_channels, classes, kernel)
        self.train()

    def _represent(self, image: Tensor) -> Tensor:
        local: Tensor = self.backbone(image).local
        return local


class ClassificationNetwork(AdaptedNetwork):
    """A linear layer on the spatial mean of the backbone's global features, without sigmoid.

    The features are (B, global_channels), the logits (B, 1). The decoder is neither run nor trained.
    """

    head: ClassificationHead

    def __init__(self, backbone: Backbone, *, frozen: bool = False, precision: str = "fp32") -> None:
        super().__init__(backbone, frozen=frozen, precision=precision)
        self.head = ClassificationHead(backbone.global_channels)
        self.train()

    def _represent(self, image: Tensor) -> Tensor:
        return self.backbone.encode(image).mean(dim=(2, 3, 4))
